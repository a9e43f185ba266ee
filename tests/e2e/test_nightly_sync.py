"""Seed 001 through the three programs: both tables refreshed under a reader's eyes, or told why."""

import asyncio
import contextlib

import asyncpg
import pytest
from recipes import load

TABLES = ("customers", "orders")
JOB = "reporting-nightly-sync"


@pytest.fixture(scope="module")
def slack():
    module = load("nightly-sync", "slack_stub.py")
    stub = module.SlackStub(tell=lambda _line: None)
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def up(start, example, make_database, slack):
    project = example("nightly-sync")
    jobs = project / "jobs.toml"
    jobs.write_text(jobs.read_text().replace("base_seconds = 60", "base_seconds = 1"))
    installation = start(project)
    (project / ".env").write_text(
        f"OPS_DB_URL={make_database(installation, 'ops')}\n"
        f"REPORTING_DB_URL={make_database(installation, 'reporting')}\n"
        f"SLACK_WEBHOOK_URL={slack.url('/success')}\n"
        f"ON_CALL_WEBHOOK_URL={slack.url('/on-call')}\n"
    )
    return installation


async def fingerprint(connection, table):
    return tuple(
        await connection.fetchrow(
            f"SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY id)) FROM {table} AS t"
        )
    )


async def rights_and_shapes(connection):
    """All that a refresh must leave as it was, by the catalogue's own words."""
    return await connection.fetch("""
        SELECT 'table' AS what, c.oid::text AS a, c.relacl::text AS b, '' AS c
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'reporting' AND c.relkind IN ('r', 'v')
        UNION ALL SELECT 'index', indexname, indexdef, tablename FROM pg_indexes
        WHERE schemaname = 'reporting'
        UNION ALL SELECT 'column', column_name, coalesce(column_default, ''), is_nullable
        FROM information_schema.columns WHERE table_schema = 'reporting'
        UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid), '' FROM pg_constraint
        WHERE connamespace = 'reporting'::regnamespace
        ORDER BY 1, 2, 3, 4""")


async def eventually(connection, question):
    """Ask until the answer is yes."""
    async with asyncio.timeout(15):
        while not await connection.fetchval(question):
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def reading(up, seen):
    """Look at both tables again and again, as a reporting screen would."""

    async def look(table):
        async with up.database("reporting") as connection:
            while True:
                try:
                    seen[table].add(await connection.fetchval(f"SELECT count(*) FROM {table}"))
                except asyncpg.PostgresError as error:
                    seen[table].add(repr(error))
                await asyncio.sleep(0)

    watchers = [asyncio.create_task(look(table)) for table in seen]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)


async def test_both_tables_equal_their_sources_and_slack_hears_of_it_once(up, slack):
    async with up.database("reporting") as connection:
        before = await rights_and_shapes(connection)
    seen = {f"reporting.{table}": set() for table in TABLES}
    async with reading(up, seen):
        run = await up.ended(await up.trigger(JOB), seconds=90)

    assert run["status"] == "SUCCEEDED", run
    assert [s["status"] for s in run["steps"]] == ["SUCCEEDED"] * 3
    assert [s["rowsAffected"] for s in run["steps"][:2]] == ["100000", "500000"]
    assert seen == {"reporting.customers": {10_000, 100_000}, "reporting.orders": {50_000, 500_000}}
    async with up.database("ops") as ops, up.database("reporting") as reporting:
        for table in TABLES:
            source = await fingerprint(ops, f"public.{table}")
            assert await fingerprint(reporting, f"reporting.{table}") == source
        assert await rights_and_shapes(reporting) == before
        assert (
            await reporting.fetchval("SELECT sum(orders) FROM reporting.revenue_by_country")
            == 500_000
        )
    assert slack.calls == [("/success", {"text": "✅ reporting-nightly-sync succeeded"})]


async def test_a_second_copy_that_fails_is_told_once_after_its_last_try(up, slack):
    slack.calls.clear()
    async with up.database("ops") as ops, up.database("reporting") as reporting:
        await ops.execute("""
            ALTER TABLE public.orders RENAME TO orders_kept;
            CREATE VIEW public.orders AS
              SELECT id / (id - 400000) * 0 + id AS id, customer_id, status, amount, note,
                ordered_at
              FROM public.orders_kept;
            GRANT SELECT ON public.orders TO PUBLIC""")
        yesterday = await fingerprint(reporting, "reporting.orders")

        run = await up.ended(await up.trigger(JOB))

        assert await fingerprint(reporting, "reporting.orders") == yesterday
        tables = """SELECT array_agg(tablename::text ORDER BY 1) FROM pg_tables
                    WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"""
        assert await reporting.fetchval(tables) == ["customers", "orders"]
        await ops.execute(
            "DROP VIEW public.orders; ALTER TABLE public.orders_kept RENAME TO orders"
        )
    assert run["status"] == "FAILED"
    assert [s["status"] for s in run["steps"]] == ["SUCCEEDED", "FAILED", "SKIPPED"]
    failed, skipped = run["steps"][1:]
    assert [a["status"] for a in failed["attempts"]] == ["FAILED", "FAILED"]
    assert "division by zero" in failed["error"]["message"]
    assert skipped["reason"] == "skipped: earlier step failed"
    async with up.database() as history:
        await eventually(history, "SELECT bool_and(sent_at IS NOT NULL) FROM nomaflow.deliveries")
        assert await history.fetchval("SELECT count(*) FROM nomaflow.deliveries") == 1
    assert [path for path, _ in slack.calls] == ["/on-call"]
    told = str(slack.calls[0][1])
    assert JOB in told
    assert "copy-orders" in told
    assert "division by zero" in told
