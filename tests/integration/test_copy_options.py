"""Rows changed on the way: a function of the plugins, the rules of jde, blanks cut off."""

import hashlib
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from copying import Pair

from nomaflow.errors import Failure, FunctionError, StepError
from nomaflow.steps.copying.function.calling import Calling

CUSTOMERS = """
    CREATE TABLE customers (id int PRIMARY KEY, name text, spent numeric(12, 2), at timestamptz,
                            tags text[], doc jsonb, day date, raw bytea, hour time);
    INSERT INTO customers
    SELECT g, 'name ' || g, g * 1.25, '2024-01-01Z'::timestamptz + g * interval '1 h',
        ARRAY['a', NULL, 'b,"c"'], '{"n": 1.10}', date '2024-01-01' + g, '\\x00ff', '10:00'
    FROM generate_series(1, 50) g
"""


NOON = datetime.fromisoformat("2024-01-01 12:00")


@pytest.fixture
async def pair(new_pg_url):
    made = Pair(await new_pg_url(), await new_pg_url())
    await made.script("ops", CUSTOMERS)
    yield made
    await made.close()


def calling(function, seen=None):
    """A child process as far as a test needs one: the same rows and words both ways."""

    def called(row):
        if seen is not None:
            seen.append(dict(row))
        return function(row)

    async def call(request):
        talk = request.rows

        async def ask(made):
            return json.loads(json.dumps(await talk.wanted(json.loads(json.dumps(made)))))

        given = json.loads(json.dumps(talk.given()))
        calling = Calling(request.callable, called, given, ask)
        async for portion in talk.portions():
            await talk.answered(await calling.answer(portion))

    return call


async def test_a_function_that_changes_nothing_changes_nothing(pair):
    seen = []
    python = calling(lambda row: row, seen)
    for path in ("created", "in_place"):
        result = await pair.copy("customers", "customers", transform="a.b:c", python=python)
        assert (result.output["path"], result.output["rows_dropped"]) == (path, 0)
        assert await pair.sum_of("ops", "customers") == await pair.sum_of("reports", "customers")
    first = seen[0]
    assert (first["spent"], first["day"]) == (Decimal("1.25"), date(2024, 1, 2))
    assert first["at"] == datetime(2024, 1, 1, 1, tzinfo=UTC)
    assert (first["tags"], first["raw"], first["hour"]) == (
        ["a", None, 'b,"c"'],
        b"\0\xff",
        time(10),
    )


async def test_a_function_changes_renames_and_drops_rows(pair):
    await pair.script(
        "reports",
        "CREATE TABLE c (id int PRIMARY KEY, label varchar(20), cents int, extra text DEFAULT 'x')",
    )

    def change(row):
        if row["id"] % 2:
            return None
        return {"id": row["id"], "label": row["name"].upper(), "cents": row["spent"] * 100}

    for mode in ("overwrite", "upsert"):
        result = await pair.copy(
            "customers", "c", transform="m:f", python=calling(change), mode=mode, batch_size=7
        )
        assert (result.output["source_rows"], result.output["rows_dropped"]) == (50, 25)
        assert result.output["target_rows"] == 25
    assert "25 dropped" in result.summary
    row = await pair.reports.first("SELECT * FROM c WHERE id = 4")
    assert dict(row) == {"id": 4, "label": "NAME 4", "cents": 500, "extra": "x"}
    with pytest.raises(StepError, match="min_rows"):
        await pair.copy("customers", "c", transform="m:f", python=calling(change), min_rows=99)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: {**row, "spent": Decimal("1.255")}, r"'spent' .*1.255"),
        (lambda row: {**row, "odd": 1}, "no column 'odd'"),
        (lambda row: [row], "answered list for row 1"),
        (lambda row: {**row, "name": object()}, "type object cannot be copied"),
        (lambda row: {**row, "id": "many"}, r"'id' .*holds 'many' in row 1"),
        (lambda row: row if row["id"] < 3 else {"id": 1}, "other columns for row 3"),
        (lambda row: {**row, "name": "\0"}, "0x00"),
        (lambda row: {**row, "day": NOON}, r"'day' .*2024-01-01 12:00:00"),
    ],
)
async def test_what_a_function_may_not_answer_is_said(pair, change, words):
    await pair.copy("customers", "customers")
    before = await pair.sum_of("reports", "customers")
    with pytest.raises(StepError, match=words):
        await pair.copy("customers", "customers", transform="m:f", python=calling(change))
    assert await pair.sum_of("reports", "customers") == before


async def test_values_beyond_pythons_reach_are_named(pair):
    await pair.script("ops", "UPDATE customers SET day = 'infinity' WHERE id = 9")
    with pytest.raises(StepError, match=r"'day' .* holds 'infinity'"):
        await pair.copy("customers", "c", transform="m:f", python=calling(lambda row: row))


async def test_a_new_target_holds_what_the_function_made(pair):
    def change(row):
        return {
            "id": row["id"],
            "name": row["name"],
            "long": row["name"] * 2,
            "n": 5,
            "at": row["at"],
        }

    await pair.copy("customers", "made", transform="m:f", python=calling(change))
    row = await pair.reports.first(
        "SELECT pg_typeof(n)::text AS n, pg_typeof(at)::text AS at FROM made"
    )
    assert dict(row) == {"n": "bigint", "at": "timestamp with time zone"}
    nothing = await pair.copy("customers", "none", transform="m:f", python=calling(lambda _: None))
    assert (nothing.output["target_rows"], nothing.output["rows_dropped"]) == (0, 50)


JDE = """
    CREATE TABLE "F0101" (
        "ABAN8" numeric(8, 0) PRIMARY KEY, "ABALPH" char(10), "ABTAX" varchar(20),
        "ABAMT" numeric(15, 2), "ABSHORT" smallint, "ABUPMJ" date, "ABF" double precision,
        "ABNOTE" text);
    INSERT INTO "F0101" VALUES (1, 'Acme', '  x  ', -1.99, 7, '2024-05-06', 0.5, E'\\t note '),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""


async def test_the_rules_of_jde(pair):
    await pair.script("ops", JDE)
    jde = {"type_coercion": "jde"}
    await pair.copy(
        "F0101", "f0101", **jde, decimal_mode="truncate", strip_both_columns=["abtax", "ABNOTE"]
    )
    types = await pair.reports.all(
        "SELECT attname AS n, format_type(atttypid, atttypmod) AS t FROM pg_attribute "
        "WHERE attrelid = 'f0101'::regclass AND attnum > 0"
    )
    assert {row["n"]: row["t"] for row in types} == {
        "aban8": "bigint", "abalph": "character varying(10)", "abtax": "character varying(20)",
        "abamt": "bigint", "abshort": "bigint", "abupmj": "date", "abf": "text", "abnote": "text",
    }  # fmt: skip
    row = await pair.reports.first("SELECT * FROM f0101 WHERE aban8 = 1")
    assert (row["abamt"], row["abtax"], row["abnote"]) == (-1, "x", "note")
    await pair.copy("F0101", "kept", **jde)
    row = await pair.reports.first(
        "SELECT *, pg_typeof(abamt)::text AS t FROM kept WHERE aban8 = 1"
    )
    assert (row["abamt"], row["t"], row["abtax"]) == (Decimal("-1.99"), "numeric", "  x  ")
    key = "SELECT indisprimary FROM pg_index WHERE indrelid = 'kept'::regclass"
    assert await pair.reports.scalar(key)
    with pytest.raises(StepError, match="`strip_both_columns` names 'nothing'"):
        await pair.copy("F0101", "f0101", **jde, strip_both_columns=["nothing"])


async def test_connectors_that_trim_and_fill_nulls(pair):
    await pair.script("ops", JDE)
    for name, words in (("ops", {"trim_strings": True}), ("reports", {"coalesce_nulls": True})):
        pair.connectors[name] = pair.connectors[name].model_copy(update=words)
    await pair.copy(
        "F0101", "f", columns={"id": "ABAN8", "tax": "ABTAX", "n": "ABSHORT", "day": "ABUPMJ"}
    )
    found = await pair.reports.all("SELECT tax, n, day FROM f ORDER BY id")
    assert [tuple(row.values()) for row in found] == [
        ("  x", 7, date(2024, 5, 6)), (" ", 0, None),
    ]  # fmt: skip


BIG = """
    CREATE TABLE big (id int PRIMARY KEY, body text);
    INSERT INTO big SELECT g, repeat(md5(g::text), 5) FROM generate_series(1, 30000) g
"""


@pytest.mark.parametrize("streams", [2, 4])
async def test_several_streams_are_one_copy(pair, streams):
    await pair.script("ops", BIG)
    await pair.script(
        "reports",
        "CREATE TABLE big (id int PRIMARY KEY, body text); CREATE VIEW v AS SELECT * FROM big",
    )
    added = await pair.copy("big", "big", mode="append", streams=streams)
    assert added.output["path"] == f"append in {streams} streams"
    assert await pair.sum_of("ops", "big") == await pair.sum_of("reports", "big")
    await pair.script(
        "ops", "UPDATE big SET body = 'new' WHERE id % 3 = 0; DELETE FROM big WHERE id > 29990"
    )
    result = await pair.copy("big", "big", streams=streams)
    assert (result.output["path"], result.output["updated"], result.output["deleted"]) == (
        "in_place",
        9996,
        10,
    )
    assert await pair.sum_of("ops", "big") == await pair.sum_of("reports", "big")
    half = {"table": "big", "where": "id > :least", "params": {"least": 15000}}
    await pair.script("reports", "DELETE FROM big WHERE id > 100")
    merged = await pair.copy(half, "big", mode="upsert", streams=streams)
    assert merged.output["inserted"] == 14990
    assert await pair.leftovers() == []


async def test_several_streams_fail_as_one(pair):
    await pair.script(
        "ops",
        BIG + "; ALTER TABLE big DROP CONSTRAINT big_pkey; UPDATE big SET id = 1 WHERE id = 30000",
    )
    await pair.script("reports", "CREATE TABLE big (id int PRIMARY KEY, body text)")
    with pytest.raises(StepError, match=r"duplicate key|lock timeout"):
        await pair.copy("big", "big", mode="append", streams=2)
    assert await pair.reports.scalar("SELECT count(*) FROM big") == 0
    with pytest.raises(StepError, match="more than once"):
        await pair.copy("big", "big", mode="upsert", streams=2)
    assert await pair.leftovers() == []


async def test_a_stash_that_a_crash_left_is_taken_away(pair):
    await pair.script("ops", BIG)
    await pair.copy("big", "big")
    await pair.script("reports", "CREATE VIEW v AS SELECT * FROM big")
    digest = hashlib.blake2b(b'"public"."big"', digest_size=8).hexdigest()
    await pair.script("reports", f"CREATE TABLE nomaflow_stash_{digest} (a int)")
    await pair.copy("big", "big", streams=2)
    assert await pair.leftovers() == []


async def test_one_stream_does_where_no_other_connection_is_free(pair, monkeypatch):
    monkeypatch.setattr("nomaflow.steps.copying.postgres.streams.WAIT_SECONDS", 0.1)
    await pair.script("ops", BIG)
    await pair.script("reports", "CREATE TABLE big (id int PRIMARY KEY, body text)")
    before = pair.context
    assert before is not None
    for name in ("ops", "reports"):
        pair.connectors[name] = pair.connectors[name].model_copy(update={"pool_size": 1})
    result = await pair.copy("big", "big", mode="append", streams=2)
    assert result.output["target_rows"] == 30_000


async def test_the_time_left_is_told(pair, monkeypatch):
    monkeypatch.setattr("nomaflow.steps.copying.progress._EVENT_SECONDS", 0.0)
    monkeypatch.setattr("nomaflow.steps.copying.progress._LINE_SECONDS", 0.0)
    await pair.script("ops", BIG + "; ANALYZE big")
    await pair.copy("big", "big")
    first = pair.context.events[0]
    assert (first["total"], first["batches"]) == (30_000, 3)
    assert first["rows_per_second"] > 0
    assert first["seconds_left"] is not None
    assert any(line.endswith("left") for line in pair.context.log.at("INFO"))


async def test_a_function_that_fails_fails_the_copy_as_it_is(pair):
    async def broken(_call):
        raise FunctionError(Failure("KeyError", "'nope'", "the traceback"))

    with pytest.raises(FunctionError, match="'nope'") as told:
        await pair.copy("customers", "c", transform="m:f", python=broken)
    assert told.value.failure.traceback == "the traceback"


async def test_a_dry_run_tells_why_a_real_one_would_stop(pair):
    few = await pair.copy("customers", "customers", min_rows=51, dry_run=True)
    assert "fewer than min_rows = 51" in few.output["refusal"]
    await pair.copy("customers", "customers")
    await pair.script("ops", "DELETE FROM customers WHERE id <= 10")
    many = await pair.copy("customers", "customers", max_delete="10%", dry_run=True)
    assert "10 rows would vanish" in many.output["refusal"]
    assert any("a real run would stop" in line for line in pair.context.log.at("WARNING"))
    right = await pair.copy("customers", "customers", max_delete="20%", min_rows=40, dry_run=True)
    assert "refusal" not in right.output


async def test_a_dry_run_tells_the_path_and_what_would_vanish(pair):
    plan = await pair.copy("customers", "customers", dry_run=True)
    assert (plan.output["path"], plan.output["source_rows"]) == ("created", 50)
    await pair.copy("customers", "customers")
    await pair.script(
        "ops", "DELETE FROM customers WHERE id <= 10; INSERT INTO customers VALUES (99, 'new')"
    )
    before = await pair.sum_of("reports", "customers")
    plan = await pair.copy("customers", "customers", dry_run=True)
    assert plan.output["path"] == "renamed"
    assert (plan.output["would_insert"], plan.output["would_delete"]) == (1, 10)
    await pair.script("reports", "CREATE VIEW v AS SELECT * FROM customers")
    plan = await pair.copy("customers", "customers", dry_run=True)
    assert plan.output["path"] == "in_place"
    assert "would lose dependents" in plan.output["why"]
    assert await pair.sum_of("reports", "customers") == before
