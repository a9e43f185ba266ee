"""The recipe examples/morning-report, with real ticks and a real worker."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from workshop import working, workshop

from nomaflow import installation
from nomaflow.in_force import catalog
from nomaflow.installation import By
from nomaflow.project.folder import Project
from nomaflow.store import waits
from nomaflow_scheduler import fire

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "morning-report"
ALWAYS = '[calendars.business-days]\nwindows = ["00:00-24:00"]\n'


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    root = Path(shutil.copytree(EXAMPLE, tmp_path / "project"))
    async with workshop(database_url, redis_url, root) as made:
        yield made


async def sync(shop):
    synced = await catalog.sync(shop.db, shop.bell, shop.project)
    assert synced.problems == 0, await shop.db.fetch("SELECT * FROM catalog_problems")


async def install(shop):
    by = By("cli", "cli:ann", "admin")
    begun = await installation.begin(shop.db, shop.bell, forced=False, by=by)
    async with asyncio.timeout(20):
        while await installation.carry(shop.db, shop.bell):
            await asyncio.sleep(0.05)
    return await installation.reread(shop.db, begun)


async def due(shop, job, at):
    await shop.db.execute(
        """UPDATE schedules SET next_fire_at = $2, look_at = $2
           WHERE name = 'default' AND job_id = (SELECT id FROM jobs WHERE name = $1)""",
        job,
        at,
    )


async def slot(shop, job):
    row = await shop.db.fetchrow(
        """SELECT t.outcome, t.reason, t.run_id FROM slots t
           JOIN schedules s ON s.id = t.schedule_id JOIN jobs j ON j.id = s.job_id
           WHERE j.name = $1 ORDER BY t.due_at DESC LIMIT 1""",
        job,
    )
    return tuple(row)


def test_the_files_have_no_problems():
    project = Project(EXAMPLE)
    assert [*project.read_jobs().problems, *project.other_problems()] == []


async def test_christmas_is_closed_and_says_so(shop):
    await sync(shop)
    christmas = datetime(datetime.now(UTC).year + 1, 12, 25, 7, tzinfo=UTC)
    await due(shop, "load-sales", christmas)
    await fire.tick(shop.db, shop.bell, at=christmas)
    assert await slot(shop, "load-sales") == (
        "skipped",
        f"calendar: business-days is closed on {christmas.year}-12-25 (Christmas)",
        None,
    )


async def test_it_is_installed_and_the_report_waits_for_the_load(shop):
    (shop.root / "calendars.toml").write_text(ALWAYS)  # today may be a Sunday
    await sync(shop)
    async with working(shop):
        done = await install(shop)
        assert [(run.job, run.status) for run in done.runs] == [
            ("create-tables", "succeeded"),
            ("load-history", "succeeded"),
        ]
        now = await shop.db.fetchval("SELECT clock_timestamp()")
        await due(shop, "morning-report", now)
        await fire.tick(shop.db, shop.bell)
        assert await slot(shop, "morning-report") == (
            "waiting",
            "dependency-never-ran: load-sales",
            None,
        )
        load = await shop.run("load-sales")
        assert load["status"] == "succeeded"
        assert (await waits.wake_since(shop.db, None)).count == 1
        await fire.tick(shop.db, shop.bell, at=now + timedelta(seconds=30))
        outcome, _, run_id = await slot(shop, "morning-report")
        assert outcome == "fired"
        report = await shop.end(run_id)
        assert report["status"] == "succeeded"
    async with shop.db.transaction() as connection:
        total = await connection.fetchval("SELECT total FROM public.reports")
    assert total == 600


async def test_the_report_says_why_it_was_not_made(shop):
    (shop.root / "calendars.toml").write_text(ALWAYS)
    await sync(shop)
    async with working(shop):
        run = await shop.run("morning-report")
    assert (run["status"], run["reason"]) == ("skipped", "dependency-never-ran: load-sales")
