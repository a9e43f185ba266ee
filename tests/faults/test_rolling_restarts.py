"""A deploy restarts every worker, one after the other, under load: nobody notices."""

import asyncio
import signal

import load
import pytest
from chains import http, job, python, sql
from house import House
from size import dice, pick

ONCE = {"on_interrupt": "fail"}
"""An interruption would fail the run."""
JOBS = job(
    "quick",
    http("one", 0.2, **ONCE),
    http("two", 0.8, **ONCE),
    sql("three", "SELECT pg_sleep(0.2)", **ONCE),
) + job("python", python("one", seconds=0.5), http("two", 0.3, **ONCE))
RESTARTS = pick(4, 10)
EVERY = pick(0.15, 0.1)


@pytest.mark.timeout(pick(110, 300))
async def test_workers_restart_one_after_the_other(home: House, figures):
    await home.declare(JOBS)
    workers = await home.workers(2)
    stop = asyncio.Event()
    jobs = ["quick"] * 4 + ["python"]
    work = load.offer_until(home, jobs, every=EVERY, stop=stop, dice=dice("rolling"))
    statuses = []
    async with load.meanwhile(work) as going:
        for number in range(RESTARTS):
            await asyncio.sleep(1)
            leaving = workers[number % len(workers)]
            leaving.send(signal.SIGTERM)
            statuses.append(await leaving.ended(30))
            workers[number % len(workers)] = await home.start("worker")
        stop.set()
    await home.settled(30)

    ends = await home.db.fetch("SELECT status, reason, interruptions FROM runs")
    tries = await home.db.fetch("SELECT number, status FROM attempts")
    handed = await home.db.fetchval(
        """SELECT count(DISTINCT run_id) FROM run_events
           WHERE kind = 'run' AND payload ->> 'reason' LIKE 'handed back%'"""
    )
    figures(
        restarts=RESTARTS,
        runs=len(ends),
        handed_over=handed,
        lost=len(going.result().accepted) - len(ends),
        failed=sum(row["status"] != "succeeded" for row in ends),
        attempts_used_up=sum(row["number"] != 1 for row in tries),
    )
    assert len(ends) == len(going.result().accepted)
    assert [dict(r) for r in ends if (r["status"], r["interruptions"]) != ("succeeded", 0)] == []
    assert {(row["number"], row["status"]) for row in tries} == {(1, "succeeded")}
    assert handed > 0
    assert set(statuses) == {0}
