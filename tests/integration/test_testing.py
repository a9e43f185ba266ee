"""`nomaflow.testing`: a plugin's function in the plugin's own tests."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from nomaflow import StepContext
from nomaflow.errors import StepError
from nomaflow.plugins import resolve
from nomaflow.step_context import CalledRun
from nomaflow.steps.base import EarlierStep
from nomaflow.testing import TestContext, call

PLUGINS = Path(__file__).parents[2] / "examples" / "hourly-api-pull" / "plugins"
RELEASES = """
CREATE TABLE releases (
  id BIGINT PRIMARY KEY, repo TEXT NOT NULL, tag TEXT NOT NULL, name TEXT,
  published_at TIMESTAMPTZ NOT NULL, body TEXT, synced_at TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""


async def test_a_function_against_a_real_database(pg_url, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "path_hooks", [*sys.path_hooks])
    upsert_releases = resolve.load(PLUGINS, "releases.sync:upsert_releases")
    connection = await asyncpg.connect(pg_url)
    await connection.execute(RELEASES)
    await connection.close()
    release = {"id": 1, "tag_name": "v1", "published_at": "2026-01-01T00:00:00Z"}
    ctx = TestContext(
        connectors={"default": pg_url},
        outputs={"fetch-releases": {"status": 200, "body": [release]}},
    )
    params = {"repo": "a/b", "target_connector": "default"}
    answer = await call(upsert_releases, ctx, params=params)
    assert answer == {"fetched": 1, "inserted": 1, "updated": 0}
    assert ctx.log.lines == [("INFO", "upserted 1 releases · 1 new · 0 updated")]
    again = await call(upsert_releases, ctx, params=params)
    assert again == {"fetched": 1, "inserted": 0, "updated": 1}


class Counts:
    """A connector of the test's own."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def scalar(self, _sql: str) -> int:
        return self.count


async def compare(ctx: StepContext, *, threshold: float, **_: object) -> dict[str, object]:
    counts = [await ctx.get_connector(name).scalar("select 1") for name in ("ops", "rep")]
    ctx.progress(2, 2, "tables")
    return {"difference": counts[0] - counts[1], "too_much": counts[0] - counts[1] > threshold}


async def test_a_function_with_connectors_of_the_tests_own():
    ctx = TestContext(connectors={"ops": Counts(10), "rep": Counts(3)})
    answer = await call(compare, ctx, kwargs={"threshold": "5"})
    assert answer == {"difference": 7, "too_much": True}
    assert ctx.reports == [{"done": 2, "total": 2, "unit": "tables", "message": None}]


async def test_what_a_step_refuses_is_refused_here_too():
    def f(ctx: StepContext, *, n: int) -> object:
        return {"n": n, "user": ctx.session_user, "values": {n}}

    def g(ctx: StepContext) -> object:
        return ctx

    assert await call(f, TestContext(), kwargs={"n": "3"}) == {
        "n": 3,
        "user": "tester",
        "values": [3],
    }
    with pytest.raises(StepError, match="wants 'n' as int"):
        await call(f, TestContext(), kwargs={"n": "x"})
    with pytest.raises(StepError, match="does not take 'm'"):
        await call(f, TestContext(), kwargs={"n": 1, "m": 2})
    with pytest.raises(StepError, match="which JSON cannot hold"):
        await call(g, TestContext())
    with pytest.raises(StepError, match="no connector 'x'"):
        await call(lambda ctx: ctx.get_connector("x"), TestContext())


async def test_state_steps_and_a_dry_run():
    async def f(ctx: StepContext, *, dry_run: bool) -> object:
        ctx.state.set("last", "2026-05-01")
        before = ctx.previous_step("copy")
        return {"was": before.status, "since": ctx.state.get("first", "never"), "dry": dry_run}

    copied = EarlierStep("copy", "failed", {"rows": 1})
    ctx = TestContext(outputs={"copy": copied}, state={"first": "2026-01-01"}, dry_run=True)
    answer = await call(f, ctx, params={"dry_run": False})
    assert answer == {"was": "failed", "since": "2026-01-01", "dry": True}
    assert ctx.state.proposed == {"last": "2026-05-01"}


async def test_runs_of_other_jobs():
    async def f(ctx: StepContext, *, job: str, wait: bool = True) -> object:
        run = await ctx.call_job(job, {"day": date(2026, 5, 1)}, wait=wait)
        return {"status": run.status, "rows": run.output.get("rows"), "id": run.run_id}

    failed = CalledRun("broken", "a-run", "failed", "no rows", None, {})
    ctx = TestContext(jobs={"load": {"rows": 3}, "broken": failed})
    answer = await call(f, ctx, kwargs={"job": "load"})
    assert (answer["status"], answer["rows"]) == ("succeeded", 3)
    assert (await call(f, ctx, kwargs={"job": "load", "wait": False}))["status"] == "queued"
    assert ctx.called == [("load", {"day": "2026-05-01"})] * 2
    with pytest.raises(StepError, match=r"run a-run of job `broken` failed: no rows"):
        await call(f, ctx, kwargs={"job": "broken"})
    with pytest.raises(StepError, match="no job 'laod'"):
        await call(f, ctx, kwargs={"job": "laod"})
    ctx = TestContext(jobs={"load": {}}, dry_run=True)
    assert (await call(f, ctx, kwargs={"job": "load"}))["status"] == "skipped"
    assert ctx.called == []


async def test_a_function_that_answers_with_something_to_await():
    def f(ctx: StepContext) -> object:
        async def later() -> int:
            return 7

        return later()

    assert await call(f, TestContext()) == 7
