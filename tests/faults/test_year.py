"""A year of 40 clocks in four zones, walked by schedulers that are killed at random.

Time is an argument and the database is real. The ledger must be what arithmetic says, to the row.
"""

import asyncio
import random
import time
from collections import Counter
from datetime import datetime, timedelta

import cron_oracle
import pytest
import walker
from house import House
from size import dice, pick

WALKERS = 3
START = pick("2026-03-20T00:00:00Z", "2026-01-01T00:00:00Z")
END = pick("2026-04-06T00:00:00Z", "2027-01-01T00:00:00Z")
MOST_SLOTS = 200_000
DAYS_BETWEEN = pick(0.6, 3.0)
"""Days of the year between two kills, on average."""

ZONES = ("Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe")
CRONS = (
    "30 2 * * *",  # in the gap of Berlin and New York, and in the hour that comes twice
    "0 0 * * *",  # in the gap of Cairo
    "15 2 * * 1-5",
    "0 * * * *",
    "*/30 1-3 * * *",
    "0 9 15 * 1",
    "0 18 LW * *",
    "0 0 * * 5L",
    "59 23 L * * 30",
)
FREQUENT = ("*/15 * * * *", "*/20 * * * *", "5,35 * * * *")
INTERVALS = ("6h", "7d", "90m", "13h")
OVERLAPS = ("allow", "skip", "queue", "replace")


def clocks():
    """Name, cron or None, interval in words or None, zone, overlap: forty of them, all kinds."""
    kinds = [(cron, None, zone) for zone in ZONES for cron in CRONS]
    kinds = kinds[: 40 - len(INTERVALS)]
    if START.startswith("2026-01"):  # a long year also has busy clocks
        kinds[-3:] = [(cron, None, zone) for cron, zone in zip(FREQUENT, ZONES, strict=False)]
    kinds += [(None, every, "UTC") for every in INTERVALS]
    return [
        (f"clock-{n}", cron, every, zone, OVERLAPS[n % 4] if cron else "allow")
        for n, (cron, every, zone) in enumerate(kinds)
    ]


def jobs() -> str:
    return "".join(
        f"""
        [[jobs]]
        name = "{name}"
        overlap = "{overlap}"
        queue_depth = 1
        [[jobs.schedules]]
        name = "clock"
        {f'cron = "{cron}"' if cron else f'every = "{every}"'}
        timezone = "{zone}"
        [[jobs.steps]]
        name = "one"
        type = "sql_query"
        connector = "default"
        query = "SELECT 1"
        """
        for name, cron, every, zone, overlap in clocks()
    )


SECONDS = {"6h": 21_600, "7d": 604_800, "90m": 5_400, "13h": 46_800}


def due_times(cron, every, zone, start, end) -> list[datetime]:
    """What arithmetic says, by code that shares nothing with the product."""
    if cron is not None:
        return [at for at in cron_oracle.fires(cron, zone, start, end) if at < end]
    step = timedelta(seconds=SECONDS[every])
    return [start + step * n for n in range(1, (end - start) // step + 1) if start + step * n < end]


async def set_back(home: House, start: datetime) -> None:
    """Let every clock stand at the beginning of the year."""
    for name, cron, every, zone, _ in clocks():
        first = due_times(cron, every, zone, start, start + timedelta(days=400))[0]
        await home.db.execute(
            """UPDATE schedules s SET next_fire_at = $2, look_at = $2
               FROM jobs j WHERE j.id = s.job_id AND j.name = $1""",
            name,
            first,
        )


async def walk(home: House, end: datetime, chance: random.Random) -> int:
    """Let schedulers go through the year, and kill one of them every now and then; how many."""
    trouble, kills = home.root / "trouble.log", 0

    def begin():
        return walker.begin(home.database_url, home.valkey.url, end, trouble)

    walkers = [begin() for _ in range(WALKERS)]
    kill_at = datetime.fromisoformat(START)
    try:
        while any(one.is_alive() for one in walkers):
            await asyncio.sleep(0.05)
            assert not trouble.exists(), trouble.read_text()[-2_000:]
            now = await home.db.fetchval("SELECT min(look_at) FROM schedules")
            if now is None or not kill_at <= now < end:
                continue
            # In the time of the year, so that a slow machine kills no more often than a fast one.
            kill_at = now + timedelta(days=chance.uniform(0, 2 * DAYS_BETWEEN))
            victim = chance.randrange(WALKERS)
            walkers[victim].kill()
            walkers[victim].join()
            walkers[victim] = begin()
            kills += 1
        assert [one.exitcode for one in walkers] == [0] * WALKERS
    finally:
        for one in walkers:
            one.kill()
    return kills


@pytest.mark.timeout(pick(110, 3_600))
async def test_the_ledger_of_a_year_is_arithmetic(home: House, figures):
    start, end = datetime.fromisoformat(START), datetime.fromisoformat(END)
    await home.declare(jobs())
    await set_back(home, start)
    began = time.monotonic()
    kills = await walk(home, end, dice("year"))
    walked = time.monotonic() - began

    await home.workers(2)
    await home.settled(pick(60, 2_400))

    missing, twice, total, outcomes = 0, 0, 0, Counter()
    for name, cron, every, zone, _ in clocks():
        expected = due_times(cron, every, zone, start, end)
        rows = await home.db.fetch(
            """SELECT t.due_at, t.outcome, t.count FROM slots t
               JOIN schedules s ON s.id = t.schedule_id JOIN jobs j ON j.id = s.job_id
               WHERE j.name = $1 ORDER BY t.due_at""",
            name,
        )
        found = [row["due_at"] for row in rows]
        missing += len(set(expected) - set(found))
        twice += len(found) - len(set(found))
        total += len(expected)
        outcomes.update(row["outcome"] for row in rows)
        assert found == expected, name
        assert {row["count"] for row in rows} <= {1}
    runs = await home.db.fetchval("SELECT count(*) FROM runs WHERE trigger = 'cron'")
    distinct = await home.db.fetchval(
        "SELECT count(DISTINCT (schedule_id, scheduled_for)) FROM runs WHERE trigger = 'cron'"
    )
    figures(
        days=(end - start).days,
        slots=total,
        kills=kills,
        walked_seconds=round(walked),
        missing=missing,
        twice=twice,
        outcomes=dict(outcomes),
    )
    assert runs == distinct == total
    assert set(outcomes) <= {"fired", "skipped"}
    assert total <= MOST_SLOTS
