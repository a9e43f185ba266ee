"""Abort is for certain: at random moments, of every step type, whoever is away or dead."""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from uuid import UUID

import pytest
from chains import copy, http, job, python, sql
from house import House
from load import percentile
from size import dice, pick

from nomaflow import dispatch

LONG = 600
SLOW_ROWS = "SELECT g AS id, pg_sleep(0.002)::text AS slept FROM generate_series(1, 1000000) g"
JOBS = (
    job("sql", sql("one", f"SELECT pg_sleep({LONG})"))
    + job("copy", copy("one", SLOW_ROWS, "copied"))
    + job("http", http("one", LONG))
    + job("python", python("one", seconds=LONG))
    + job("spins", python("one", "spins"))
    + job("soon", sql("one", "SELECT 1/0"), retry={"attempts": 9, "base_seconds": 4})
    + job("late", sql("one", "SELECT 1/0"), retry={"attempts": 9, "base_seconds": 60})
)
KINDS = {
    "sql": "running",
    "copy": "running",
    "http": "running",
    "python": "running",
    "spins": "running",
    "soon": "retrying",
    "late": "retrying",
}
ROUNDS = pick(2, 30)
LEASE = pick(4, 15)
CERTAIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How long it took until history said so, and until nothing of the step was left."""

    kind: str
    told: float
    gone: float


@pytest.mark.timeout(pick(110, 600))
async def test_every_kind_of_step_is_aborted_at_random_moments(home: House, figures):
    await prepare(home)
    await home.start("worker")
    chance = dice("abort")
    ends: list[Ended] = []
    away: list[Ended] = []
    for number in range(ROUNDS):
        redis_away = number % 2 == 1
        with home.valkey.frozen() if redis_away else contextlib.nullcontext():
            found = await asyncio.gather(*(one(home, kind, chance) for kind in KINDS))
        (away if redis_away else ends).extend(found)

    slowest = max((*ends, *away), key=lambda end: max(end.told, end.gone))
    figures(
        aborts=len(ends) + len(away),
        kinds=len(KINDS),
        told_p50=f"{percentile([e.told for e in ends], 0.5):.2f} s",
        told_max=f"{max(e.told for e in ends):.2f} s",
        redis_away_max=f"{max(e.told for e in away):.2f} s",
        gone_max=f"{max(e.gone for e in (*ends, *away)):.2f} s (at most 2 s; {slowest.kind})",
    )
    for end in (*ends, *away):
        assert max(end.told, end.gone) <= CERTAIN_SECONDS, end


@pytest.mark.timeout(pick(110, 200))
async def test_a_run_whose_worker_is_dead_is_aborted(home: House, figures):
    home.settings["NOMAFLOW_LEASE_SECONDS"] = str(LEASE)
    await prepare(home)
    worker = await home.start("worker")
    runs = [await home.trigger(kind) for kind in ("sql", "http", "python")]
    for run_id in runs:
        await home.until(run_id, "one", "running")
    await asyncio.sleep(1)
    await worker.kill()
    for run_id in runs:
        await dispatch.abort(home.db, home.bell, run_id, by="api", reason="its worker is dead")
    query = """SELECT max(extract(epoch FROM lease_expires_at))::float8 FROM runs"""
    runs_out = await home.db.fetchval(query)
    await home.start("worker")
    ends = [await home.end(run_id) for run_id in runs]

    after = [end["finished_at"].timestamp() - runs_out for end in ends]
    figures(
        lease=f"{LEASE} s",
        after_the_lease_ran_out=f"{max(after):.2f} s (at most 2 s)",
        statements_left=len(await statements(home)),
    )
    assert {(end["status"], end["reason"]) for end in ends} == {
        ("aborted", "aborted by api: its worker is dead")
    }
    assert max(after) <= CERTAIN_SECONDS
    assert await statements(home) == []


async def prepare(home: House) -> None:
    await home.db.execute("CREATE TABLE public.copied (id bigint, slept text)")
    await home.db.execute("ALTER TABLE public.copied OWNER TO nomaflow_jobs")
    await home.declare(JOBS)


async def one(home: House, kind: str, chance: random.Random) -> Ended:
    """Start one, let it work for a moment, abort it, and see that nothing of it is left."""
    run_id = await home.trigger(kind)
    await home.until(run_id, "one", KINDS[kind])
    await asyncio.sleep(chance.uniform(0, 1.5))
    asked = time.time()
    await dispatch.abort(home.db, home.bell, run_id, by="cli:bob", reason="wrong month")
    end = await home.end(run_id, 10)
    assert (end["status"], end["reason"]) == ("aborted", "aborted by cli:bob: wrong month")
    while await statements(home, run_id):
        await asyncio.sleep(0.02)
    checked = time.time()
    await asyncio.sleep(0.2)  # what is still at work would say so now
    seen = home.judge.of(run_id)
    gone = seen[-1].at if seen and seen[-1].what != "began" else checked
    return Ended(kind, end["finished_at"].timestamp() - asked, max(gone - asked, 0))


async def statements(home: House, run_id: UUID | None = None) -> list[str]:
    """What the server still does for a run's steps (None: for any)."""
    rows = await home.db.fetch(
        """SELECT query FROM pg_stat_activity
           WHERE datname = current_database() AND state = 'active'
             AND application_name LIKE 'nomaflow:' || $1 || '%'""",
        str(run_id or ""),
    )
    return [row["query"] for row in rows]
