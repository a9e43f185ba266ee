"""The table of expressions in the reference is what the language does."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nomaflow.language import expression
from nomaflow.language.expression import ExpressionError

PAGE = (Path(__file__).parents[2] / "docs/reference/substitutions.md").read_text(encoding="utf-8")
DATA = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
NOW = datetime(2026, 3, 15, 1, 2, 3, tzinfo=UTC)


def rows() -> list[list[str]]:
    table = PAGE[PAGE.index("| written elsewhere as | here | gives |") :].split("\n\n")[0]
    lines = table.splitlines()[2:]
    cells = [re.split(r" \| |^\| | \|$", line)[1:4] for line in lines]
    return [[_code(cell) for cell in row] for row in cells]


def _code(cell: str) -> str:
    """What a cell shows: `x`, or what holds backticks between double ones."""
    cell = cell.strip().replace("\\|", "|")
    return cell[3:-3] if cell.startswith("`` ") else cell[1:-1]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_row_says_what_is_so(row):
    _, here, gives = row
    got = expression.compile(here).evaluate(DATA, params={"repo": "acme/widgets"}, now=NOW)
    wanted = json.loads(gives)
    assert got == wanted
    assert isinstance(got, bool) == isinstance(wanted, bool)


def test_the_table_is_long_enough():
    assert len(rows()) >= 40


USER = {
    "id": 7,
    "email": "Ada@X.org",
    "first_name": "Ada",
    "last_name": "L",
    "active": True,
    "name": "Ada L",
    "external_id": 7,
    "status": "active",
    "metadata": "{}",
    "updated_at": "t",
}
SEED = {
    "payload": {"syncType": "full"},
    "syncId": "s1",
    "page": 2,
    "pageSize": 100,
    "startTime": "1700000000000000000",
    "lastSyncTime": None,
    "totalPages": 3,
    "totalProcessed": 100,
    "hasMore": True,
    "errors": [],
    "error": "late",
    "batchNum": 1,
    "response": {"bodyJson": {"data": [USER], "total": 250}},
    "items": [USER],
    "users": [USER],
    "context": {"page": 2, "errors": [{"page": 1}], "startTime": "1700000000000000000"},
    "completedAt": "2026-03-15T01:02:03.000Z",
    "clock": 1700000001500000000,
}
MOMENT = "2026-03-15T01:02:03.000Z"
RECORD = {
    "external_id": 7,
    "email": "ada@x.org",
    "name": "Ada L",
    "status": "active",
    "metadata": '{"source":"external-system","original_id":7,"synced_at":"' + MOMENT + '"}',
    "updated_at": MOMENT,
}
# Every expression of seed 003 that is more than a name; names are `$.a.b` there and `a.b` here.
# `$.secrets.x` is `${env:X}`, no expression. `now()` counts nanoseconds there; `clock` does here.
OF_THE_SEED = [
    ("now()", "now()", MOMENT),
    ("$.payload.syncType", "payload.syncType", "full"),
    ("RFC3339(now())", "now()", MOMENT),
    ("string($.page)", "string(page)", "2"),
    ("string($.pageSize)", "string(pageSize)", "100"),
    ("$.lastSyncTime || ''", "lastSyncTime || ''", ""),
    ("$.response.bodyJson.data", "response.bodyJson.data", [USER]),
    (
        "ceil($.response.bodyJson.total / $.pageSize)",
        "ceil(div(response.bodyJson.total, pageSize))",
        3,
    ),
    (
        "$.page < ceil($.response.bodyJson.total / $.pageSize)",
        "page < ceil(div(response.bodyJson.total, pageSize))",
        True,
    ),
    (
        "$.totalProcessed + len($.response.bodyJson.data)",
        "add(totalProcessed, length(response.bodyJson.data))",
        101,
    ),
    (
        "$.items.map(item => ({external_id: item.id, ...}))",
        (
            "items[].{external_id: id, email: lower(email), "
            "name: concat(first_name, ' ', last_name), "
            "status: if(active, 'active', 'inactive'), "
            "metadata: json({source: 'external-system', "
            "original_id: id, synced_at: now()}), updated_at: now()}"
        ),
        [RECORD],
    ),
    (
        "$.users[0] ? [$.users[0].external_id, ...] : []",
        (
            "if(users[0], [users[0].external_id, users[0].email, users[0].name, users[0].status, "
            "users[0].metadata, users[0].updated_at], `[]`)"
        ),
        [7, "Ada@X.org", "Ada L", "active", "{}", "t"],
    ),
    ("hasMore equals true", "hasMore == `true`", True),
    ("$.context.page + 1", "add(context.page, `1`)", 3),
    (
        "(now() - int($.context.startTime)) / 1000000000",
        "div(sub(clock, int(context.startTime)), `1000000000`)",
        1.5,
    ),
    ("JSON.stringify($.errors)", "json(errors)", "[]"),
    (
        "[...$.context.errors, {page: $.context.page, error: $.error, timestamp: RFC3339(now())}]",
        "[context.errors, [{page: context.page, error: error, timestamp: now()}]][]",
        [{"page": 1}, {"page": 2, "error": "late", "timestamp": MOMENT}],
    ),
    (
        "$.lastSyncTime || '2024-01-01T00:00:00Z'",
        "lastSyncTime || '2024-01-01T00:00:00Z'",
        "2024-01-01T00:00:00Z",
    ),
    ("$.currentPage + 2", "add(page, `2`)", 4),
    ("$.page < $.totalPages", "page < totalPages", True),
    (
        "[...$.context.errors, {error: $.error}]",
        "[context.errors, [{error: error}]][]",
        [{"page": 1}, {"error": "late"}],
    ),
]


@pytest.mark.parametrize(("seed", "ours", "gives"), OF_THE_SEED, ids=[r[0] for r in OF_THE_SEED])
def test_each_line_of_the_seed_has_its_expression(seed, ours, gives):
    assert expression.compile(ours).evaluate(SEED, now=NOW) == gives
    if "$" in seed or "=>" in seed:
        with pytest.raises(ExpressionError, match=r"\(column \d+\)"):
            expression.compile(seed)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("matches(a)", "matches() takes 2 arguments, not 1 (column 1)"),
        ("a && matches(b, '(x')", "pattern: this `(` is not closed (column 18)"),
        ("matches(lower(a), 'a**')", "pattern: `*` repeats nothing (column 22)"),
        ("if(a, b)", "if() takes 3 arguments, not 2 (column 1)"),
        ("a % `2`", "`%` is not an operator here; see"),
        ("items.map(i => i.id)", "(column"),
        ("[...a]", "(column"),
        ("JSON.stringify(a)", "(column"),
    ],
)
def test_what_is_written_elsewhere_is_refused_here_with_its_column(text, why):
    with pytest.raises(ExpressionError) as refused:
        expression.compile(text)
    assert why in refused.value.message


def test_patterns_that_come_from_outside():
    made = expression.compile("matches(text, pattern)")
    assert made.evaluate({"text": "abc", "pattern": "^a"}) is True
    assert made.evaluate({"text": None, "pattern": "^a"}) is False
    with pytest.raises(ExpressionError, match="is not closed"):
        made.evaluate({"text": "abc", "pattern": "(a"})
