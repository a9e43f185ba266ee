"""PostgreSQL is restarted under load, in good order and by a crash, and stays away for long."""

import asyncio
import signal

import load
import pytest
from chains import http, job, python
from house import House
from size import dice, pick

ONCE = {"on_interrupt": "fail"}
"""A false rescue would not only repeat the step, it would fail the run."""


def jobs(through: float) -> str:
    return job(
        "short",
        http("one", 0.3, **ONCE),
        http("two", 1, **ONCE),
        http("three", 0.1, **ONCE),
    ) + job(
        "through",
        http("one", through, **ONCE),
        python("two", seconds=through),
        http("three", 0.1, **ONCE),
    )


LEASE = pick(4, 15)
RESTARTS = pick(2, 5)
APART = pick(2.0, 8.0)
AWAY = pick(9.0, 120.0)
THROUGH = pick(6, 65)
"""Each of two steps of the long runs: they go on while PostgreSQL is away."""


@pytest.mark.timeout(pick(110, 600))
async def test_postgresql_restarts_and_stays_away(home: House, figures):
    home.settings["NOMAFLOW_LEASE_SECONDS"] = str(LEASE)
    await home.declare(jobs(THROUGH))
    workers = await home.workers(2)
    chance = dice("postgres")
    seconds = RESTARTS * (APART + 1) + AWAY + 2
    every = 0.25
    names = ["short"] * pick(9, 60) + ["through"]
    work = load.offer(home, names, every=every, count=int(seconds / every), dice=chance)
    async with load.meanwhile(work) as going:
        for number in range(RESTARTS):
            await asyncio.sleep(APART)
            await home.postgres.restart(crash=number % 2 == 0)
        await asyncio.sleep(1)
        through = [await home.ask(lambda: home.trigger("through")) for _ in range(3)]
        await asyncio.sleep(1)
        await home.postgres.end(signal.SIGINT)
        await asyncio.sleep(AWAY)
        await home.postgres.start()
    accepted = {**going.result().accepted, **dict.fromkeys(through, 0.0)}
    await home.settled(2 * THROUGH + 60)

    ends = await home.db.fetch("SELECT id, status, reason, interruptions FROM runs")
    not_once = {key: at for key, at in home.judge.began().items() if len(at) != 1}
    figures(
        runs=len(ends),
        restarts=f"{RESTARTS} (every other one a crash)",
        away=f"{AWAY:g} s (lease {LEASE} s)",
        requests_asked_again=going.result().refused,
        lost=len(accepted) - len(ends),
        steps_begun_twice=len(not_once),
        false_rescues=sum(row["interruptions"] for row in ends),
        workers_alive=sum(worker.alive for worker in workers),
    )
    wrong = [dict(r) for r in ends if (r["status"], r["interruptions"]) != ("succeeded", 0)]
    assert wrong == []
    assert {row["id"] for row in ends} == set(accepted)
    assert not_once == {}
    assert all(worker.alive for worker in workers)


@pytest.mark.timeout(pick(110, 300))
async def test_recovery_takes_longer_than_a_lease(home: House, figures):
    """The server has been up for long when it lets the first worker in, and every lease is old."""
    home.settings["NOMAFLOW_LEASE_SECONDS"] = str(LEASE)
    long = 2.2 * LEASE
    await home.declare(job("http", http("one", long)) + job("python", python("one", seconds=long)))
    workers = await home.workers(2)
    await asyncio.sleep(LEASE)  # what has been seen of the server is enough to rescue somebody
    runs = [await home.trigger(name) for name in ("http", "python") * 3]
    for run_id in runs:
        await home.until(run_id, "one", "running")
    await home.postgres.recover_slowly(1.5 * LEASE)
    await home.settled(3 * LEASE + 30)

    ends = await home.db.fetch("SELECT id, status, reason, interruptions FROM runs")
    not_once = {key: at for key, at in home.judge.began().items() if len(at) != 1}
    figures(
        runs=len(ends),
        recovering=f"{1.5 * LEASE:g} s (lease {LEASE} s)",
        steps_begun_twice=len(not_once),
        false_rescues=sum(row["interruptions"] for row in ends),
        workers_alive=sum(worker.alive for worker in workers),
    )
    assert [dict(r) for r in ends if (r["status"], r["interruptions"]) != ("succeeded", 0)] == []
    assert not_once == {}
    assert all(worker.alive for worker in workers)
