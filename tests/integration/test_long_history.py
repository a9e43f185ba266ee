"""What people ask of one name costs the same however long its history is."""

import asyncio
import json

import pytest

from nomaflow.store import external, history, standings
from nomaflow.store.history import Order, RunFilter
from nomaflow.store.keyset import Window

LONG = 20_000
FEW_PAGES = 60
"""Of 8 KB each; the whole history has thousands."""


@pytest.fixture
async def long_history(db):
    """Two outside names and one job with twenty thousand ends each, and one silent run."""
    job = await db.fetchval(
        """INSERT INTO jobs (name, app, tags, origin, revision, definition, updated_by)
           VALUES ('copy', '_default', '{}', 'api', 1, '{}', 'test') RETURNING id"""
    )
    for kind, name, job_id, status in (
        ("external", "permits", None, "succeeded"),
        ("external", "others", None, "succeeded"),
        ("job", "copy", job, "failed"),
    ):
        await db.execute(
            """INSERT INTO runs (kind, job_name, job_id, status, trigger, triggered_by, principal,
                 queued_at, started_at, finished_at, error, seq)
               SELECT $1, $2, $3, $4, 'api', 'api', 'a', t, t, t + interval '1 s',
                 CASE WHEN $4 = 'failed' THEN '{}'::jsonb END, 2
               FROM (SELECT now() - make_interval(secs => n * 10) AS t
                     FROM generate_series(1, $5::int) n)""",
            kind,
            name,
            job_id,
            status,
            LONG,
        )
    await db.execute(
        """INSERT INTO external_runs (run_id, job_name, source, destination, stale_seconds)
           SELECT id, job_name, left(job_name, 1), 'b', 60 FROM runs WHERE kind = 'external'"""
    )
    await db.execute(
        """WITH r AS (INSERT INTO runs (kind, job_name, status, trigger, triggered_by, principal,
             queued_at, started_at, seq) SELECT 'external', 'silent', 'running', 'api', 'api', 'a',
             now() - interval '1 day', now() - interval '1 day', 1 RETURNING id)
           INSERT INTO external_runs (run_id, job_name, source, destination, stale_seconds)
           SELECT id, 'silent', 's', 'b', 60 FROM r"""
    )
    await db.execute("ANALYZE runs, external_runs, jobs")
    return job


async def pages_read(db, ask) -> int:
    """How many pages of 8 KB the statements of `ask` touch."""
    asked = []
    async with db.transaction() as connection:
        with connection.query_logger(lambda record: asked.append((record.query, record.args))):
            await ask(connection)
            await asyncio.sleep(0)  # the logger is told on the next turn of the loop
        assert asked
        touched = 0
        for query, args in asked:
            explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}"
            plan = await connection.fetchval(explain, *args)
            (told,) = json.loads(plan) if isinstance(plan, str) else plan
            plan = told["Plan"]
            touched += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return touched


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("permits", "succeeded"),
        ("permits", "failed"),
        ("permits", "running"),
        ("never", "succeeded"),
    ],
)
async def test_the_newest_end_of_a_name(db, long_history, name, status):
    async def ask(connection):
        await external.most_recent(connection, name, status)

    assert await pages_read(db, ask) < FEW_PAGES


async def test_the_newest_end_between_two_places(db, long_history):
    async def ask(connection):
        assert await external.most_recent(connection, "permits", "succeeded", "p", "b") is not None
        assert await external.most_recent(connection, "permits", "succeeded", "p", "new") is None

    assert await pages_read(db, ask) < FEW_PAGES


@pytest.mark.parametrize("places", [{"source": "zz"}, {"source": "o"}, {"destination": "zz"}])
@pytest.mark.parametrize("status", ["succeeded", "running"])
async def test_the_newest_end_from_a_place_where_nothing_came_from(
    db, long_history, places, status
):
    async def ask(connection):
        assert await external.most_recent(connection, "permits", status, **places) is None

    assert await pages_read(db, ask) < FEW_PAGES


async def test_the_last_success_of_a_job_that_only_fails(db, long_history):
    async def ask(connection):
        assert await history.last_successes(connection, [long_history]) == {}

    assert await pages_read(db, ask) < FEW_PAGES


async def test_how_a_job_last_ended(db, long_history):
    async def ask(connection):
        found = await standings.of(connection, ["copy", "permits", "never"])
        ends = {name: standing.status for name, standing in found.items()}
        assert ends == {"copy": "failed", "permits": "succeeded", "never": None}

    assert await pages_read(db, ask) < FEW_PAGES


async def test_silent_runs(db, long_history):
    async def ask(connection):
        wanted = RunFilter(kind="external", stale=True)
        page = await history.page(connection, wanted, Window(20), Order.QUEUED_DESC)
        assert [run.job_name for run in page.rows] == ["silent"]

    assert await pages_read(db, ask) < FEW_PAGES


@pytest.mark.parametrize(
    "wanted",
    [
        RunFilter(destination="new"),
        RunFilter(source="zz"),
        RunFilter(source="zz", destination="b"),
        RunFilter(source="zz", jobs=["permits"]),
    ],
)
@pytest.mark.parametrize("order", [Order.QUEUED_DESC, Order.FINISHED_DESC])
async def test_a_place_of_no_run(db, long_history, wanted, order):
    async def ask(connection):
        page = await history.page(connection, wanted, Window(20), order)
        assert page.rows == []
        assert await history.count(connection, wanted, order) == 0

    assert await pages_read(db, ask) < FEW_PAGES
