"""Texts on their way into a table: whatever they hold, they arrive as they are."""

import random

import pytest
from step_context import Lines

from nomaflow.connectors import spec, sql
from nomaflow.steps.directory.batch import Batch, Failures
from nomaflow.steps.directory.packing import packed
from nomaflow.steps.directory.table import Table
from nomaflow.steps.directory.target import TableSettings

TEXTS = [
    None,
    "",
    " ",
    "\x1f",
    "\x1e",
    "\x1f\x1e\x1f",
    "a\x1fb\x1ec",
    "NULL",
    "null",
    '{"a","b"}',
    "[1, 2]",
    "'; DROP TABLE texts; --",
    "\\x00\\N\\",
    "$1 :name %s ? ${env:X}",
    "line\nbreak\ttab\r",
    "é ñ 漢字 🙂 \u202e \ufeff",
    "e\u0301",
    '"quoted" `back`',
    "x" * 20_000,
]


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def target_url(request, tmp_path):
    match request.param:
        case "postgresql":
            return request.getfixturevalue("pg_url")
        case "mysql":
            return request.getfixturevalue("mariadb_url")
        case _:
            return f"sqlite:///{tmp_path}/target.db"


@pytest.fixture
async def db(target_url):
    opened = sql.open("default", spec.parse({"kind": "sql", "url": target_url}))
    await opened.execute("CREATE TABLE texts (id int PRIMARY KEY, a text, b text)")
    yield opened
    await opened.close()


async def filled(db, rows, **settings):
    failures = Failures(Lines())
    target = Table(db, TableSettings(None, "texts", ("id",), **settings), failures, Lines())
    columns = ["id", "a", "b"]
    await target.kinds(columns)
    await target.begin(columns, rehearsal=False)
    names = [f"cn={row[0]},dc=x" for row in rows]
    await target.add(Batch(names, [list(column) for column in zip(*rows, strict=True)]))
    changes = await target.apply()
    await target.end()
    assert failures.count == 0, failures.examples
    return changes


async def test_every_text_arrives_as_it_is(db):
    chance = random.Random(1)
    pairs = [(a, b) for a in TEXTS for b in TEXTS]
    rows = [(str(number), a, b) for number, (a, b) in enumerate(pairs)]
    chance.shuffle(rows)
    assert (await filled(db, rows)).inserted == len(rows)
    found = {row["id"]: (row["a"], row["b"]) for row in await db.all("SELECT * FROM texts")}
    assert found == {int(number): (a, b) for number, a, b in rows}
    again = await filled(db, rows)
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, len(rows))


async def test_any_difference_is_a_change(db):
    """Of case, of accents, of blanks at the end, of spelling in Unicode, of nothing and empty."""
    texts = ["a", "A", "á", "a ", "a\u0301", "", None, "0", "0.0"]
    for before in texts:
        await filled(db, [("1", before, "x")])
        for after in texts:
            changes = await filled(db, [("1", after, "x")])
            assert changes.updated == int(before != after), (before, after)
            await filled(db, [("1", before, "x")])


async def test_one_row_of_one_empty_text(db):
    await filled(db, [("1", "", "")])
    assert await db.all("SELECT * FROM texts") == [{"id": 1, "a": "", "b": ""}]


async def test_rows_that_are_gone_go_whatever_was_there(db):
    await filled(db, [(str(n), "x", None) for n in range(50)])
    changes = await filled(
        db, [(str(n), "x", None) for n in range(25, 75)], deletion="hard", max_delete="50%"
    )
    assert (changes.inserted, changes.unchanged, changes.deleted) == (25, 25, 25)
    ids = {row["id"] for row in await db.all("SELECT id FROM texts")}
    assert ids == set(range(25, 75))


def test_marks_are_such_that_no_value_holds_them():
    for values in (["a", None, ""], ["\x1f", "\x1e", None], [None], [""], []):
        found = packed([values])
        parts = found["c0"].split(found["apart"])[1:]
        assert [None if p == found["nothing"] else p for p in parts] == values
