"""Workers are killed with no warning, one every three seconds, while work goes on."""

import asyncio
import time

import load
import pytest
from chains import http, job, python, sql
from house import House
from size import dice, pick

STEP = pick(0.6, 0.3)
"""Seconds; long enough to be hit, short enough that hardly any is hit three times."""
JOBS = job(
    "light",
    http("one", STEP),
    sql("two", f"SELECT pg_sleep({STEP})"),
    http("three", STEP),
) + job(
    "mixed",
    http("one", STEP),
    python("two", seconds=STEP, on_interrupt="retry"),
    sql("three", f"SELECT pg_sleep({STEP})"),
)
RUNS = pick(50, 500)
SECONDS = pick(16, 120)
LEASE = pick(5, 15)
KILL_EVERY = 3.0


@pytest.mark.timeout(pick(110, 400))
async def test_a_worker_is_killed_every_three_seconds(home: House, figures):
    home.settings["NOMAFLOW_LEASE_SECONDS"] = str(LEASE)
    await home.declare(JOBS)
    chance = dice("killed")
    workers = await home.workers(3)
    jobs = ("light", "light", "light", "mixed")
    work = load.offer(home, jobs, every=SECONDS / RUNS, count=RUNS, dice=chance)
    kills = 0
    hit: list[tuple[float, object, int, int]] = []
    async with load.meanwhile(work) as going:
        while not going.done():
            await asyncio.sleep(KILL_EVERY)
            victim = chance.choice(workers)
            hit += [(time.time(), *row) for row in await steps_of(home, victim.pid)]
            await victim.kill()
            kills += 1
            workers[workers.index(victim)] = home.begin("worker")
    await home.settled(60)

    again = [seconds for one in hit if (seconds := await restarted(home, one)) is not None]
    ends = await home.db.fetch("SELECT status, reason, interruptions FROM runs")
    failed = [row for row in ends if row["status"] != "succeeded"]
    poisoned = [row for row in failed if "interrupted 3 times" in (row["reason"] or "")]
    figures(
        runs=len(ends),
        kills=kills,
        steps_interrupted=len(again),
        runs_interrupted=sum(row["interruptions"] > 0 for row in ends),
        lost=RUNS - len(ends),
        stopped_after_three_interruptions=len(poisoned),
        again_p50=f"{load.percentile(again, 0.5):.1f} s",
        again_p99=f"{load.percentile(again, 0.99):.1f} s (lease {LEASE} s, at most 20 s)",
    )
    assert len(ends) == len(going.result().accepted) == RUNS
    assert failed == poisoned
    assert home.judge.overlaps == []
    assert load.percentile(again, 0.99) <= 20


async def steps_of(home: House, pid: int) -> list:
    """The steps a worker is at."""
    return await home.db.fetch(
        """SELECT s.run_id, s.position, s.tries FROM runs r JOIN step_runs s ON s.run_id = r.id
           WHERE r.lease_owner LIKE '%-' || $1::int || '-%' AND s.status = 'running'""",
        pid,
    )


async def restarted(home: House, one: tuple) -> float | None:
    """Seconds from the kill to the step's next start; None when it had ended just before."""
    killed, run_id, position, tries = one
    row = await home.db.fetchrow(
        """SELECT extract(epoch FROM finished_at)::float8 AS at, error FROM attempts
           WHERE run_id = $1 AND position = $2 AND number = $3""",
        run_id,
        position,
        tries,
    )
    if row is None or (row["error"] or {}).get("type") != "Interrupted":
        return None
    return row["at"] - killed
