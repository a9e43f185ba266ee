"""A worker is frozen past its lease and thawed: it has lost its runs, and writes nothing more."""

import asyncio
import signal

import pytest
from chains import http, job, python, sql
from house import House
from size import pick


def jobs(seconds: float) -> str:
    return (
        job("python", python("two", seconds=seconds, on_interrupt="retry"))
        + job("sql", sql("two", f"SELECT pg_sleep({seconds})"))
        + job("http", http("two", seconds))
    )


LEASE = pick(3, 15)
SECONDS = LEASE + 4
"""Each step takes longer than the lease, so that it is still going when the worker thaws."""


@pytest.mark.timeout(pick(110, 200))
async def test_a_worker_is_frozen_past_its_lease_and_thawed(home: House, figures):
    home.settings["NOMAFLOW_LEASE_SECONDS"] = str(LEASE)
    await home.declare(jobs(SECONDS))
    frozen = await home.start("worker")
    runs = {job: await home.trigger(job) for job in ("python", "sql", "http")}
    for run_id in runs.values():
        await home.until(run_id, "two", "running")
    await until_seen(home, runs["python"], 1)
    async with asyncio.timeout(10):
        while not (old := await backends(home)):
            await asyncio.sleep(0.01)
    other = await home.start("worker")
    frozen.send(signal.SIGSTOP)
    for run_id in runs.values():
        while await home.owner(run_id) is not other:
            await asyncio.sleep(0.02)
    async with asyncio.timeout(10):
        while (at_work := await backends(home)) in ([], old):
            await asyncio.sleep(0.01)
    await until_seen(home, runs["python"], 2)
    frozen.send(signal.SIGCONT)
    ends = [await home.end(run_id, SECONDS + 30) for run_id in runs.values()]
    before = await history(home)
    await asyncio.sleep(LEASE)

    effects = home.judge.of(runs["python"], "two")
    first, second = dict.fromkeys(e.pid for e in effects)
    last_of_first = max(e.at for e in effects if e.pid == first)
    first_of_second = min(e.at for e in effects if e.pid == second)
    figures(
        lease=f"{LEASE} s",
        old_child_dead_before_new_began=f"{first_of_second - last_of_first:.2f} s",
        statements_left_of_the_frozen=len(at_work) - 1,
        rows_written_after_the_thaw=len(await history(home)) - len(before),
    )
    assert first_of_second > last_of_first
    assert len(at_work) == 1
    assert {(run["status"], run["interruptions"]) for run in ends} == {("succeeded", 1)}
    assert await history(home) == before
    done_by = await home.db.fetch("SELECT worker FROM attempts WHERE status = 'succeeded'")
    assert all(f"-{other.pid}-" in row["worker"] for row in done_by)
    assert frozen.alive


@pytest.mark.timeout(pick(110, 200))
async def test_the_only_worker_is_frozen_past_its_lease_and_thawed(home: House, figures):
    """Nobody else took its run: that counts as an interruption, not as a failure of its step."""
    home.settings["NOMAFLOW_LEASE_SECONDS"] = str(LEASE)
    await home.declare(jobs(SECONDS))
    worker = await home.start("worker")
    run_id = await home.trigger("python")
    await until_seen(home, run_id, 1)
    worker.send(signal.SIGSTOP)
    await asyncio.sleep(1.2 * LEASE)
    worker.send(signal.SIGCONT)
    end = await home.end(run_id, SECONDS + 4 * LEASE)

    tries = await home.db.fetch("SELECT status, error ->> 'type' AS error FROM attempts ORDER BY 1")
    figures(lease=f"{LEASE} s", interruptions=end["interruptions"], status=end["status"])
    assert (end["status"], end["interruptions"]) == ("succeeded", 1)
    assert [tuple(row) for row in tries] == [("failed", "Interrupted"), ("succeeded", None)]
    assert worker.alive


async def until_seen(home: House, run_id: object, children: int) -> None:
    """Wait until so many python children of that run have been seen at work."""
    async with asyncio.timeout(60):
        while len({e.pid for e in home.judge.of(run_id, "two")}) < children:
            await asyncio.sleep(0.02)


async def backends(home: House) -> list[int]:
    """Server processes that carry out the sql step's statement."""
    rows = await home.db.fetch(
        """SELECT pid FROM pg_stat_activity
           WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'
             AND state = 'active'"""
    )
    return [row["pid"] for row in rows]


async def history(home: House) -> list:
    """Everything a worker could have written."""
    return [
        row
        for query in (
            "SELECT id, seq, status, fence, worker FROM runs ORDER BY id",
            "SELECT * FROM step_runs ORDER BY run_id",
            "SELECT * FROM attempts ORDER BY run_id, number",
            "SELECT run_id, seq FROM run_events ORDER BY 1, 2",
            "SELECT run_id, seq FROM log_lines ORDER BY 1, 2",
        )
        for row in await home.db.fetch(query)
    ]
