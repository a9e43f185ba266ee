"""Closing clocks over GraphQL: what a blackout would do, pauses, single schedules, all of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from nomaflow.in_force import catalog
from nomaflow_scheduler import fire

STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}
SET = """mutation ($input: BlackoutInput!, $apply: Boolean) {
  blackoutSet(input: $input, apply: $apply) { effect applied errors { code message path } } }"""
DELETE = """mutation ($name: String!) {
  blackoutDelete(name: $name) { deleted errors { code message path } } }"""
BLACKOUTS = "{ blackouts { name from until jobs connectors action origin by } }"
PAUSE = """mutation ($name: String!, $until: DateTime) { jobPause(name: $name, until: $until) {
  job { pausedUntil nextFireAt updatedBy } errors { code message path } } }"""
ENABLE = """mutation ($schedule: String!, $on: Boolean!, $reset: Boolean) {
  scheduleEnable(job: "j", schedule: $schedule, enabled: $on, resetCount: $reset) {
    job { schedules { name enabled fireCount nextFireAt } } errors { code message path } } }"""
SWITCH = "mutation ($on: Boolean!) { schedulerPause(paused: $on) { paused errors { code } } }"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def midnight(days=1):
    now = datetime.now(UTC)
    return datetime(now.year, now.month, now.day, tzinfo=UTC) + days * DAY


def text(at):
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def declare(api, name="j", **fields):
    raw = {"name": name, "schedule": "0 * * * *", "steps": [STEP], **fields}
    return await catalog.create(api.db, api.backing.bell, raw, by="test")


def window(**changes):
    usual = {
        "name": "migration",
        "from": text(midnight()),
        "until": text(midnight() + 6 * HOUR),
        "jobs": ["*"],
    }
    return usual | changes


async def blackout(api, apply=False, **changes):
    return (await api.query(SET, input=window(**changes), apply=apply))["blackoutSet"]


async def test_the_effect_of_a_blackout_is_told_before_it_is_saved(api):
    await declare(api, "load")
    await declare(api, "report", schedule="30 8 * * *", depends_on=["load"])
    await declare(api, "mail", schedule="0 9 * * *", depends_on=["report"])
    await declare(api, "other", schedule="0 12 * * *")
    told = await blackout(api, jobs=["load"])
    assert (told["applied"], told["errors"]) == (False, [])
    assert told["effect"] == {
        "skipped": 6,
        "postponed": 0,
        "exact": True,
        "jobs": [
            {
                "job": "load",
                "schedule": "default",
                "skipped": 6,
                "postponed": 0,
                "first": text(midnight()),
                "last": text(midnight() + 5 * HOUR),
                "firesAfter": text(midnight() + 6 * HOUR),
            }
        ],
        "jobsNotShown": 0,
        "dependants": [
            {"job": "mail", "dependsOn": ["report"]},
            {"job": "report", "dependsOn": ["load"]},
        ],
        "alertsAtRisk": [],
    }
    assert (await api.query(BLACKOUTS))["blackouts"] == []
    postponed = (await blackout(api, jobs=["load"], action="postpone"))["effect"]
    assert (postponed["skipped"], postponed["postponed"]) == (0, 6)
    assert postponed["jobs"][0]["firesAfter"] == text(midnight() + 6 * HOUR)


async def test_a_blackout_is_saved_shown_changed_and_deleted(api):
    await declare(api)
    saved = await blackout(api, apply=True)
    assert (saved["applied"], saved["effect"]["skipped"]) == (True, 6)
    (shown,) = (await api.query(BLACKOUTS))["blackouts"]
    assert shown == {
        "name": "migration",
        "from": text(midnight()),
        "until": text(midnight() + 6 * HOUR),
        "jobs": ["*"],
        "connectors": [],
        "action": "skip",
        "origin": "api",
        "by": "api",
    }
    # Its own effect is told again when it is changed, not what is left beside itself.
    changed = await blackout(api, apply=True, until=text(midnight() + 3 * HOUR))
    assert changed["effect"]["skipped"] == 3
    other = await blackout(api, name="second")
    assert other["effect"]["skipped"] == 3
    gone = (await api.query(DELETE, name="migration"))["blackoutDelete"]
    assert gone == {"deleted": "migration", "errors": []}
    (error,) = (await api.query(DELETE, name="migration"))["blackoutDelete"]["errors"]
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["name"])


async def test_a_blackout_of_a_connector_stops_the_jobs_that_use_it(api):
    await declare(api, "uses")
    step = {"name": "a", "type": "http", "url": "https://example.org"}
    await declare(api, "not", steps=[step])
    told = await blackout(api, jobs=None, connectors=["default"])
    assert [job["job"] for job in told["effect"]["jobs"]] == ["uses"]


@pytest.fixture
def declared(project):
    """A blackout of the project's file."""
    begin, end = text(midnight()), text(midnight(2))
    (project / "calendars.toml").write_text(
        f'[[blackouts]]\nname = "migration"\nfrom = {begin}\nuntil = {end}\njobs = ["*"]\n'
    )


async def test_a_file_s_blackout_is_changed_in_the_file(declared, api):
    async with asyncio.timeout(10):
        while not (await api.query(BLACKOUTS))["blackouts"]:
            await asyncio.sleep(0.05)
    for answer in (
        await blackout(api, apply=True),
        await blackout(api),
        (await api.query(DELETE, name="migration"))["blackoutDelete"],
    ):
        (error,) = answer["errors"]
        assert error["code"] == "CONFLICT"
        assert "calendars.toml" in error["message"]
    (shown,) = (await api.query(BLACKOUTS))["blackouts"]
    assert (shown["origin"], shown["until"]) == ("file", text(midnight(2)))


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"name": "a b"}, ["name"], "letters, digits"),
        ({"until": text(midnight() - HOUR)}, ["until"], "later than `from`"),
        ({"from": text(midnight(-3)), "until": text(midnight(-2))}, ["until"], "in the past"),
        ({"until": text(midnight(500))}, ["until"], "at most 366 days"),
        ({"jobs": []}, ["jobs"], "say which jobs"),
        ({"jobs": ["a b"]}, ["jobs", "0"], "neither a name nor a pattern"),
        ({"jobs": ["[!]*"] * 101}, ["jobs"], "at most 100"),
        ({"action": "delay"}, ["action"], "skip or postpone"),
    ],
)
async def test_a_mistake_is_data_with_its_place_and_changes_nothing(api, changes, path, said):
    (error,) = (await blackout(api, apply=True, **changes))["errors"]
    assert (error["code"], error["path"]) == ("INVALID", path)
    assert said in error["message"]
    assert (await api.query(BLACKOUTS))["blackouts"] == []


async def test_all_mistakes_of_a_blackout_are_told_at_once(api):
    wrong = {"name": "a b", "until": text(midnight() - HOUR), "action": "delay"}
    errors = (await blackout(api, **wrong))["errors"]
    assert [error["path"] for error in errors] == [["name"], ["until"], ["action"]]


async def test_an_effect_too_large_to_count_says_so_soon(api):
    await declare(api, schedule="* * * * * *")
    told = (await blackout(api, until=text(midnight(300))))["effect"]
    assert told["exact"] is False
    assert told["skipped"] >= 10_000


async def test_a_job_is_paused_until_a_time_and_goes_on_from_now(api):
    await declare(api)
    until = midnight(3)
    paused = (await api.query(PAUSE, name="j", until=text(until)))["jobPause"]
    assert paused["job"] == {
        "pausedUntil": text(until),
        "nextFireAt": text(until),
        "updatedBy": "api",
    }
    on = (await api.query(PAUSE, name="j"))["jobPause"]["job"]
    assert on["pausedUntil"] is None
    assert datetime.fromisoformat(on["nextFireAt"]) <= datetime.now(UTC) + HOUR
    for name, until, code in (
        ("nobody", midnight(1), "NOT_FOUND"),
        ("j", midnight(-1), "INVALID"),
        ("j", midnight(9_000), "INVALID"),
    ):
        (error,) = (await api.query(PAUSE, name=name, until=text(until)))["jobPause"]["errors"]
        assert error["code"] == code


async def enable(api, schedule, on, reset=None):
    return (await api.query(ENABLE, schedule=schedule, on=on, reset=reset))["scheduleEnable"]


def clock(answer, name):
    return next(c for c in answer["job"]["schedules"] if c["name"] == name)


async def test_one_schedule_is_switched_and_its_count_begins_anew(api):
    await declare(
        api,
        schedule=None,
        schedules=[
            {"name": "three", "every": "1h", "fire_on_start": True, "max_fires": 1},
            {"name": "hourly", "cron": "0 * * * *"},
            {"name": "off", "cron": "0 * * * *", "enabled": False},
        ],
    )
    await fire.tick(api.db, api.backing.bell)
    off = await enable(api, "hourly", on=False)
    assert clock(off, "hourly") == {
        "name": "hourly",
        "enabled": False,
        "fireCount": 0,
        "nextFireAt": None,
    }
    spent = clock(off, "three")
    assert (spent["fireCount"], spent["nextFireAt"]) == (1, None)
    assert clock(await enable(api, "hourly", on=True), "hourly")["nextFireAt"] is not None
    # Switched on alone it stays spent; with its count reset it fires at once, as at its start.
    assert clock(await enable(api, "three", on=True), "three")["nextFireAt"] is None
    anew = clock(await enable(api, "three", on=True, reset=True), "three")
    assert anew["fireCount"] == 0
    assert datetime.fromisoformat(anew["nextFireAt"]) <= datetime.now(UTC)

    (error,) = (await enable(api, "nothing", on=True))["errors"]
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["schedule"])
    assert "`hourly`, `off`, `three`" in error["message"]
    (error,) = (await enable(api, "off", on=True))["errors"]
    assert (error["code"], error["path"]) == ("CONFLICT", ["schedule"])


async def test_the_whole_scheduler_is_paused_and_manual_runs_are_free(api):
    await declare(api)
    assert (await api.query(SWITCH, on=True))["schedulerPause"] == {"paused": True, "errors": []}
    assert (await api.query("{ system { schedulerPaused } }"))["system"]["schedulerPaused"] is True
    started = await api.query(
        'mutation { runTrigger(input: { job: "j" }) { run { status } errors { code } } }'
    )
    assert started["runTrigger"] == {"run": {"status": "QUEUED"}, "errors": []}
    assert (await api.query(SWITCH, on=False))["schedulerPause"]["paused"] is False
    both = await asyncio.gather(*(api.query(SWITCH, on=on) for on in (True, True, False, True)))
    assert {"paused": True, "errors": []} in [answer["schedulerPause"] for answer in both]


async def test_a_pause_of_a_job_is_a_change_that_listeners_hear(api):
    await declare(api)
    async with api.socket() as socket:
        await socket.subscribe("subscription { jobsChanged { name change job { pausedUntil } } }")
        assert (await socket.next())["jobsChanged"]["change"] == "snapshot"
        await api.query(PAUSE, name="j", until=text(midnight(2)))
        assert (await socket.next())["jobsChanged"] == {
            "name": "j",
            "change": "paused",
            "job": {"pausedUntil": text(midnight(2))},
        }
        await api.query(PAUSE, name="j")
        assert (await socket.next())["jobsChanged"]["change"] == "resumed"
