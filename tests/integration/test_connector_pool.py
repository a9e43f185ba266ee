"""Connections are bounded, waited for, given back clean, and end with whoever holds them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest

from nomaflow.connectors import check, spec, sql
from nomaflow.errors import StepError

SIZE = 3


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def table(request, tmp_path):
    """A connector of each database, with few connections."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/a.db"
    else:
        fixture = {"postgresql": "pg_url", "mysql": "mariadb_url"}[request.param]
        url = request.getfixturevalue(fixture)
    return {"kind": "sql", "url": url, "pool_size": SIZE, "pool_wait_seconds": 0.2}


@pytest.fixture
async def pool(table):
    made = sql.pool("shop", spec.parse(table))
    yield made
    await made.close()


async def test_who_finds_none_free_is_told_after_a_while(pool):
    users = [pool.connector(sql.Session()) for _ in range(SIZE)]
    for user in users:
        assert await user.scalar("SELECT 1") == 1
    late = pool.connector(sql.Session())
    with pytest.raises(StepError, match=rf"all {SIZE} connections are in use") as caught:
        await late.scalar("SELECT 1")
    assert (caught.value.category, caught.value.retryable) == ("connection", True)
    assert "`pool_size` (3)" in caught.value.message
    await users[0].close()
    assert await late.scalar("SELECT 1") == 1
    for user in (*users[1:], late):
        await user.close()


async def test_many_users_share_few_connections(table):
    """A hundred steps at once, some of them cancelled or failing, never hold more than the size."""
    pool = sql.pool("shop", spec.parse({**table, "pool_wait_seconds": 60}))
    held = most = 0

    async def use(number):
        nonlocal held, most
        user = pool.connector(sql.Session())
        try:
            await user.scalar("SELECT 1")
            held += 1
            most = max(most, held)
            try:
                if number % 7 == 0:
                    with pytest.raises(StepError):
                        await user.execute("SELECT * FROM nowhere")
                await user.scalar("SELECT :n", {"n": number})
            finally:
                held -= 1
        finally:
            await user.close()

    tasks = [asyncio.create_task(use(number)) for number in range(100)]
    for task in tasks[::9]:
        asyncio.get_running_loop().call_later(0.01, task.cancel)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    strange = [r for r in results if r is not None and not isinstance(r, asyncio.CancelledError)]
    assert (strange, most) == ([], SIZE)
    # Nothing was lost: as many connections as before can be had.
    users = [pool.connector(sql.Session()) for _ in range(SIZE)]
    for user in users:
        assert await user.scalar("SELECT 1") == 1
    for user in users:
        await user.close()
    await pool.close()


async def test_a_server_that_does_not_answer_is_given_up():
    # The kernel takes the connection, and nobody ever speaks.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("postgresql", "mysql"):
            url = f"{scheme}://u:sesame-42@127.0.0.1:{port}/d"
            table = {"kind": "sql", "url": url, "connect_timeout_seconds": 0.2}
            opened = sql.open("shop", spec.parse(table))
            started = asyncio.get_running_loop().time()
            with pytest.raises(StepError, match="cannot connect") as caught:
                await opened.scalar("SELECT 1")
            assert asyncio.get_running_loop().time() - started < 2
            assert caught.value.category == "connection"
            assert "sesame" not in caught.value.message
            await opened.close()


CHILD = """
import asyncio, sys
from nomaflow.connectors import check, spec, sql

async def main():
    session = sql.Session("nomaflow:01999999-0000-7000-8000-000000000000:step", print)
    opened = sql.open("shop", spec.parse({"kind": "sql", "url": sys.argv[1]}), session)
    await opened.scalar("SELECT 1")
    print("ready", flush=True)
    await opened.execute(sys.argv[2])

asyncio.run(main())
"""


@pytest.fixture(params=["postgresql", "mysql"])
def server(request):
    """A database server's kind and URL."""
    fixture = {"postgresql": "pg_url", "mysql": "mariadb_url"}[request.param]
    return request.param, request.getfixturevalue(fixture)


async def test_what_a_dead_process_left_behind_is_ended(server):
    dialect, url = server
    words, running = {
        "postgresql": (
            "SELECT pg_sleep(100)",
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(100)'",
        ),
        "mysql": (
            "SELECT SLEEP(100)",
            "SELECT count(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(100)'",
        ),
    }[dialect]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, url, words, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    pool = sql.pool("shop", spec.parse({"kind": "sql", "url": url}))
    watcher = pool.connector(sql.Session())
    try:
        number = int(await process.stdout.readline())
        async with asyncio.timeout(10):
            while not await watcher.scalar(running):
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        # Somebody else's work is not touched, whatever number it has.
        await pool.end(number, "nomaflow:01999999-0000-7000-8000-00000000ffff:step")
        if dialect == "mysql":
            assert await watcher.scalar(running) == 1
        await pool.end(number, "nomaflow:01999999-0000-7000-8000-000000000000:step")
        async with asyncio.timeout(3):
            while await watcher.scalar(running):
                await asyncio.sleep(0.01)
    finally:
        await watcher.close()
        await pool.close()


async def test_a_test_is_red_when_nobody_answers_in_time(monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("postgresql", "mysql"):
            declared = spec.parse({"kind": "sql", "url": f"{scheme}://u:p@127.0.0.1:{port}/d"})
            result = await check.connector("shop", declared)
            assert (result.ok, result.message) == (False, "no answer within 0.3 s")
            assert result.milliseconds < 2000
