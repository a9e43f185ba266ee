"""Pages of the ledger: the same rows as one plain query gives, at a cost that does not grow."""

import random
from datetime import UTC, datetime, timedelta

from nomaflow.store import slots
from nomaflow.store.keyset import Window
from nomaflow.store.slots import OUTCOMES, SlotFilter

T0 = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SIZE = 50


async def fill(db, schedules, each):
    """So many schedules, fifty of a job, each with a due time an hour and some long gaps."""
    await db.execute(
        """INSERT INTO jobs (name, origin, app, definition, updated_by)
           SELECT 'j' || n, 'api', '_default', '{}', 't' FROM generate_series(1, ($1 + 49) / 50) n
        """,
        schedules,
    )
    await db.execute(
        """INSERT INTO schedules (job_id, name, cron)
           SELECT j.id, 'c' || n, '0 * * * *' FROM jobs j, generate_series(1, least($1, 50)) n""",
        schedules,
    )
    await db.execute(
        """INSERT INTO slots (schedule_id, due_at, outcome, reason)
           SELECT s.id, $1::timestamptz + n * interval '1 hour',
             CASE WHEN n % 5 = 3 THEN 'skipped' WHEN n % 7 = 5 THEN 'missed' ELSE 'fired' END, 'why'
           FROM schedules s, generate_series(0, $2 - 1) n""",
        T0,
        each,
    )
    await db.execute(
        """INSERT INTO slots (schedule_id, due_at, outcome, reason, until, count)
           SELECT s.id, $1::timestamptz - n * interval '30 days', 'missed', 'away',
             $1::timestamptz - n * interval '30 days' + interval '1 day', 1440
           FROM schedules s, generate_series(1, 3) n""",
        T0,
    )
    await db.execute("ANALYZE jobs, schedules, slots")


class Explained:
    """A connection that tells how many blocks a query has touched instead of its rows."""

    def __init__(self, connection):
        self.connection = connection
        self.blocks = 0

    async def fetch(self, sql, *values):
        plan = await self.connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {sql}", *values
        )
        told = plan[0]["Plan"]
        self.blocks = told["Shared Hit Blocks"] + told["Shared Read Blocks"]
        return []

    async def fetchrow(self, sql, *values):
        await self.fetch(sql, *values)


async def blocks(db, wanted, window):
    async with db.acquire() as connection:
        explained = Explained(connection)
        await slots.page(explained, wanted, window)
        await slots.page(explained, wanted, window)  # the first one may have set hint bits
        return explained.blocks


async def test_a_page_costs_what_is_on_it_however_many_schedules_there_are(db):
    taken = []
    for schedules, each in ((10, 100), (1_000, 8), (10_000, 8)):
        await db.execute("TRUNCATE jobs CASCADE")
        await fill(db, schedules, each)
        for outcomes in (None, ["missed"], ["skipped", "missed"]):
            wanted = SlotFilter(since=T0 - HOUR, until=T0 + 1000 * HOUR, outcomes=outcomes)
            first = await slots.page(db, wanted, Window(SIZE))
            assert len(first.rows) == SIZE
            last = first.rows[-1]
            middle = T0 + 6 * HOUR, await db.fetchval("SELECT max(id::text)::uuid FROM schedules")
            position = last.due_at, last.schedule_id
            pages = [
                *(Window(SIZE), Window(SIZE, after=position)),
                *(Window(SIZE, backwards=True), Window(SIZE, before=position, backwards=True)),
                *(Window(SIZE, after=middle), Window(SIZE, before=middle, backwards=True)),
            ]
            taken.append((schedules, [await blocks(db, wanted, one) for one in pages]))
    # A row, its schedule by the index and its job; and the way down of each index.
    assert all(max(both) <= 6 * SIZE + 50 for _, both in taken), taken


async def test_how_far_the_clocks_are_costs_a_few_looks_however_many_there_are(db):
    await fill(db, 10_000, 8)
    await db.execute(
        "UPDATE schedules SET last_fire_at = $1, next_fire_at = $1, look_at = $1", T0 + 7 * HOUR
    )
    await db.execute("VACUUM ANALYZE schedules")
    async with db.acquire() as connection:
        explained = Explained(connection)
        await slots.ticking(explained)
    assert explained.blocks < SIZE
    found = await slots.ticking(db)
    assert (found.last_fire_at, found.next_look_at) == (T0 + 7 * HOUR, T0 + 7 * HOUR)
    await db.execute("TRUNCATE slots")  # as when all of it is older than history is kept
    assert (await slots.ticking(db)).last_fire_at == T0 + 7 * HOUR


async def random_ledger(db, chance):
    await fill(db, 7, 0)
    await db.execute("TRUNCATE slots")
    ids = [row["id"] for row in await db.fetch("SELECT id FROM schedules")]
    for schedule_id in ids:
        at = T0
        while at < T0 + 40 * HOUR:
            outcome = chance.choice(OUTCOMES)
            many = outcome in {"missed", "skipped"} and chance.random() < 0.4
            until = at + chance.randrange(1, 9) * HOUR if many else None
            look_at = at + HOUR if outcome in {"waiting", "postponed"} else None
            await db.execute(
                """INSERT INTO slots (schedule_id, due_at, outcome, reason, until, count, look_at)
                   VALUES ($1, $2, $3, 'why', $4, $5, $6)""",
                *(schedule_id, at, outcome, until, 5 if many else 1, look_at),
            )
            at = (until or at) + chance.randrange(1, 4) * HOUR


async def plainly(db, since, until, outcomes, jobs):
    rows = await db.fetch(
        """SELECT t.due_at, t.schedule_id FROM slots t JOIN schedules s ON s.id = t.schedule_id
           JOIN jobs j ON j.id = s.job_id
           WHERE (t.due_at >= $1 OR t.until >= $1) AND t.due_at < $2
             AND ($3::text[] IS NULL OR t.outcome = ANY ($3))
             AND ($4::text[] IS NULL OR j.name = ANY ($4))
           ORDER BY 1, 2""",
        *(since, until, outcomes, jobs),
    )
    return [tuple(row) for row in rows]


async def test_pages_are_what_a_plain_query_gives(db):
    chance = random.Random(4)
    await random_ledger(db, chance)
    for _ in range(40):
        since = T0 + chance.randrange(-5, 40) * HOUR
        until = since + chance.randrange(1, 30) * HOUR
        outcomes = chance.choice([None, ["missed"], ["fired", "waiting"], list(OUTCOMES)])
        jobs = chance.choice([None, None, ["j1"]])
        wanted = SlotFilter(since=since, until=until, outcomes=outcomes, jobs=jobs)
        expected = await plainly(db, since, until, outcomes, jobs)
        seen, after, size = [], None, chance.randrange(1, 12)
        while True:
            page = await slots.page(db, wanted, Window(size, after=after))
            seen += [(row.due_at, row.schedule_id) for row in page.rows]
            if not page.more:
                break
            after = seen[-1]
        assert seen == expected
        seen, before = [], None
        while True:
            page = await slots.page(db, wanted, Window(size, before=before, backwards=True))
            seen = [(row.due_at, row.schedule_id) for row in page.rows] + seen
            if not page.more:
                break
            before = seen[0]
        assert seen == expected
