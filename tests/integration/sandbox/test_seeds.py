"""The functions of seeds 000 and 001 as they stand there, against PostgreSQL and a local API."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from nomaflow.errors import FunctionError, StepError
from nomaflow.steps.base import EarlierStep

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = Path(__file__).parents[3] / "examples"
TABLES = """
CREATE TABLE releases (
  id BIGINT PRIMARY KEY, repo TEXT NOT NULL, tag TEXT NOT NULL, name TEXT,
  published_at TIMESTAMPTZ NOT NULL, body TEXT, synced_at TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""
SANITY = """
    # plugins/reporting/sanity.py
    async def assert_row_counts(ctx, *, threshold_percent: float = 50.0, **_) -> dict:
        source = ctx.get_connector("ops-db")
        target = ctx.get_connector("reporting-db")
        src_count = await source.scalar("select count(*) from public.customers")
        tgt_count = await target.scalar("select count(*) from reporting.customers")
        delta = abs(src_count - tgt_count) / max(tgt_count, 1) * 100
        ctx.log.info(f"source={src_count} · target={tgt_count} · delta={delta:.1f}%")
        if delta > threshold_percent:
            raise RuntimeError(f"row-count delta {delta:.1f}% > threshold {threshold_percent}%")
        return {"source_rows": src_count, "target_rows": tgt_count, "delta_percent": delta}
"""
# The sample of the seed, to the letter.
PAGINATED = """
    import os

    async def upsert_paginated(ctx, *, repo, target_connector, **_):
        fetched = 0
        page = 1
        while True:
            url = f"https://api.github.com/repos/{repo}/releases?per_page=100&page={page}"
            # Use httpx or the framework's HTTP client
            items = await ctx.http.get(url, headers={"Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}"})
            if not items: break
            # ... upsert ...
            fetched += len(items)
            page += 1
        return {"fetched": fetched, "pages": page - 1}
"""  # noqa: E501


def release(number: int) -> dict[str, object]:
    return {
        "id": number,
        "tag_name": f"v{number}",
        "name": f"Release {number}",
        "published_at": f"2026-01-{number % 28 + 1:02d}T12:00:00Z",
        "body": 'it\'s "fine" :now and ::text',
    }


@pytest.fixture
def api() -> Iterator[str]:
    """An API of 250 releases in pages; /odd answers what an API should not."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = parse_qs(url.query)
            if url.path == "/odd":
                return self.answer(503, b'{"error": "try later"}', **{"Retry-After": "7"})
            if self.headers.get("Authorization") != "Bearer t0ken-t0ken":
                return self.answer(401, b'{"message": "Bad credentials"}')
            size, page = int(query["per_page"][0]), int(query["page"][0])
            items = [release(n) for n in range(1, 251)][(page - 1) * size : page * size]
            return self.answer(200, json.dumps(items).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kind = self.headers["Content-Type"]
            self.answer(201, json.dumps({"got": body, "as": kind}).encode())

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            every = {"Content-Type": "application/json; charset=utf-8", **headers}
            for name, value in every.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()


async def run(url: str, *statements: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetch(statements[-1])
    finally:
        await connection.close()


async def test_seed_000_upserts_every_release(workshop, pg_url):
    source = EXAMPLES / "hourly-api-pull" / "plugins" / "releases" / "sync.py"
    workshop.write("releases/sync.py", source.read_text())
    workshop.ear.connectors = {"default": {"kind": "sql", "url": pg_url}}
    await run(pg_url, TABLES)
    body = [release(number) for number in range(1, 31)]
    for status, expected in (
        (200, {"fetched": 30, "inserted": 30, "updated": 0}),
        (200, {"fetched": 30, "inserted": 0, "updated": 30}),
        (500, None),
    ):
        fetched = EarlierStep("fetch-releases", "succeeded", {"status": status, "body": body})
        call = workshop.call(
            "releases.sync:upsert_releases",
            params={"target_connector": "default", "repo": "a/b", "dry": False},
            earlier={"fetch-releases": fetched},
        )
        if expected:
            assert await call == expected
        else:
            with pytest.raises(FunctionError, match="GitHub returned status 500"):
                await call
    ear = workshop.ear
    assert ("INFO", "upserted 30 releases · 30 new · 0 updated") in ear.lines
    assert [name for name, _ in ear.backends] == ["default", "default"]
    rows = await run(pg_url, "SELECT tag, body, published_at FROM releases WHERE id = 7")
    assert rows[0]["body"] == 'it\'s "fine" :now and ::text'
    assert rows[0]["published_at"].isoformat() == "2026-01-08T12:00:00+00:00"
    names = await run(
        pg_url, "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'nomaflow:run-1%'"
    )
    assert names == []


async def test_seed_001_compares_row_counts(workshop, pg_url):
    workshop.write("reporting/sanity.py", SANITY)
    table = {"kind": "sql", "url": pg_url}
    workshop.ear.connectors = {"ops-db": table, "reporting-db": table}
    await run(
        pg_url,
        "CREATE SCHEMA reporting",
        "CREATE TABLE public.customers AS SELECT generate_series(1, 30) AS id",
        "CREATE TABLE reporting.customers AS SELECT generate_series(1, 40) AS id",
        "SELECT 1",
    )
    name = "reporting.sanity:assert_row_counts"
    counts = {"source_rows": 30, "target_rows": 40, "delta_percent": 25.0}
    assert await workshop.call(name, kwargs={"threshold_percent": 50}) == counts
    assert workshop.ear.lines == [("INFO", "source=30 · target=40 · delta=25.0%")]
    with pytest.raises(FunctionError) as failed:
        await workshop.call(name, kwargs={"threshold_percent": "20"})
    assert failed.value.message == "row-count delta 25.0% > threshold 20.0%"
    assert failed.value.failure.type == "RuntimeError"


async def test_a_statement_that_fails_says_where_in_the_function(workshop, pg_url):
    workshop.write(
        "m.py",
        """
        async def f(ctx):
            await ctx.get_connector("default").execute("select * from nowhere")
        """,
    )
    workshop.ear.connectors = {"default": {"kind": "sql", "url": pg_url}}
    with pytest.raises(FunctionError, match="nowhere") as failed:
        await workshop.call("m:f")
    assert 'File "plugins/m.py", line 3, in f' in failed.value.failure.traceback


async def test_seed_000_reads_every_page(workshop, api):
    workshop.write("m.py", PAGINATED.replace("https://api.github.com", api))
    params = {"repo": "a/b", "target_connector": "default"}
    token = {"GITHUB_TOKEN": "t0ken-t0ken"}
    answer = await workshop.call("m:upsert_paginated", params=params, environ=token)
    assert answer == {"fetched": 250, "pages": 3}


async def test_a_refused_request_says_which_and_why_without_its_secrets(workshop, api):
    workshop.write("m.py", PAGINATED.replace("https://api.github.com", api))
    params = {"repo": "a/b", "target_connector": "default"}
    with pytest.raises(StepError) as failed:
        await workshop.call("m:upsert_paginated", params=params, environ={"GITHUB_TOKEN": "wr0ng"})
    assert failed.value.http_status == 401
    assert failed.value.output["status"] == 401
    assert "answered 401" in failed.value.message
    assert "Bad credentials" in failed.value.message
    assert "wr0ng" not in failed.value.message


async def test_http_options_and_failures(workshop, api):
    workshop.write(
        "m.py",
        """
        async def post(ctx, api):
            return await ctx.http.post(f"{api}/x", json={"a": 1}, headers={"X-A": "b"})
        async def busy(ctx, api):
            await ctx.http.get(f"{api}/odd")
        async def nobody(ctx, api):
            await ctx.http.get("http://127.0.0.1:47/x")
        async def mistaken(ctx, api):
            await ctx.http.get(api, jsn={})
        async def named(ctx, api):
            github = ctx.get_connector("github")
            return len(await github.get("releases", params={"per_page": 40, "page": 1}))
        """,
    )
    workshop.ear.connectors = {
        "github": {
            "kind": "http",
            "url": f"{api}/repos/a/b",
            "auth": {"type": "bearer", "token": "t0ken-t0ken"},
        }
    }

    async def call(name):
        return await workshop.call(f"m:{name}", kwargs={"api": api})

    assert await call("post") == {"got": {"a": 1}, "as": "application/json"}
    assert await call("named") == 40
    with pytest.raises(StepError) as busy:
        await call("busy")
    assert (busy.value.http_status, busy.value.retry_after) == (503, 7)
    with pytest.raises(StepError) as nobody:
        await call("nobody")
    assert nobody.value.category == "connection"
    with pytest.raises(FunctionError, match=r"ctx\.http does not take 'jsn'"):
        await call("mistaken")


async def test_functions_of_the_second_vocabulary_ask_by_name(workshop, pg_url):
    workshop.write(
        "m.py",
        """
        async def f(connectors, params, logger, run_id, job_id, step_name, session_user, period):
            logger.info(f"{job_id}/{step_name} for {session_user}")
            count = await connectors["default"].scalar("select 40 + :n", {"n": 2})
            return [count, params["period"], period, run_id, sorted(connectors)]
        """,
    )
    workshop.ear.connectors = {"default": {"kind": "sql", "url": pg_url}}
    answer = await workshop.call("m:f", params={"period": "2026-01"}, session_user="alice")
    assert answer == [42, "2026-01", "2026-01", "run-1", ["default"]]
    assert workshop.ear.lines == [("INFO", "job-1/step-1 for alice")]


async def test_statements_of_a_stopped_function_end_on_the_server(workshop, pg_url):
    workshop.write(
        "m.py",
        """
        async def f(ctx):
            ctx.log.info("pid 0")
            await ctx.get_connector("default").execute("select pg_sleep(600)")
        """,
    )
    workshop.ear.connectors = {"default": {"kind": "sql", "url": pg_url}}
    call = asyncio.create_task(workshop.call("m:f", timeout_seconds=600))
    await workshop.ear.pids(1)
    sleeping = "SELECT pid FROM pg_stat_activity WHERE query = 'select pg_sleep(600)'"
    while not await run(pg_url, sleeping):
        await asyncio.sleep(0.02)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(3):
        while await run(pg_url, sleeping):
            await asyncio.sleep(0.05)
