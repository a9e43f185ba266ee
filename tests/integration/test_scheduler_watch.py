"""What a scheduler keeps an eye on: runs that take long, runs that wait long, who is active."""

import asyncio
import contextlib
import shutil
import tempfile
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from nomaflow import dispatch
from nomaflow.alert_spec import Channels, ChannelSpec
from nomaflow.birth import Request
from nomaflow.broker import connection
from nomaflow.broker.bell import WORKER_QUEUE, Bell
from nomaflow.broker.lock import Lock
from nomaflow.embedded.servers import EmbeddedServers
from nomaflow.errors import Failure
from nomaflow.in_force import catalog
from nomaflow.lifecycle import Onward, Result
from nomaflow.moves import fail, release, succeed
from nomaflow.retry import RetryPolicy
from nomaflow.store import claims, deliveries, runs, schedules
from nomaflow_scheduler import net, rescue, watch
from nomaflow_scheduler.clock import Clock
from nomaflow_scheduler.lead import LOCK, Lead, State

STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}
OPS = Channels({"ops": ChannelSpec(kind="slack", url="https://slack.invalid", default=True)})


@pytest.fixture
async def redis(redis_url):
    opened = connection.connect(redis_url, queue=net.QUEUE)
    yield opened
    await opened.aclose()


@pytest.fixture
async def bell(redis):
    async with Bell(redis) as made:
        yield made


async def declare(db, bell, **fields):
    return await catalog.create(db, bell, {"name": "j", "steps": [STEP], **fields}, by="test")


async def start(db, bell):
    request = Request(job="j", trigger="api", triggered_by="api")
    return (await dispatch.start(db, bell, request)).run_id


async def begin(db, bell, limit_minutes=90):
    await declare(db, bell, alerts={"on_long_run_minutes": limit_minutes})
    await start(db, bell)
    (claimed,) = await claims.claim(db, "w", limit=1, lease_seconds=600, tags=["default"])
    return claimed


async def test_a_long_run_is_warned_of_exactly_once_and_goes_on(db, bell):
    run = await begin(db, bell)
    began = run.started_at
    late = began + timedelta(minutes=92)
    assert await watch.look(db, bell, OPS, at=began + timedelta(minutes=89)) == 0
    looks = await asyncio.gather(*(watch.look(db, bell, OPS, at=late) for _ in range(4)))
    assert sum(looks) == 1
    assert await watch.look(db, bell, OPS, at=late + timedelta(days=1)) == 0

    (message,) = await deliveries.of_run(db, run.run_id)
    assert (message.event, message.channel, message.status) == ("long_run", "ops", "pending")
    assert message.payload["minutes"] == 92
    assert message.payload["limit_minutes"] == "90"
    assert message.payload["state"] == "running"
    line = await db.fetchrow("SELECT * FROM log_lines WHERE run_id = $1", run.run_id)
    assert line["level"] == 30
    assert line["message"].startswith("still running after 92 minutes")

    move = succeed(run.held, Result({}, "done"), Onward())
    assert await runs.apply(db, move) is not None  # its worker noticed nothing


async def test_a_run_that_waits_for_its_next_try_counts_as_running(db, bell):
    run = await begin(db, bell)
    again = fail(run.held, Failure("E", "no luck"), RetryPolicy(attempts=3, base_seconds=3600))
    await runs.apply(db, again)
    held = run.held.after(again)
    await runs.apply(db, release(held, "attempt 2 of 3 in 3600 s", not_before_seconds=3600))
    assert await watch.look(db, bell, OPS, at=run.started_at + timedelta(minutes=91)) == 1
    assert len(await deliveries.of_run(db, run.run_id)) == 1


async def test_jobs_without_a_limit_and_runs_that_are_over_are_left_alone(db, bell):
    await declare(db, bell, alerts={"on_failure": True})
    await start(db, bell)
    (run,) = await claims.claim(db, "w", limit=1, lease_seconds=600, tags=["default"])
    assert await watch.look(db, bell, OPS, at=run.started_at + timedelta(days=9)) == 0


async def test_the_limit_of_the_revision_the_run_was_born_with_counts(db, bell):
    run = await begin(db, bell, limit_minutes=90)
    raw = {"name": "j", "steps": [STEP], "alerts": {"on_long_run_minutes": 1}}
    await catalog.update(db, bell, raw, by="test")
    assert await watch.look(db, bell, OPS, at=run.started_at + timedelta(minutes=60)) == 0


async def test_a_run_whose_ring_was_lost_is_rung_again(db, bell, redis):
    await declare(db, bell)
    run_id = await start(db, bell)
    async with asyncio.timeout(5):
        while not await redis.zcard(WORKER_QUEUE):
            await asyncio.sleep(0.01)
    await redis.flushall()
    assert await rescue.ring_again(db, bell, seconds=60) == 0
    await db.execute("UPDATE runs SET queued_at = now() - interval '61 seconds'")
    assert await rescue.ring_again(db, bell, seconds=60) == 1
    async with asyncio.timeout(5):
        while not (rings := await redis.zrange(WORKER_QUEUE, 0, -1)):
            await asyncio.sleep(0.01)
    assert rings[0].decode().startswith(str(run_id))


def lead(redis, name, *, enabled=True, seconds=5.0):
    return Lead(Lock(redis, LOCK, name, seconds), enabled=enabled)


async def test_one_scheduler_is_active_the_other_stands_by_and_takes_over(redis):
    first, second = lead(redis, "a"), lead(redis, "b")
    assert await first.look() is State.ACTIVE
    assert await second.look() is State.STANDBY
    assert (first.may_fire, second.may_fire) == (True, False)
    await first.leave()
    assert await second.look() is State.ACTIVE
    assert await first.look() is State.STANDBY


async def test_the_lock_of_a_dead_scheduler_runs_out(redis):
    assert await lead(redis, "dead", seconds=0.05).look() is State.ACTIVE
    other = lead(redis, "b")
    async with asyncio.timeout(5):
        while await other.look() is not State.ACTIVE:
            await asyncio.sleep(0.01)


async def test_a_scheduler_in_trouble_gives_the_lock_back_and_goes_on_trying(redis):
    first, second = lead(redis, "a"), lead(redis, "b")
    await first.look()
    first.went_wrong()
    assert await first.look() is State.ERROR
    assert first.may_fire
    assert await second.look() is State.ACTIVE
    first.went_well()
    assert await first.look() is State.STANDBY


async def test_without_redis_everyone_may_fire():
    redis = Redis.from_url("redis://127.0.0.1:1/0")
    both = lead(redis, "a"), lead(redis, "b")
    assert [await one.look() for one in both] == [State.ACTIVE, State.ACTIVE]
    await redis.aclose()


async def test_a_disabled_scheduler_never_takes_the_lock(redis):
    off = lead(redis, "off", enabled=False)
    assert await off.look() is State.DISABLED
    assert not off.may_fire
    assert await lead(redis, "b").look() is State.ACTIVE


async def due_now(db, bell):
    job = await declare(db, bell, schedule="0 0 1 1 *")
    clock = (await schedules.of_job(db, job.id))[0].id
    await db.execute(
        "UPDATE schedules SET next_fire_at = now(), look_at = now() WHERE id = $1", clock
    )


async def a_run(db):
    async with asyncio.timeout(10):
        while not (found := await db.fetch("SELECT * FROM runs")):
            await asyncio.sleep(0.01)
    return found


@contextlib.asynccontextmanager
async def running(work):
    task = asyncio.create_task(work)
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_our_own_loop_sleeps_to_the_next_due_time(db, bell, redis):
    active = lead(redis, "a")
    await active.look()
    job = await declare(db, bell, schedule="0 0 1 1 *")
    clock = (await schedules.of_job(db, job.id))[0].id
    await db.execute(
        """UPDATE schedules SET next_fire_at = now() + interval '0.4 s',
             look_at = now() + interval '0.4 s'
           WHERE id = $1""",
        clock,
    )
    async with running(Clock(db, bell, active).run()):
        (run,) = await a_run(db)
    delay = (run["queued_at"] - run["scheduled_for"]).total_seconds()
    assert 0 <= delay < 0.3


async def test_the_loop_wakes_when_a_job_changes(db, bell, redis):
    active = lead(redis, "a")
    await active.look()
    clock = Clock(db, bell, active)
    async with running(clock.run()):
        await asyncio.sleep(0)
        await due_now(db, bell)
        clock.wake()
        assert len(await a_run(db)) == 1


async def test_arqs_cron_ticks_when_nobody_else_does(db, bell, redis):
    standby = lead(redis, "a")  # nobody holds the lock, and no loop of ours runs
    await due_now(db, bell)
    async with running(net.run(redis, Clock(db, bell, standby))):
        assert len(await a_run(db)) == 1


@pytest.fixture
async def own_valkey():
    home = Path(tempfile.mkdtemp(prefix="nomaflow-valkey-", dir="/tmp"))
    server = EmbeddedServers(home, durable=False, postgres=False)
    await server.start()
    yield server
    await server.stop()
    shutil.rmtree(home, ignore_errors=True)


async def test_arqs_worker_is_started_again_when_redis_comes_back(db, bell, own_valkey):
    redis = connection.connect(own_valkey.redis_url, queue=net.QUEUE)
    clock = Clock(db, bell, lead(redis, "a"))
    with capture_logs() as said:
        async with running(net.run(redis, clock)), asyncio.timeout(20):
            while not await redis.exists(net.QUEUE + ":health-check"):
                await asyncio.sleep(0.01)
            await own_valkey.stop()
            while not any("arq queue is away" in line["event"] for line in said):
                await asyncio.sleep(0.01)
            await due_now(db, bell)
            await own_valkey.start()
            assert len(await a_run(db)) == 1
    await redis.aclose()


async def test_arq_runs_without_pickle_without_retries_and_in_utc(db, bell, redis):
    worker = net.worker(redis, Clock(db, bell, lead(redis, "a")))
    assert worker.queue_name == "nomaflow:schedulers"
    assert (worker.max_tries, worker.retry_jobs, worker.keep_result_s) == (1, False, 0)
    assert worker.timezone is UTC
    assert worker.job_serializer({"f": "tick"}) == b'{"f": "tick"}'
