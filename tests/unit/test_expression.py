"""The expression language: what it answers, and how wrong expressions are refused."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow.language import expression
from nomaflow.language.expression import ExpressionError

NOW = datetime(2026, 3, 15, 1, 2, 3, tzinfo=UTC)
DATA = {
    "params": {"n": 5, "name": "Ada", "syncType": "full"},
    "steps": {"count": {"output": {"rows": 0, "list": [3, 1, 2]}}, "fetch-page": {"status": 1}},
    "previous_step": None,
    "state": {},
    "run": {"id": "r"},
}


def evaluate(text, data=DATA):
    return expression.compile(text).evaluate(data, params={"repo": "x/y"}, now=NOW)


ANSWERS = [
    ("steps.count.output.rows > `0`", False),
    ("params.n == `5` && run.id == 'r'", True),
    ("params.n != `5` || !previous_step", True),
    ("state.last_sync || '2024-01-01T00:00:00Z'", "2024-01-01T00:00:00Z"),
    ("params.syncType == 'full' && 'active' || 'inactive'", "active"),
    ("steps.count.output.list[?@ > `1`]", [3, 2]),
    ("steps.count.output.list[-1]", 2),
    ('steps."fetch-page".status', 1),
    ("contains(['full', 'incremental'], params.syncType)", True),
    ("!params.n", False),
    ("steps.count.output.rows || 'none'", "none"),
    ("steps.count.output.rows && 'some'", 0),
    ("!params.nothing", True),
    ("!steps.count.output.rows", True),
    ("!steps.count.output.list[0] || !state.x", True),
    ("!steps.count.output.list[?@ > `5`]", True),
    ("!params.n == `false`", True),
    ("!!params.name", True),
    ("starts_with(params.name, 'A')", True),
    ("length(steps.count.output.list)", 3),
    ("lower(params.name)", "ada"),
    ("upper(params.name)", "ADA"),
    ("trim('  a ')", "a"),
    ("concat(params.name, ' ', state.nothing, params.n, `true`)", "Ada 5true"),
    ("join('-', ['a', 'b'])", "a-b"),
    ("join('-', ['a', nothing, 'b'])", "a-b"),
    ("now()", "2026-03-15T01:02:03.000Z"),
    ("date(`1700000000`)", "2023-11-14T22:13:20.000Z"),
    ("date(`1700000000000`, 'ms')", "2023-11-14T22:13:20.000Z"),
    ("date('2026-01-01T02:00:00+02:00')", "2026-01-01T00:00:00.000Z"),
    ("date('2026-01-01')", "2026-01-01T00:00:00.000Z"),
    ("date('2026-01-01T00:00:00.000001Z')", "2026-01-01T00:00:00.000001Z"),
    ("json({source: 'external-system', id: params.n})", '{"source":"external-system","id":5}'),
    ("add(params.n, `1`)", 6),
    ("sub(`1`, `3`)", -2),
    ("mul(`2`, `1.5`)", 3.0),
    ("div(`10`, `4`)", 2.5),
    ("div(`10`, `5`)", 2),
    ("ceil(div(`95`, `10`))", 10),
    ("round(`2.5`)", 3),
    ("round(`2.345`, `2`)", 2.35),
    ("int('12.7')", 12),
    ("int('abc')", None),
    ("int('1e9999999')", None),
    ("int(`1.9`)", 1),
    ("string(params.n)", "5"),
    ("string(params)", '{"n":5,"name":"Ada","syncType":"full"}'),
    ("param('repo')", "x/y"),
    ("param('nothing')", None),
    ("{a: params.n, b: [run.id]}", {"a": 5, "b": ["r"]}),
    ("sort_by(steps.count.output.list, &@)", [1, 2, 3]),
    ("steps.*.status", [1]),
    ('`{"a": [1]}`.a[0]', 1),
]


@pytest.mark.parametrize(("text", "answer"), ANSWERS)
def test_answers(text, answer):
    got = evaluate(text)
    assert got == answer
    assert type(got) is type(answer)


NULL_IN = (
    "abs(x); add(x, `1`); avg(x); ceil(x); date(x); div(`1`, x); floor(x); int(x); join(',', x);"
    "json(x); keys(x); lower(x); map(&@, x); max(x); max_by(x, &@); min(x); mul(x, x); reverse(x);"
    "round(x); sort(x); sort_by(x, &@); string(x); sub(x, x); sum(x); trim(x); upper(x); values(x)"
)


@pytest.mark.parametrize("call", NULL_IN.split(";"))
def test_null_in_gives_null_out(call):
    assert evaluate(call.strip(), {}) is None


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("length(x)", 0),
        ("contains(x, 'a')", False),
        ("contains([x], x)", True),
        ("starts_with(x, 'a')", False),
        ("ends_with('a', x)", False),
        ("concat(x, 'a')", "a"),
        ("merge(x, {a: `1`})", {"a": 1}),
        ("not_null(x, 'a')", "a"),
        ("to_string(x)", "null"),
        ("x.y[0].z", None),
    ],
)
def test_null_where_it_has_another_meaning(call, answer):
    assert evaluate(call, {}) == answer


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("params.n", True),
        ("steps.count.output.rows", False),
        ("state", False),
        ("previous_step", False),
        ("''", False),
        ("`[]`", False),
        ("'false'", True),
    ],
)
def test_truth(text, truth):
    assert expression.compile(text).is_true(DATA) is truth


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("a.b.", "it ends too early (column 5)"),
        ("(a", "it ends too early"),
        ("a b", "`b` is not expected here (column 3)"),
        ("a = `1`", "`=` is not an operator here"),
        ("a + `1`", "`+` is not an operator here; see == add()"),
        ("a ? b : c", "`?` is not an operator"),
        ("steps.fetch-page.x", "a name with a hyphen needs double quotes (column 12)"),
        ("a == 5", "a number is written between backticks: `5` (column 6)"),
        ("`foo`", "write text in single quotes: 'foo' (column 1)"),
        ("'abc", "Unclosed ' delimiter"),
        ("lowr(a)", "there is no function lowr(); did you mean lower()? (column 1)"),
        ("a && zzzzzz(b)", "there is no function zzzzzz(); known:"),
        ("lower(a, b)", "lower() takes 1 argument, not 2 (column 1)"),
        ("add(a)", "add() takes 2 arguments, not 1"),
        ("now('x')", "now() takes 0 arguments, not 1"),
        ("concat()", "concat() takes 1 or more arguments, not 0"),
        ("round(a, b, c)", "round() takes 1 to 2 arguments, not 3"),
        ('"lower"(a)', "is not expected here"),
        ("(" * 200 + "a" + ")" * 200, "nested deeper than 100"),
        ("!" * 3_000 + "a", "nested too deep"),
        (" || ".join(["a"] * 700), "nested deeper than 100"),
        ("a" * 5_000, "longer than 4000"),
        ("[@,@][]|" * 12 + "@", "copy its input 4096 times"),
        ("[@,@,@,@,@,@,@,@,@,@]|" * 4 + "@", "copy its input"),
    ],
)  # fmt: skip
def test_wrong_expressions_are_refused_with_their_column(text, why):
    with pytest.raises(ExpressionError) as refused:
        expression.compile(text)
    assert why in refused.value.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("stepz.x", "`stepz` is not known here; it may start from params, steps"),
        ("length(rows) > `0`", "`rows` is not known here"),
        ('params.n == "full"', "text is in single quotes: 'full' (column 13)"),
    ],
)
def test_a_condition_starts_from_known_names(text, why):
    with pytest.raises(ExpressionError) as refused:
        expression.compile(text, roots=expression.WHEN_ROOTS)
    assert why in refused.value.message


def test_what_an_expression_reads():
    compiled = expression.compile("steps.a.output[0].x && length(steps.b.y[?z > `1`]) || params.p")
    assert compiled.reads == {("steps", "a"), ("steps", "b"), ("params", "p")}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lower(params.n)", "lower() takes string, not number"),
        ("div(`1`, `0`)", "div(): it would divide by zero"),
        ("add('1', `2`)", "add(): str `1` is not a number"),
        ("date('soon')", "neither a time nor a Unix timestamp"),
        ("date(`1`, 'h')", "the unit must be one of s, ms"),
        ("params.n > 'a'", "it cannot be applied to this value"),
        ("round(`1`, `99`)", "0 to 30"),
        ("`9`|" + "mul(@,@)|" * 9 + "@", "mul(): the number is too big"),
        ("mul(`1e300`, `1e300`)", "mul(): the number is too big"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error(text, why):
    with pytest.raises(ExpressionError) as refused:
        evaluate(text)
    assert why in refused.value.message


def test_numbers_of_a_database_keep_their_digits():
    data = {"a": Decimal("0.1"), "b": 0.2}
    assert evaluate("add(a, b)", data) == Decimal("0.3")
    assert evaluate("round(a, `1`)", data) == Decimal("0.1")


def test_texts_do_not_grow_without_end():
    big = {"x": "y" * 1_000_000}
    with pytest.raises(ExpressionError, match="longer than"):
        evaluate("concat(" + ",".join(["x"] * 12) + ")", big)
    with pytest.raises(ExpressionError, match="longer than"):
        evaluate("json([" + ",".join(["x"] * 12) + "])", big)


def test_one_expression_for_many_rows():
    lower = expression.compile("lower(email)").bind(now=NOW)
    assert [lower({"email": text}) for text in ("A", "B")] == ["a", "b"]


@settings(max_examples=100, deadline=None)
@given(st.text("abs.[]()|&!<>=@*?:,'\"`{}0 -", max_size=25))
def test_any_text_is_an_expression_or_refused(text):
    try:
        compiled = expression.compile(text)
        compiled.evaluate(DATA, now=NOW)
    except ExpressionError:
        return
