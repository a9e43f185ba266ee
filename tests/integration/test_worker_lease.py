"""Leases and lost answers: what a worker does not know of runs out, what it took it carries out."""

import asyncio

import pytest
from workshop import working, workshop

from nomaflow import moves
from nomaflow.lifecycle import Onward, Result
from nomaflow.masking import Masker
from nomaflow.store import claims
from nomaflow_worker.committer import Committer
from nomaflow_worker.journal import Journal
from nomaflow_worker.record import LostClaimError, Record, UnwritableError

JOB = """
    [[jobs]]
    name = "j"
    overlap = "allow"
    steps = [{{ name = "a", type = "sql_query", connector = "default", query = "{query}" }}]
"""


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as made:
        await made.declare(JOB.format(query="SELECT pg_sleep(0.2)"))
        yield made


async def claim(shop, owner, **more):
    (claimed,) = await claims.claim(
        shop.db, owner, limit=1, lease_seconds=15, tags=["default"], **more
    )
    return claimed


async def expire(shop, run_id):
    await shop.db.execute(
        "UPDATE runs SET lease_expires_at = now() - interval '1 s' WHERE id = $1", run_id
    )


async def test_a_claim_whose_answer_was_lost_is_carried_out_as_if_it_had_come(shop):
    run_id = await shop.trigger("j")
    await claim(shop, "w1")
    async with working(shop, "w1") as supervisor:
        supervisor._unheard = False
        supervisor.wake()
        run = await shop.end(run_id)
    assert (run["status"], run["interruptions"]) == ("succeeded", 0)


async def test_an_expired_run_whose_claim_was_not_heard_of_counts_as_interrupted(shop):
    run_id = await shop.trigger("j")
    await claim(shop, "gone")
    await expire(shop, run_id)
    await shop.db.execute("UPDATE runs SET lease_owner = 'w1', worker = 'w1'")
    async with working(shop, "w1") as supervisor:
        supervisor._unheard = True
        supervisor.wake()
        run = await shop.end(run_id)
    assert (run["status"], run["interruptions"]) == ("succeeded", 1)


async def test_a_worker_prolongs_only_what_it_is_at(shop):
    run_id = await shop.trigger("j")
    await claim(shop, "w1")
    await shop.db.execute(
        "UPDATE runs SET lease_expires_at = now() + interval '2 s' WHERE id = $1", run_id
    )
    async with working(shop, "w1", lease=3):
        run = await shop.end(run_id, 10)
    assert (run["status"], run["interruptions"]) == ("succeeded", 1)


async def test_after_a_silence_the_runs_go_to_whoever_comes(shop):
    await shop.declare(JOB.format(query="SELECT pg_sleep(1.5)"))
    async with working(shop, "w1", lease=3) as supervisor:
        run_id = await shop.trigger("j")
        await shop.until(run_id, "a", "running")
        supervisor.silence()
        async with asyncio.timeout(2):
            while supervisor.running:
                await asyncio.sleep(0.02)
        run = await shop.end(run_id, 10)
    assert (run["status"], run["interruptions"]) == ("succeeded", 1)


async def test_the_interrupted_attempt_names_the_worker_that_is_gone(shop):
    run_id = await shop.trigger("j")
    await claim(shop, "gone")
    await expire(shop, run_id)
    async with working(shop, "w1", lease=3):
        await shop.end(run_id)
    rows = await shop.db.fetch("SELECT worker FROM attempts ORDER BY number")
    assert [row["worker"] for row in rows] == ["gone", "w1"]


async def test_a_claim_made_while_the_worker_begins_to_drain_is_handed_back_unused(shop):
    async with working(shop, "w1") as supervisor:
        for _ in range(8):
            await shop.trigger("j")
        await supervisor.drain(10)
        left = await shop.db.fetch("SELECT * FROM runs WHERE status = 'running'")
    assert left == []
    assert await shop.db.fetchval("SELECT count(*) FROM attempts WHERE status = 'failed'") == 0


async def record(shop):
    run_id = await shop.trigger("j")
    claimed = await claim(shop, "w1")
    journal = Journal(
        shop.db,
        shop.bell,
        run_id,
        claimed.held.fence,
        lambda: Masker(()),
        level="INFO",
        already=0,
        max_lines=1000,
        max_bytes=1000,
    )
    return Record(shop.db, shop.bell, Committer(shop.db), claimed.held, journal)


async def test_a_move_that_history_refuses_for_good_is_not_tried_for_ever(shop):
    made = await record(shop)
    move = moves.succeed(made.held, Result({}, "done", rows_affected=2**70), Onward())
    async with asyncio.timeout(5):
        with pytest.raises(UnwritableError):
            await made.write(move)


async def test_a_move_that_was_written_although_the_answer_was_lost_is_not_written_again(shop):
    made = await record(shop)
    move = moves.succeed(made.held, Result({}, "done"), Onward())
    await Record(shop.db, shop.bell, Committer(shop.db), made.held, made.journal).write(move)
    assert await made._was_written(move)


async def test_a_lost_claim_ends_the_wait_for_the_database(shop):
    made = await record(shop)

    async def away():
        made.lost = True
        raise ConnectionRefusedError

    with pytest.raises(LostClaimError):
        await made.read(away)
