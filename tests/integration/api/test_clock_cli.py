"""The commands about time, run as a person runs them, against a real API."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nomaflow.in_force import catalog
from nomaflow_scheduler import fire

from .conftest import TOKEN

NOMAFLOW = Path(sys.executable).parent / "nomaflow"
STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}


@pytest.fixture
def shell(api, tmp_path):
    """Run `nomaflow ...`; status, output and errors."""

    async def run(*arguments):
        process = await asyncio.create_subprocess_exec(
            NOMAFLOW,
            *arguments,
            env={
                **os.environ,
                "NOMAFLOW_URL": api.url,
                "NOMAFLOW_TOKEN": TOKEN,
                "TZ": "America/New_York",
            },
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return process.returncode, out.decode().rstrip("\n"), err.decode().rstrip("\n")

    return run


async def declare(api, name="copy", **fields):
    raw = {"name": name, "steps": [STEP], **fields}
    await catalog.create(api.db, api.backing.bell, raw, by="test")


def midnight(days=1):
    now = datetime.now(UTC)
    return datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=days)


async def test_the_coming_day_of_all_jobs(api, shell):
    await declare(api, schedule="0 12 * * *", timezone="Europe/Paris")
    await declare(api, "mail", schedule="0 12 * * *", timezone="Europe/Paris")
    await declare(api, "manual")
    status, out, err = await shell("schedule")
    assert status == 0
    head, *lines = out.splitlines()
    assert head.split() == ["HERE", "THERE", "JOB", "SCHEDULE", "NOTE"]
    assert [line.split()[6:] for line in lines] == [
        ["copy", "default", "collides"],
        ["mail", "default", "collides"],
    ]
    assert "12:00:00 Europe/Paris" in lines[0]
    assert err.startswith("2 fires, the first in ")
    assert err.endswith("2 collide, 0 are closed.")
    _, out, _ = await shell("schedule", "--days", "7", "--job", "mail", "--json")
    fires = json.loads(out)
    assert len(fires) == 7
    assert {fire["job"] for fire in fires} == {"mail"}
    assert fires[0]["timezone"] == "Europe/Paris"


async def test_what_is_closed_is_shown_with_its_reason(api, shell):
    await declare(api, schedule="0 12 * * *")
    assert (await shell("blackout", "set", "x", "--until", "2d", "--job", "*", "--apply"))[0] == 0
    _, out, err = await shell("schedule")
    assert "blackout: x until " in out
    assert err == "0 fires; 0 collide, 1 is closed."


async def test_a_job_that_is_not_there_is_told(api, shell):
    await declare(api, "nightly-copy")
    quiet = ("--job", "nightly-copy")
    assert await shell("schedule", *quiet) == (0, "", "Nothing fires in that time.")
    assert await shell("slots", *quiet) == (0, "", "Nothing was due in that time.")
    for command in ("schedule", "slots"):
        status, out, err = await shell(command, *quiet, "--job", "nightly-cpy")
        assert (status, out) == (2, "")
        assert "there is no job `nightly-cpy`; did you mean `nightly-copy`?" in err


async def test_an_expression_is_previewed_without_any_api(shell):
    status, out, _ = await shell(
        "schedule", "preview", "0 9 * * mon#1", "-z", "Asia/Tokyo", "-n", "2"
    )
    assert status == 0
    said, *fires = out.splitlines()
    assert said == "At 09:00 on the first Monday of the month"
    assert len(fires) == 2
    assert "09:00:00 JST" in fires[0]
    _, out, _ = await shell("schedule", "preview", "90m", "--count", "1", "--json")
    assert json.loads(out)["description"] == "Every 90 minutes"
    status, out, err = await shell("schedule", "preview", "0 25 * * *")
    assert (status, out) == (2, "")
    assert "hour `25` must be 0 to 23" in err
    assert (await shell("schedule", "preview", "* * * * *", "-z", "Nowhere"))[0] == 2
    for out_of_range in ("400d", "0s"):
        status, _, err = await shell("schedule", "preview", out_of_range)
        assert status == 2
        assert f"interval `{out_of_range}` must be between 1 second and 366 days" in err


async def test_what_became_of_due_times(api, shell):
    assert await shell("slots") == (0, "", "Nothing was due in that time.")
    await declare(api, schedule="* * * * *")
    await api.db.execute(
        """UPDATE schedules SET next_fire_at = date_trunc('minute', now()) - interval '3 minutes',
             look_at = date_trunc('minute', now()) - interval '3 minutes'"""
    )
    await fire.tick(api.db, api.backing.bell)
    status, out, _ = await shell("slots", "--until", "2030-01-01")
    assert status == 0
    assert "missed: no scheduler fired it" in out
    assert "queued" in out
    _, told, _ = await shell("slots", "--outcome", "fired", "--json", "--since", "1h")
    (slot,) = json.loads(told)
    assert len(slot["run"]["id"]) == 36
    (_, *lines) = out.splitlines()
    assert len(lines) > 1
    # Whoever asks wants to know what happened just now, however much happened since yesterday.
    _, out, err = await shell("slots", "--limit", "1", "--job", "copy", "--until", "2030-01-01")
    assert out.splitlines()[1:] == lines[-1:]
    assert err.startswith("Earlier ones are left out; these are the newest 1.")
    _, out, err = await shell("slots", "--until", "2030-01-01", "--limit", str(len(lines)))
    assert (out.splitlines()[1:], err) == (lines, "")
    status, _, err = await shell("slots", "--since", "yesterday")
    assert status == 2
    assert "--since `yesterday` is no moment" in err
    status, _, err = await shell("slots", "--until", "400d")
    assert status == 2
    assert "--until `400d` is out of range; write 1 second to 366 days" in err
    status, _, err = await shell("slots", "--outcome", "lost")
    assert status == 2
    assert "`lost` is no outcome" in err


async def test_a_job_is_paused_and_resumed(api, shell):
    await declare(api, schedule="0 * * * *")
    status, out, _ = await shell("job", "pause", "copy", "--until", "2d")
    assert status == 0
    assert out.startswith("copy is paused until ")
    assert (await api.db.fetchval("SELECT updated_by FROM jobs")).startswith("cli:")
    _, out, _ = await shell("job", "list")
    assert "paused until " in out
    _, out, _ = await shell("job", "resume", "copy", "--json")
    assert json.loads(out)["pausedUntil"] is None
    status, _, err = await shell("job", "pause", "nobody", "--until", "1h")
    assert (status, err) == (2, "nomaflow: there is no job `nobody`")


async def test_the_whole_scheduler_is_paused_and_resumed(api, shell):
    assert (await shell("scheduler", "pause"))[1] == "The scheduler is paused: no clock fires."
    assert await api.db.fetchval("SELECT paused FROM scheduler_switch")
    assert json.loads((await shell("scheduler", "resume", "--json"))[1]) == {"paused": False}


async def test_one_schedule_is_switched(api, shell):
    await declare(api, schedules=[{"name": "hourly", "cron": "0 * * * *"}])
    assert (await shell("schedule", "disable", "copy", "hourly"))[
        1
    ] == "Schedule hourly of copy is off."
    status, out, _ = await shell("schedule", "enable", "copy", "hourly", "--reset-count")
    assert status == 0
    assert out.startswith("Schedule hourly of copy is on; it fires next ")
    status, _, err = await shell("schedule", "enable", "copy", "daily")
    assert status == 2
    assert "has no schedule `daily`; it has `hourly`" in err


async def test_a_blackout_is_looked_at_saved_listed_and_deleted(api, shell):
    await declare(api, schedule="0 * * * *")
    await declare(api, "report", schedule="30 1 1 1 *", depends_on=["copy"])
    begin = midnight().strftime("%Y-%m-%dT%H:%M:%SZ")
    end = (midnight() + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    window = ("blackout", "set", "dark", "--from", begin, "--until", end, "--job", "cop*")
    status, out, err = await shell(*window)
    assert status == 0
    assert "report depends on copy." in out
    assert out.endswith("6 due times would be skipped, 0 postponed.")
    assert err == "Nothing is saved yet; say --apply to save it."
    assert await shell("blackout", "list") == (0, "", "There is no blackout.")
    status, out, _ = await shell(*window, "--postpone", "--apply", "--json")
    assert json.loads(out)["applied"] is True
    _, out, _ = await shell("blackout", "list")
    assert out.splitlines()[1].split()[-3] == "cop*"
    assert json.loads((await shell("blackout", "list", "--json"))[1])[0]["action"] == "postpone"
    assert (await shell("blackout", "delete", "dark"))[1] == "Blackout dark is deleted."
    status, _, err = await shell("blackout", "delete", "dark")
    assert (status, err) == (2, "nomaflow: there is no blackout `dark`")
    status, _, err = await shell("blackout", "set", "dark", "--until", "1h")
    assert status == 2
    assert "say which jobs it stops" in err


async def test_an_installation_is_followed_to_its_end(api, shell, worker):
    assert await shell("job", "install") == (0, "", "Nothing is to be installed.")
    await declare(api, "first", install_step=1)
    await declare(api, "second", install_step=2)
    running = asyncio.create_task(shell("job", "install"))
    for _ in range(2):
        async with asyncio.timeout(15):
            while not await api.db.fetchval("SELECT count(*) FROM runs WHERE status = 'queued'"):
                await asyncio.sleep(0.05)
        await worker.done(await worker.claim())
    status, out, err = await running
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["first", "succeeded"],
        ["second", "succeeded"],
    ]
    assert json.loads((await shell("job", "install", "--json"))[1]) == {"runs": []}
