"""Jobs that depend on others: due times, manual starts, waiting, and circles that are refused."""

from datetime import timedelta
from textwrap import dedent

import pytest
from clockwork import HOUR, MINUTE, SECOND, STEP, T0, declare, end_runs, fired, slots, tick_through

from nomaflow import dispatch, replay
from nomaflow.birth import Request
from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import catalog
from nomaflow.project.folder import Project
from nomaflow.store import waits
from nomaflow_scheduler import fire
from nomaflow_scheduler.fire import Ticked


async def upstream(db, bell, name="x"):
    await catalog.create(db, bell, {"name": name, "steps": [STEP]}, by="test")


async def run(db, bell, name="x", status="succeeded", at=None):
    """One run of the other job that has ended in that way."""
    started = await start(db, bell, name)
    if status != "queued":
        await end_runs(db, status, at, name)
    return started


async def start(db, bell, name, **facts):
    request = Request(job=name, trigger="api", triggered_by="api", **facts)
    return await dispatch.start(db, bell, request)


async def test_each_state_of_the_other_job_has_its_reason(db, bell):
    await upstream(db, bell)
    clock = await declare(db, bell, schedule="* * * * *", depends_on=["x"])
    await fire.tick(db, bell, at=T0)
    await run(db, bell, status="queued")
    await fire.tick(db, bell, at=T0 + MINUTE)
    await end_runs(db, "failed", job="x")
    await fire.tick(db, bell, at=T0 + 2 * MINUTE)
    await run(db, bell, status="partial")
    await fire.tick(db, bell, at=T0 + 3 * MINUTE)
    await run(db, bell)
    await fire.tick(db, bell, at=T0 + 4 * MINUTE)
    assert await slots(db, clock) == [
        (0 * MINUTE, "skipped", "dependency-never-ran: x"),
        (1 * MINUTE, "skipped", "dependency-still-running: x"),
        (2 * MINUTE, "skipped", "dependency-failed: x"),
        (3 * MINUTE, "skipped", "dependency-failed: x"),
        (4 * MINUTE, "fired", None),
    ]
    rows = await db.fetch("SELECT * FROM runs WHERE job_name = 'j' ORDER BY scheduled_for")
    assert [row["status"] for row in rows] == [*["skipped"] * 4, "queued"]
    assert rows[0]["reason"] == "dependency-never-ran: x"
    steps = "SELECT count(*) FROM step_runs WHERE run_id = $1"
    assert await db.fetchval(steps, rows[0]["id"]) == 0


async def test_every_dependency_must_have_succeeded(db, bell):
    for name in ("x", "y"):
        await upstream(db, bell, name)
    await declare(db, bell, schedule="* * * * *", depends_on=["x", "y"])
    await run(db, bell, "x")
    await fire.tick(db, bell, at=T0)
    assert await db.fetchval("SELECT reason FROM runs WHERE job_name = 'j'") == (
        "dependency-never-ran: y"
    )


async def test_manual_starts_heed_it_and_a_replay_does_not(db, bell):
    await upstream(db, bell)
    await catalog.create(db, bell, {"name": "j", "steps": [STEP], "depends_on": ["x"]}, by="test")
    started = await start(db, bell, "j")
    assert (started.status, started.reason) == ("skipped", "dependency-never-ran: x")
    assert (await start(db, bell, "j", dry_run=True)).status == "queued"
    await end_runs(db, "aborted")
    again = await replay.start(db, bell, replay.Again(run_id=started.run_id, triggered_by="ann"))
    assert again.status == "queued"
    await end_runs(db, "aborted")
    await run(db, bell)
    assert (await start(db, bell, "j")).status == "queued"


async def test_dry_runs_of_the_other_job_do_not_count(db, bell):
    await upstream(db, bell)
    await catalog.create(db, bell, {"name": "j", "steps": [STEP], "depends_on": ["x"]}, by="test")
    await start(db, bell, "x", dry_run=True)
    await end_runs(db)
    assert (await start(db, bell, "j")).reason == "dependency-never-ran: x"


LATEST = [{"job": "x", "since": "today", "by": "12:30"}]


async def test_it_waits_for_the_other_job_and_fires_when_that_is_done(db, bell):
    await upstream(db, bell)
    clock = await declare(db, bell, schedule="0 12 * * *", depends_on=LATEST)
    await run(db, bell, at=T0 - 13 * HOUR)  # yesterday's success does not count
    await tick_through(db, bell, T0, T0 + 10 * MINUTE, MINUTE)
    ((_, outcome, reason),) = await slots(db, clock)
    assert (outcome, reason) == (
        "waiting",
        "dependency-never-ran: x (it has not succeeded today)",
    )
    assert await db.fetchval("SELECT deadline FROM slots") == T0 + 30 * MINUTE
    await run(db, bell, at=T0 + 10 * MINUTE)
    assert (await waits.wake_since(db, None)).count == 1
    assert await fire.tick(db, bell, at=T0 + 10 * MINUTE + 5 * SECOND) == Ticked(fired=1)
    assert await slots(db, clock) == [(timedelta(), "fired", None)]
    assert await fired(db, "j") == [timedelta()]


async def test_after_the_deadline_it_is_skipped_even_if_the_other_job_succeeds_later(db, bell):
    await upstream(db, bell)
    clock = await declare(db, bell, schedule="0 12 * * *", depends_on=LATEST)
    await fire.tick(db, bell, at=T0)
    await run(db, bell, at=T0 + 40 * MINUTE)
    # no scheduler was there between
    assert await fire.tick(db, bell, at=T0 + 50 * MINUTE) == Ticked(skipped=1)
    assert (await slots(db, clock))[0][1:] == ("skipped", "dependency-never-ran: x")
    row = await db.fetchrow("SELECT status, reason FROM runs WHERE job_name = 'j'")
    assert tuple(row) == ("skipped", "dependency-never-ran: x")


async def test_a_success_before_the_deadline_counts_though_nobody_saw_it(db, bell):
    await upstream(db, bell)
    await declare(db, bell, schedule="0 12 * * *", depends_on=LATEST)
    await fire.tick(db, bell, at=T0)
    await run(db, bell, at=T0 + 20 * MINUTE)
    assert await fire.tick(db, bell, at=T0 + 50 * MINUTE) == Ticked(fired=1)


async def test_circles_of_api_jobs_are_refused_with_their_way(db, bell):
    await upstream(db, bell, "a")
    await catalog.create(db, bell, {"name": "b", "steps": [STEP], "depends_on": ["a"]}, by="t")
    await catalog.create(db, bell, {"name": "c", "steps": [STEP], "depends_on": ["b"]}, by="t")
    with pytest.raises(NomaflowError) as refused:
        await catalog.update(db, bell, {"name": "a", "steps": [STEP], "depends_on": ["c"]}, by="t")
    assert refused.value.code is Code.CYCLE
    assert "`a` → `c` → `b` → `a`" in refused.value.message
    assert refused.value.path == ("depends_on", "0")


FILES = """
[[jobs]]
name = "{name}"
{more}
[[jobs.steps]]
name = "s"
type = "sql_query"
connector = "default"
query = "SELECT 1"
"""


def written(**jobs):
    return "".join(FILES.format(name=name, more=dedent(more)) for name, more in jobs.items())


async def test_circles_and_missing_names_of_files_are_told_with_file_and_line(db, bell, tmp_path):
    await catalog.create(db, bell, {"name": "api", "steps": [STEP], "depends_on": ["f"]}, by="t")
    text = written(
        good='depends_on = ["gone"]\ncalendar = "nowhere"', f='depends_on = ["api"]', free=""
    )
    (tmp_path / "jobs.toml").write_text(text)
    project = Project(tmp_path)
    await catalog.sync(db, bell, project)
    rows = await db.fetch("SELECT file, line, message FROM catalog_problems ORDER BY line, message")
    told = [tuple(row) for row in rows]
    assert [where[:2] for where in told] == [("jobs.toml", 2), ("jobs.toml", 2), ("jobs.toml", 12)]
    assert "depends on `gone`, and there is no such job" in told[0][2]
    assert "there is no calendar `nowhere`" in told[1][2]
    assert "`f` → `api` → `f`" in told[2][2]
    there = await db.fetch("SELECT name FROM jobs WHERE deleted_at IS NULL ORDER BY name")
    assert [row[0] for row in there] == ["api", "free", "good"]
    # calendars and blackouts of the file are kept, and the problem goes
    (tmp_path / "calendars.toml").write_text(
        dedent(
            """
            [calendars.nowhere]
            weekdays = ["mon"]
            [[blackouts]]
            name = "move"
            from = 2030-01-01T00:00:00Z
            until = 2030-01-02T00:00:00Z
            jobs = ["*"]
            """
        )
    )
    await catalog.sync(db, bell, project)
    assert await db.fetchval("SELECT count(*) FROM catalog_problems") == 2
    assert await db.fetchval("SELECT origin FROM blackouts") == "file"
    assert await db.fetchval("SELECT calendar FROM schedules") is None
    (tmp_path / "calendars.toml").unlink()
    await catalog.sync(db, bell, project)
    assert await db.fetchval("SELECT count(*) FROM blackouts") == 0
    assert await db.fetchval("SELECT count(*) FROM calendars") == 0
