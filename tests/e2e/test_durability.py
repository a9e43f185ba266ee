"""Redis, a worker, everything goes away and comes back while work goes on: nothing is lost."""

import asyncio
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import redis.asyncio as redis

CAPACITY = 4


class SlowApi:
    """Answers after three seconds; `asked` tells when a request has come."""

    def __init__(self):
        self.asked = threading.Event()
        slow = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                slow.asked.set()
                time.sleep(3)
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b'{"late": true}')

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """Its client was killed: that is the point."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture(scope="module")
def slow_api():
    api = SlowApi()
    yield api
    api.server.shutdown()
    api.server.server_close()


@pytest.fixture(scope="module")
def up(start, work_project, slow_api, make_database):
    settings = {"NOMAFLOW_WORKER_CAPACITY": str(CAPACITY), "NOMAFLOW_LEASE_SECONDS": "3"}
    installation = start(work_project, **settings)
    (work_project / ".env").write_text(
        f"SLOW_URL={slow_api.url}\n"
        f"OPS_DB_URL={make_database(installation, 'ops')}\n"
        f"REPORTING_DB_URL={make_database(installation, 'reporting')}\n"
    )
    return installation


async def test_redis_is_flushed_while_twenty_runs_wait(up):
    await up.ended(await up.trigger("notes-table"))
    busy = [await up.trigger("sleeper", params={"seconds": 4}) for _ in range(CAPACITY)]
    await asyncio.gather(*(up.running(run_id, "sql") for run_id in busy))
    waiting = [await up.trigger("quick") for _ in range(20)]
    client = redis.from_url(up.state.redis_url)
    await client.flushall()
    await client.aclose()
    assert {(await up.run(run_id))["status"] for run_id in waiting} == {"QUEUED"}

    ended = await up.all_ended(busy + waiting)

    assert {run["status"] for run in ended} == {"SUCCEEDED"}
    async with up.database() as connection:
        noted = await connection.fetch("SELECT run FROM public.notes")
    assert sorted(row["run"] for row in noted) == sorted(waiting)


async def test_a_killed_workers_get_is_asked_again_by_the_next(up, slow_api):
    slow_api.asked.clear()
    run_id = await up.trigger("asks")
    assert await asyncio.to_thread(slow_api.asked.wait, 15)
    victim = up.pid("worker")
    os.kill(victim, signal.SIGKILL)

    run = await up.ended(run_id)

    assert up.pid("worker") not in {None, victim}
    assert run["status"] == "SUCCEEDED", run
    assert run["interruptions"] == 1
    before, get, after = run["steps"]
    assert len(before["attempts"]) == 1
    assert [a["status"] for a in get["attempts"]] == ["FAILED", "SUCCEEDED"]
    assert "worker" in get["attempts"][0]["error"]["message"]
    assert after["output"] == {"body": {"late": True}}


async def test_a_killed_workers_copy_is_done_again_whole(up):
    run_id = await up.trigger("copies")
    await up.until(run_id, lambda e: e["__typename"] == "StepProgressed")
    os.kill(up.pid("worker"), signal.SIGKILL)

    run = await up.ended(run_id)

    assert run["status"] == "SUCCEEDED", run
    assert run["interruptions"] == 1
    async with up.database("reporting") as connection:
        assert (
            await connection.fetchval("SELECT count(DISTINCT id) FROM reporting.orders") == 500_000
        )
        tables = """SELECT array_agg(tablename::text ORDER BY 1) FROM pg_tables
                    WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"""
        assert await connection.fetchval(tables) == ["customers", "orders"]


async def test_everything_is_there_again_after_a_restart(up):
    run_id = await up.trigger("layers")
    before = await up.ended(run_id)
    assert up.stop() == 0
    up.start()
    assert await up.run(run_id) == before
    assert (await up.ended(await up.trigger("layers")))["status"] == "SUCCEEDED"
