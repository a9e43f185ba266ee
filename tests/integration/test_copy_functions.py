"""Rows of many kinds through a function of the plugins: what comes, what stays as it was."""

import copy
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from copying import Pair
from test_copy_options import calling
from workshop import working, workshop

from nomaflow.errors import StepError

KINDS = r"""
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE kinds (
        id int PRIMARY KEY, small smallint, big bigint, price numeric, exact numeric(9, 3),
        half float8, quarter real, yes bool, note text, code varchar(9), fixed char(5), raw bytea,
        day date, hour time, local timestamp(3), at timestamptz, key uuid, doc json, docb jsonb,
        span interval, net inet, range int4range, mood mood, names text[], ids uuid[],
        prices numeric(5, 2)[], nested int[], flags bool[], days date[], pos point);
    INSERT INTO kinds VALUES (
        1, -3, 9223372036854775807, 1.50, 0.100, 0.1, 0.25, true,
        E'a\tb\\N\n\r\\', '\N', 'x', '\x00ff', '2024-02-29', '23:59:59.5',
        '2024-01-01 10:00:00.5', '2024-01-01 10:00:00+02', '00000000-0000-0000-0000-000000000005',
        '{"a":  1}', '{"a": 1}', '1 mon 2 days', '10.0.0.1', '[1,5)', 'ok',
        ARRAY['a,b', NULL, '"', '\'], '{00000000-0000-0000-0000-000000000007}', '{1.10,NULL}',
        '{{1,2},{3,NULL}}', '{t,f,NULL}', '{2024-01-01}', '(1,2)');
    INSERT INTO kinds (id, price, half, quarter, yes, note, code, fixed, raw, hour, names, nested)
    VALUES (2, 'NaN', '-Infinity', '-0', false, '', '', '', '', '24:00', '{}', '{}')
"""


@pytest.fixture
async def pair(new_pg_url):
    made = Pair(await new_pg_url(), await new_pg_url())
    await made.script("ops", KINDS)
    await made.script("reports", "CREATE TYPE mood AS ENUM ('sad', 'ok')")
    yield made
    await made.close()


async def test_every_kind_passes_a_function_that_changes_nothing(pair):
    seen = []
    python = calling(lambda row: row, seen)
    for path in ("created", "in_place"):
        result = await pair.copy("kinds", "kinds", transform="m:f", python=python)
        assert (result.output["path"], result.output["updated"]) == (path, 0)
        assert await pair.sum_of("ops", "kinds") == await pair.sum_of("reports", "kinds")
    # Values made anew are the same too.
    python = calling(lambda row: {name: copy.deepcopy(row[name]) for name in reversed(row)})
    result = await pair.copy("kinds", "kinds", transform="m:f", python=python)
    assert result.output["updated"] == 0
    first = seen[0]
    wanted = {
        "price": Decimal("1.50"), "yes": True, "note": "a\tb\\N\n\r\\", "raw": b"\x00\xff",
        "day": date(2024, 2, 29), "local": datetime.fromisoformat("2024-01-01 10:00:00.5"),
        "at": datetime(2024, 1, 1, 8, tzinfo=UTC), "key": UUID(int=5), "doc": '{"a":  1}',
        "span": "1 mon 2 days", "mood": "ok", "names": ["a,b", None, '"', "\\"],
        "ids": [UUID(int=7)], "prices": [Decimal("1.10"), None], "nested": [[1, 2], [3, None]],
        "flags": [True, False, None],
        "days": "{2024-01-01}",
    }  # fmt: skip
    assert {name: first[name] for name in wanted} == wanted
    assert seen[1]["hour"] == timedelta(hours=24)
    assert str(first["price"]) == "1.50"


async def test_what_the_function_touches_is_spelled_anew_beside_what_it_does_not(pair):
    await pair.script(
        "ops",
        r"CREATE TABLE many AS SELECT g AS id, E'tab\t' || g AS note, g / 4.0 AS price, "
        r"CASE WHEN g % 3 = 0 THEN NULL ELSE g END AS n FROM generate_series(1, 20000) g",
    )

    def change(row):
        if row["id"] % 7 == 0:
            return None
        if row["id"] % 2:
            row["note"] += "\\!\n"
        row["n"] = None if row["n"] is None else row["n"] + 1
        return row

    result = await pair.copy("many", "many", transform="m:f", python=calling(change))
    assert result.output["rows_dropped"] == 20000 // 7
    assert result.output["target_rows"] == 20000 - 20000 // 7
    wanted = r"""
        SELECT id, note || CASE WHEN id % 2 = 1 THEN E'\\!\n' ELSE '' END AS note, price,
               n + 1 AS n
        FROM many WHERE id % 7 <> 0 ORDER BY id
    """
    came = await pair.reports.all("SELECT id, note, price, n FROM many ORDER BY id")
    want = await pair.ops.all(wanted)
    assert came == want


async def test_source_and_target_may_be_one_connector(pair):
    await pair.script("ops", "CREATE TABLE copied (id int PRIMARY KEY, note text)")
    for mode in ("overwrite", "append"):
        await pair.script("ops", "DELETE FROM copied")
        await pair.copy(
            "kinds",
            {"connector": "ops", "table": "copied"},
            mode=mode,
            transform="m:f",
            python=calling(lambda row: {"id": row["id"], "note": row["mood"]}),
        )
        rows = await pair.ops.all("SELECT * FROM copied ORDER BY id")
        assert rows == [{"id": 1, "note": "ok"}, {"id": 2, "note": None}]


async def test_a_dry_run_calls_the_function_and_writes_nothing(pair):
    await pair.copy("kinds", "kinds")
    plan = await pair.copy(
        {"table": "kinds", "where": "id = 1"},
        "kinds",
        dry_run=True,
        transform="m:f",
        python=calling(lambda row: {"id": row["id"] + 5}),
    )
    told = {name: plan.output[name] for name in ("would_insert", "would_delete", "source_rows")}
    assert told == {"would_insert": 1, "would_delete": 2, "source_rows": 1}
    assert await pair.reports.scalar("SELECT count(*) FROM kinds") == 2


async def test_a_source_that_fails_under_way_is_the_one_to_tell(pair):
    await pair.copy("kinds", "kinds")
    before = await pair.sum_of("reports", "kinds")
    query = (
        "SELECT 1 / (15000 - g) AS id, repeat('x', 200) AS note FROM generate_series(1, 20000) g"
    )
    with pytest.raises(StepError, match="division by zero"):
        await pair.copy({"query": query}, "kinds", transform="m:f", python=calling(lambda row: row))
    assert await pair.sum_of("reports", "kinds") == before


async def test_a_number_of_sqlite_too_big_for_its_column_is_named(new_pg_url, tmp_path):
    pair = Pair(f"sqlite:///{tmp_path}/s.db", await new_pg_url())
    for statement in (
        "CREATE TABLE t (id INTEGER, n INTEGER)",
        "INSERT INTO t VALUES (1, 2), (2, 3000000000)",
    ):
        await pair.ops.execute(statement)
    await pair.script("reports", "CREATE TABLE t (id int, n int)")
    for mode in ("append", "overwrite"):
        with pytest.raises(StepError, match=r"'n'.*3000000000|3000000000.*'n'"):
            await pair.copy("t", "t", mode=mode)
    assert await pair.reports.scalar("SELECT count(*) FROM t") == 0
    await pair.close()


async def test_a_function_gets_times_of_mariadb_as_times(new_mariadb_url, new_pg_url):
    pair = Pair(await new_mariadb_url(), await new_pg_url())
    for statement in (
        "CREATE TABLE t (id int PRIMARY KEY, day date, hour time(1), at datetime, ok tinyint(1))",
        (
            "INSERT INTO t VALUES (1, '2024-02-29', '-100:00:00.5', '2024-01-01 10:00', 1), "
            "(2, NULL, '10:00', NULL, 0)"
        ),
    ):
        await pair.ops.execute(statement)
    await pair.script(
        "reports",
        "CREATE TABLE t (id int PRIMARY KEY, day date, hour interval, at timestamp, ok bool)",
    )
    seen = []
    await pair.copy("t", "t", transform="m:f", python=calling(lambda row: row, seen))
    assert seen[0] == {
        "id": 1,
        "day": date(2024, 2, 29),
        "hour": -timedelta(hours=100, seconds=0.5),
        "at": datetime.fromisoformat("2024-01-01 10:00"),
        "ok": True,
    }
    rows = await pair.reports.all("SELECT day::text, hour::text, ok FROM t ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        ("2024-02-29", "-100:00:00.5", True),
        (None, "10:00:00", False),
    ]
    await pair.close()


JOB = """
[[jobs]]
name = "copy"
[[jobs.steps]]
name = "rows"
type = "sql_copy"
transform = "clean:small"
target = { connector = "default", table = "cleaned" }
[jobs.steps.source]
connector = "default"
query = "SELECT g AS id, 'n' || g AS name FROM generate_series(1, 20000) g"
"""
CLEAN = """
print("imported")
rows = 0
def small(row):
    global rows
    rows += 1
    if row["id"] == 15_001 and "fail" in FLAGS:
        raise ValueError("no such name")
    return {"id": row["id"], "name": row["name"].upper()} if row["id"] % 2 else None
FLAGS = set()
"""


async def test_a_worker_runs_the_function_in_one_child_and_names_the_row(
    database_url, redis_url, tmp_path
):
    async with workshop(database_url, redis_url, tmp_path / "project") as shop:
        await shop.declare(JOB, **{"plugins__clean.py": CLEAN})
        async with working(shop):
            run = await shop.run("copy", seconds=60)
            assert run["status"] == "succeeded"
            assert run["rows_affected"] == 10_000
            assert sum("imported" in line for line in await shop.lines(run["id"])) == 1
            failing = CLEAN.replace("FLAGS = set()", 'FLAGS = {"fail"}')
            await shop.declare(JOB, **{"plugins__clean.py": failing})
            run = await shop.run("copy", seconds=60)
            assert run["status"] == "failed"
            assert any("no such name (row 15001)" in line for line in await shop.lines(run["id"]))
