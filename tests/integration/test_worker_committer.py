"""Moves of many runs in one commit: each for itself, whatever becomes of the others."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest

from nomaflow import moves
from nomaflow.lifecycle import Onward, Result
from nomaflow.store import births, claims
from nomaflow.store.births import NewRun, NewStep
from nomaflow.store.transitions import Line, Writing
from nomaflow_worker import committer
from nomaflow_worker.committer import REFUSED, Committer

DONE = Result({}, "done")


@pytest.fixture
async def held(db):
    """Six runs of one step that this worker is at."""
    async with db.transaction() as connection:
        for _ in range(6):
            run = NewRun(
                job_name="job", trigger="api", triggered_by="api", steps=[NewStep("a", "http")]
            )
            await births.insert(connection, run)
    taken = await claims.claim(db, "w1", limit=6, lease_seconds=60, tags=["default"])
    return [claimed.held for claimed in taken]


def end(held, result=DONE, lines=()):
    return Writing(moves.succeed(held, result, Onward()), lines)


def said(held):
    return end(held, lines=[Line(datetime.now(UTC), 20, "a", "hello")])


async def status(db, held):
    return await db.fetchval("SELECT status FROM runs WHERE id = $1", held.run_id)


async def states(db, many):
    return [await status(db, held) for held in many]


@asynccontextmanager
async def slow_lines(database_url):
    """Whoever writes a move waits until the block ends."""
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE nomaflow.log_lines IN EXCLUSIVE MODE")
            yield other
    finally:
        await other.close()


async def waiting_for_lines(other, count):
    async with asyncio.timeout(10):
        while count > await other.fetchval(
            """SELECT count(*) FROM pg_locks
               WHERE relation = 'nomaflow.log_lines'::regclass AND NOT granted"""
        ):
            await asyncio.sleep(0.01)


async def test_moves_of_one_moment_are_one_commit(db, held):
    shared = Committer(db)
    answers = await asyncio.gather(*(shared.write(said(one)) for one in held))
    assert answers == [6] * 6
    assert await db.fetchval("SELECT count(DISTINCT xmin::text) FROM runs") == 1
    assert await states(db, held) == ["succeeded"] * 6
    told = await db.fetch(
        """SELECT run_id, array_agg(seq ORDER BY seq) AS seqs
           FROM (SELECT run_id, seq FROM run_events
                 UNION ALL SELECT run_id, seq FROM log_lines) b GROUP BY run_id"""
    )
    assert [row["seqs"] for row in told] == [[1, 2, 3, 4, 5, 6]] * 6


async def test_a_neighbour_that_lost_its_claim_writes_nothing_and_disturbs_nobody(db, held):
    lost, *others = held
    await db.execute(
        "UPDATE runs SET fence = nextval('fence'), lease_owner = 'w2' WHERE id = $1", lost.run_id
    )
    shared = Committer(db)
    answers = await asyncio.gather(*(shared.write(said(one)) for one in held))
    assert answers == [None, 6, 6, 6, 6, 6]
    assert await status(db, lost) == "running"
    assert await states(db, others) == ["succeeded"] * 5
    assert await db.fetchval("SELECT count(*) FROM log_lines") == 5
    assert await db.fetchval("SELECT count(*) FROM attempts") == 5


@pytest.mark.parametrize(
    "bad",
    [
        Result({}, "done", rows_affected=2**70),
        Result({"text": "a\x00b"}, "done"),
        Result({}, "done", watermarks={"": object()}),
    ],
    ids=["a number", "a text", "an object"],
)
async def test_a_value_that_history_refuses_fails_its_own_run_only(db, held, bad):
    shared = Committer(db)
    wrong = held.pop(2)
    task = asyncio.create_task(shared.write(end(wrong, bad)))
    answers = await asyncio.gather(*(shared.write(end(one)) for one in held))
    assert answers == [5] * 5
    assert await states(db, held) == ["succeeded"] * 5
    if "object" in repr(bad.watermarks):
        assert await task == 5  # what is no JSON is written as its text
    else:
        with pytest.raises(REFUSED):
            await task
        assert await status(db, wrong) == "running"


async def test_a_run_whose_row_is_locked_keeps_nobody_waiting(db, held, database_url):
    shared = Committer(db)
    locked, *others = held
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("SELECT 1 FROM nomaflow.runs WHERE id = $1 FOR UPDATE", locked.run_id)
        late = asyncio.create_task(shared.write(end(locked)))
        async with asyncio.timeout(5):
            assert await asyncio.gather(*(shared.write(end(one)) for one in others)) == [5] * 5
        assert not late.done()
    await other.close()
    assert await late == 5


async def test_a_move_that_was_cancelled_while_it_waited_is_not_written(db, held, database_url):
    shared = Committer(db)
    async with slow_lines(database_url) as other:
        flying = []
        for one in held[: committer.AT_ONCE]:
            flying.append(asyncio.create_task(shared.write(said(one))))
            await waiting_for_lines(other, len(flying))
        gone, stays = (asyncio.create_task(shared.write(end(one))) for one in held[-2:])
        await asyncio.sleep(0)
        gone.cancel()
        flying[0].cancel()
    assert await stays == 5
    assert await asyncio.gather(*flying[1:]) == [6] * (committer.AT_ONCE - 1)
    assert await status(db, held[-2]) == "running"
    assert await status(db, held[0]) == "succeeded"  # it was on its way


async def test_whoever_waits_hears_of_a_broken_connection_and_the_next_batch_goes_on(
    db, held, database_url
):
    shared = Committer(db)
    async with slow_lines(database_url) as other:
        broken = [asyncio.create_task(shared.write(said(one))) for one in held[:2]]
        await waiting_for_lines(other, 1)
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks "
            "WHERE relation = 'nomaflow.log_lines'::regclass AND NOT granted"
        )
        for task in broken:
            with pytest.raises((OSError, *db.Error)):
                await task
    assert await shared.write(end(held[2])) == 5
    assert await states(db, held[:3]) == ["running", "running", "succeeded"]


async def test_two_runs_of_a_job_move_one_watermark_in_one_commit(db, held):
    shared = Committer(db)
    results = [Result({}, "done", watermarks={"orders": str(n)}) for n in range(3)]
    writings = [end(one, result) for one, result in zip(held, results, strict=False)]
    assert await asyncio.gather(*(shared.write(one) for one in writings)) == [5] * 3
    rows = await db.fetch("SELECT job_name, name, value, run_id FROM watermarks")
    assert [tuple(row) for row in rows] == [("job", "orders", "2", held[2].run_id)]


async def test_many_movers_of_many_moments_are_all_answered(db):
    """Senders come and go: nobody who arrives as one ends may be forgotten."""
    async with db.transaction() as connection:
        for _ in range(120):
            steps = [NewStep(name, "http") for name in "abc"]
            run = NewRun(job_name="job", trigger="api", triggered_by="api", steps=steps)
            await births.insert(connection, run)
    taken = await claims.claim(db, "w1", limit=200, lease_seconds=60, tags=["default"])
    shared = Committer(db)

    async def carry(held):
        for onward in (Onward(opens=1), Onward(opens=2), Onward()):
            move = moves.succeed(held, DONE, onward)
            assert await shared.write(Writing(move)) is not None
            held = held.after(move)

    async with asyncio.timeout(30):
        await asyncio.gather(*(carry(claimed.held) for claimed in taken))
    assert await db.fetchval("SELECT count(*) FROM runs WHERE status = 'succeeded'") == 120
    assert await db.fetchval("SELECT count(DISTINCT xmin::text) FROM runs") < 60
