"""Copies between PostgreSQL, MariaDB and SQLite: the same promises whatever stands at each end."""

import asyncio
import json
from datetime import date, datetime
from decimal import Decimal

import pytest
from copying import Pair

from nomaflow.errors import StepError

DIALECTS = ("postgresql", "mysql", "sqlite")
EVERY_PAIR = [(a, b) for a in DIALECTS for b in DIALECTS if (a, b) != ("postgresql", "postgresql")]

TABLE = {
    "postgresql": """
        CREATE TABLE goods (
            id int PRIMARY KEY, big bigint, price numeric(12, 2), ratio double precision,
            small real, name text, code varchar(20), raw bytea, day date, at timestamp(6),
            seen timestamptz, ok boolean, doc json)
    """,
    "mysql": """
        CREATE TABLE goods (
            id int PRIMARY KEY, big bigint, price decimal(12, 2), ratio double,
            small float, name longtext, code varchar(20), raw longblob, day date, at datetime(6),
            seen datetime(6), ok tinyint(1), doc json)
    """,
    "sqlite": """
        CREATE TABLE goods (
            id INTEGER PRIMARY KEY, big BIGINT, price DECIMAL(12, 2), ratio DOUBLE,
            small REAL, name TEXT, code VARCHAR(20), raw BLOB, day DATE, at TIMESTAMP,
            seen TIMESTAMP WITH TIME ZONE, ok BOOLEAN, doc JSON TEXT)
    """,
}
NAMES = [
    "id",
    "big",
    "price",
    "ratio",
    "small",
    "name",
    "code",
    "raw",
    "day",
    "at",
    "seen",
    "ok",
    "doc",
]
NASTY = "tab\t nl\n cr\r back\\slash \\N quote' \" é表😀 %s :x ;--"
ROWS = [
    {
        "id": 1, "big": 2**63 - 1, "price": Decimal("9999999999.99"), "ratio": 0.1,
        "small": 0.5, "name": NASTY, "code": "", "raw": bytes(range(256)),
        "day": date(2024, 2, 29), "at": datetime.fromisoformat("2024-02-29 23:59:59.999999"),
        "seen": "2024-03-31T01:30:00+00:00", "ok": True, "doc": '{"a":[1,null,"x\\ty"]}',
    },
    {
        "id": 2, "big": -(2**63), "price": Decimal("-0.01"), "ratio": 5e-324,
        "small": -0.25, "name": "", "code": "x" * 20, "raw": b"", "day": date(1000, 1, 1),
        "at": datetime.fromisoformat("1000-01-01"), "seen": "1999-12-31T23:59:59.5+00:00",
        "ok": False, "doc": "[]",
    },
    {name: (3 if name == "id" else None) for name in NAMES},
]  # fmt: skip


def at(dialect, row):
    """The row's values as that database is given them by a test."""
    seen = row["seen"]
    if seen and dialect == "mysql":
        seen = datetime.fromisoformat(seen).replace(tzinfo=None)
    elif seen and dialect == "postgresql":
        seen = datetime.fromisoformat(seen)
    elif seen:
        seen = datetime.fromisoformat(seen).isoformat(" ")
    return {**row, "seen": seen}


async def fill(connector, rows):
    for row in rows:
        marks = ", ".join(f":{name}" for name in NAMES)
        await connector.execute(
            f"INSERT INTO goods ({', '.join(NAMES)}) VALUES ({marks})", at(connector.dialect, row)
        )


async def read(connector, table="goods"):
    """The rows in one spelling for all three databases."""
    rows = await connector.all(f"SELECT * FROM {table} ORDER BY id")
    return [{name: neutral(name, row[name]) for name in NAMES} for row in rows]


def neutral(name, value):  # noqa: PLR0911  a line per kind of value
    if value is None:
        return None
    match name:
        case "price":
            return Decimal(str(value))
        case "day":
            return str(value)
        case "at":
            return datetime.fromisoformat(str(value))
        case "seen":
            found = datetime.fromisoformat(str(value))
            return found if found.tzinfo is None else found.astimezone(None).replace(tzinfo=None)
        case "ok":
            return bool(value)
        case "doc":
            return json.loads(value) if isinstance(value, str) else value
        case "raw":
            return bytes(value)
        case _:
            return value


@pytest.fixture
async def url_of(new_pg_url, request, tmp_path):
    count = 0

    async def make(dialect):
        nonlocal count
        count += 1
        match dialect:
            case "postgresql":
                return await new_pg_url()
            case "mysql":
                return await request.getfixturevalue("new_mariadb_url")()
            case _:
                return f"sqlite:///{tmp_path}/{count}.db"

    return make


@pytest.fixture
async def pairs(url_of):
    made = []

    async def make(source, target):
        made.append(Pair(await url_of(source), await url_of(target)))
        return made[-1]

    yield make
    for pair in made:
        await pair.close()


@pytest.fixture
def mariadb(new_mariadb_url):
    return new_mariadb_url


@pytest.mark.parametrize(("source", "target"), EVERY_PAIR)
async def test_every_pair_copies_every_kind_of_value(mariadb, pairs, source, target):
    pair = await pairs(source, target)
    await pair.ops.execute(TABLE[source])
    await fill(pair.ops, ROWS)
    expected = await read(pair.ops)
    made = await pair.copy("goods", "goods")
    assert (made.output["path"], made.output["target_rows"]) == ("created", 3)
    assert await read(pair.reports) == expected
    await pair.reports.execute("DROP TABLE goods")
    await pair.reports.execute(TABLE[target])
    first = await pair.copy("goods", "goods")
    assert first.output["inserted"] == 3
    assert await read(pair.reports) == expected
    again = await pair.copy("goods", "goods")
    assert {again.output[word] for word in ("inserted", "updated", "deleted")} == {0}, again.output
    await pair.ops.execute("DELETE FROM goods WHERE id = 2")
    await pair.ops.execute("UPDATE goods SET name = 'tab\t Changed' WHERE id = 1")
    await fill(pair.ops, [{**ROWS[1], "id": 7}])
    plan = await pair.copy("goods", "goods", dry_run=True)
    assert (plan.output["would_insert"], plan.output["would_delete"]) == (1, 1)
    third = await pair.copy("goods", "goods")
    changes = {word: third.output[word] for word in ("inserted", "updated", "deleted")}
    if third.output["path"] != "renamed":  # PostgreSQL takes a new table where most rows changed
        assert changes == {"inserted": 1, "updated": 1, "deleted": 1}
    assert await read(pair.reports) == await read(pair.ops)


@pytest.mark.parametrize(("source", "target"), EVERY_PAIR)
async def test_every_pair_appends_and_upserts(mariadb, pairs, source, target):
    pair = await pairs(source, target)
    for side, dialect in ((pair.ops, source), (pair.reports, target)):
        await side.execute(TABLE[dialect])
    await fill(pair.ops, ROWS[:2])
    await fill(pair.reports, [{**ROWS[0], "name": "old"}, ROWS[2]])
    with pytest.raises(StepError, match=r"(?i)duplicate|unique"):
        await pair.copy("goods", "goods", mode="append")
    assert (await read(pair.reports))[0]["name"] == "old"
    merged = await pair.copy("goods", "goods", mode="upsert")
    assert (merged.output["inserted"], merged.output["updated"]) == (1, 1)
    assert await read(pair.reports) == [*await read(pair.ops), (await read(pair.reports))[2]]
    assert (await pair.copy("goods", "goods", mode="upsert")).output["updated"] == 0
    await pair.reports.execute("DELETE FROM goods")
    added = await pair.copy("goods", "goods", mode="append")
    assert added.output["inserted"] == 2
    assert await read(pair.reports) == await read(pair.ops)


@pytest.mark.parametrize(("source", "target"), EVERY_PAIR)
async def test_a_failure_leaves_the_old_rows_and_nothing_else(mariadb, pairs, source, target):
    pair = await pairs(source, target)
    for side, dialect in ((pair.ops, source), (pair.reports, target)):
        await side.execute(TABLE[dialect])
        await fill(side, ROWS)
    old = await read(pair.reports)
    await pair.ops.execute("DELETE FROM goods WHERE id < 3")
    for limits, words in (
        ({"max_delete": 1}, "2 rows would vanish"),
        ({"max_delete": "50%"}, "2 rows would vanish"),
        ({"min_rows": 2}, "fewer than min_rows"),
    ):
        with pytest.raises(StepError, match=words) as caught:
            await pair.copy("goods", "goods", **limits)
        assert not caught.value.retryable
        assert await read(pair.reports) == old
    await pair.reports.execute("CREATE TABLE keyless (id int, name varchar(9))")
    with pytest.raises(StepError, match="needs a primary key") as caught:
        await pair.copy({"query": "SELECT id, name FROM goods"}, "keyless", mode="upsert")
    assert not caught.value.retryable
    await pair.reports.execute("DROP TABLE goods")
    with pytest.raises(StepError, match="min_rows"):
        await pair.copy("goods", "goods", min_rows=9)
    with pytest.raises(StepError, match="needs one") as caught:
        await pair.copy("goods", "goods", mode="append")
    assert caught.value.retryable  # another job may be about to make it


@pytest.mark.parametrize(("source", "target"), EVERY_PAIR)
async def test_a_query_a_condition_and_a_mapping(mariadb, pairs, source, target):
    pair = await pairs(source, target)
    await pair.ops.execute(TABLE[source])
    await fill(pair.ops, ROWS)
    query = {"query": "SELECT id, name AS label FROM goods WHERE id <= :most -- :no\n"}
    await pair.copy({**query, "params": {"most": 2}}, "picked", columns={"id": "id", "n": "label"})
    rows = await pair.reports.all("SELECT id, n FROM picked ORDER BY id")
    assert [dict(row) for row in rows] == [{"id": 1, "n": NASTY}, {"id": 2, "n": ""}]
    where = {"table": "goods", "where": "name = :name", "params": {"name": NASTY}}
    await pair.copy(where, "picked", columns={"id": "id", "n": "name"})
    assert await pair.reports.scalar("SELECT count(*) AS n FROM picked") == 1
    for source_end, words in (
        ({"table": "nowhere"}, "nowhere"),
        ({"query": "SELECT 1 AS id, 2 AS other"}, "has no column 'other'"),
        ({**query}, "`:most`"),
    ):
        with pytest.raises(StepError, match=words):
            await pair.copy(source_end, "picked")


@pytest.mark.parametrize("one_file", [False, True])
async def test_copies_that_all_make_one_new_sqlite_table_take_turns(tmp_path, one_file):
    target = f"sqlite:///{tmp_path}/target.db"
    source = target if one_file else f"sqlite:///{tmp_path}/source.db"
    pair = Pair(source, target)
    await pair.ops.execute("CREATE TABLE goods (id integer PRIMARY KEY, name text)")
    await pair.ops.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
        "INSERT INTO goods SELECT i, 'name ' || i FROM n"
    )
    async with asyncio.TaskGroup() as group:
        copies = [group.create_task(pair.copy("goods", "made")) for _ in range(4)]
    paths = sorted(copy.result().output["path"] for copy in copies)
    assert paths == ["created", "in_place", "in_place", "in_place"]
    assert await pair.reports.scalar("SELECT count(*) FROM made") == 5000
    await pair.close()
