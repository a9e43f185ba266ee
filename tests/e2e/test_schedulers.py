"""Two real scheduler processes on one database: every second fires once, whoever lives or dies."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from nomaflow.store import database

JOBS = """
[[jobs]]
name = "every-second"
schedule = "* * * * * *"
overlap = "allow"
steps = [{ name = "a", type = "sql_query", connector = "default", query = "SELECT 1" }]
"""


@pytest.fixture
async def db(database_url):
    opened = await database.connect(database_url, max_size=4)
    yield opened
    await opened.close()


@pytest.fixture
def project(tmp_path):
    (tmp_path / "jobs.toml").write_text(JOBS)
    return tmp_path


@asynccontextmanager
async def scheduler(project, database_url, redis_url, stderr=None, **settings):
    """One scheduler as a process of its own, ended with the block."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NOMAFLOW_")}
    environment = clean | {
        "NOMAFLOW_PROJECT": str(project),
        "NOMAFLOW_DATABASE_URL": database_url,
        "NOMAFLOW_REDIS_URL": redis_url,
        "NOMAFLOW_LOG_FORMAT": "json",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nomaflow_scheduler", env=environment, cwd=project, stderr=stderr
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def states(db):
    rows = await db.fetch(
        """SELECT details ->> 'pid' AS pid, state FROM processes
           WHERE seen_at > now() - interval '10 seconds'"""
    )
    return {int(row["pid"]): row["state"] for row in rows}


async def until(db, sql, wanted, seconds=40):
    """Wait until a count reaches what is wanted."""
    async with asyncio.timeout(seconds):
        while await db.fetchval(sql) < wanted:
            await asyncio.sleep(0.05)


async def fires(db):
    rows = await db.fetch("SELECT scheduled_for FROM runs ORDER BY scheduled_for")
    return [row["scheduled_for"] for row in rows]


def every_second_of(times):
    return [times[0] + timedelta(seconds=n) for n in range(len(times))]


async def test_no_second_is_lost_or_doubled_while_schedulers_come_die_and_go(
    db, database_url, redis_url, project
):
    count = "SELECT count(*) FROM runs"
    async with (
        scheduler(project, database_url, redis_url) as one,
        scheduler(project, database_url, redis_url) as two,
    ):
        await until(db, "SELECT count(*) FROM processes WHERE state IN ('active', 'standby')", 2)
        await until(db, count, 4)
        by_pid = await states(db)
        assert sorted(by_pid.values()) == ["active", "standby"]
        active = one if by_pid[one.pid] == "active" else two
        other = two if active is one else one

        active.send_signal(signal.SIGKILL)
        await until(db, count, (await db.fetchval(count)) + 4)
        await until(
            db,
            "SELECT count(*) FROM processes WHERE state = 'active' "
            f"AND details ->> 'pid' = '{other.pid}'",
            1,
        )

        async with scheduler(project, database_url, redis_url):
            await until(db, count, 14)
            other.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(other.wait(), 15) == 0
            assert other.pid not in await states(db)
            await until(db, count, (await db.fetchval(count)) + 3)

    times = await fires(db)
    assert times == every_second_of(times)
    assert await db.fetchval("SELECT count(*) FROM slots WHERE outcome <> 'fired'") == 0


async def test_a_disabled_scheduler_lives_and_never_fires(db, database_url, redis_url, project):
    off = {"NOMAFLOW_SCHEDULER_ENABLED": "false"}
    async with scheduler(project, database_url, redis_url, **off) as process:
        await until(db, "SELECT count(*) FROM processes WHERE state = 'disabled'", 1)
        await until(db, "SELECT count(*) FROM jobs", 1)  # it still loads the project
        await db.execute(
            """UPDATE schedules SET next_fire_at = now() - interval '3 s',
                 look_at = now() - interval '3 s'"""
        )
        await asyncio.sleep(2.5)  # nothing happens, which no event can tell
        assert await fires(db) == []
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_a_scheduler_without_a_database_waits_for_it_and_can_be_told_to_stop(
    project, redis_url
):
    nowhere = "postgresql://u:secret-of-ours@127.0.0.1:1/x"
    async with scheduler(project, nowhere, redis_url, stderr=PIPE) as process:
        line = (await asyncio.wait_for(process.stderr.readline(), 20)).decode()
        assert "waiting for the database" in line
        assert "secret-of-ours" not in line
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_wrong_settings_are_told_in_a_sentence(project, redis_url):
    async with scheduler(project, "mysql://x", redis_url) as process:
        assert await asyncio.wait_for(process.wait(), 15) == 2
