"""`python -m nomaflow_api` as a program: it answers without a database and ends when told to."""

import asyncio
import os
import signal
import sys

import httpx
import pytest

from nomaflow_api.__main__ import listen

from .conftest import TOKEN


async def start(**settings):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NOMAFLOW_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "nomaflow_api",
        env=clean | {f"NOMAFLOW_{name}": str(value) for name, value in settings.items()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture
def port():
    with listen("127.0.0.1", 0) as free:
        return free.getsockname()[1]


async def test_it_answers_while_the_database_is_away_and_ends_in_good_order(tmp_path, port):
    program = await start(
        DATABASE_URL="postgresql://nobody:a-secret-password@127.0.0.1:1/none",
        REDIS_URL="redis://127.0.0.1:1/0",
        ADMIN_TOKEN=TOKEN,
        PORT=port,
        PROJECT=tmp_path,
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        async with asyncio.timeout(60):
            while True:
                try:
                    health = await client.get("/health")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
        assert health.status_code == 200
        ready = await client.get("/ready")
        assert ready.status_code == 503
        assert {"database", "redis"} <= set(ready.json()["missing"])
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await client.post(
            "/graphql", json={"query": "{ viewer { name } }"}, headers=headers
        )
        assert answer.status_code == 503
        assert answer.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
        answer = await client.post("/admin/jobs/x/run", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
    program.send_signal(signal.SIGTERM)
    out, log = await asyncio.wait_for(program.communicate(), 20)
    assert program.returncode == 0, log
    assert out == b""
    assert b"waiting for the database" in log
    assert TOKEN.encode() not in log
    assert b"a-secret-password" not in log


async def test_what_it_cannot_start_with_is_a_sentence(tmp_path, port):
    urls = {"DATABASE_URL": "postgresql://a@127.0.0.1:1/b", "REDIS_URL": "redis://127.0.0.1:1/0"}
    with listen("127.0.0.1", port):
        programs = [
            await start(**urls, PORT=port),
            await start(**urls, ADMIN_TOKEN=TOKEN, PORT=port),
            await start(ADMIN_TOKEN=TOKEN, PORT=port),
        ]
        said = [await asyncio.wait_for(program.communicate(), 60) for program in programs]
    assert [program.returncode for program in programs] == [2, 2, 2]
    words = [error.decode() for _, error in said]
    assert "NOMAFLOW_ADMIN_TOKEN is not set" in words[0]
    assert f"cannot listen on 127.0.0.1:{port}" in words[1]
    assert "NOMAFLOW_DATABASE_URL is not set" in words[2]
    assert all("Traceback" not in text for text in words)
