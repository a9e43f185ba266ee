"""What a job says of its clocks: catching up, calendars, dependencies, presets with a cron."""

import tomllib

import pytest

from nomaflow.errors import Code
from nomaflow.job import uses
from nomaflow.job.spec import JobSpec, SpecErrors

STEP = {"name": "s", "type": "sql_query", "connector": "default", "query": "SELECT 1"}


def job(**fields):
    return {"name": "j", "steps": [STEP], **fields}


CLOCKS = {
    "schedule": "0 2 * * *",
    "timezone": "Europe/Paris",
    "catch_up": "ALL",
    "catch_up_limit": 3,
    "catch_up_window_minutes": 90,
    "jitter_seconds": 2.5,
    "calendar": "business-days",
    "dependencies": ["x", {"job": "y", "since": "today", "by": "09:00"}],
    "install_step": 7,
    "schedules": [
        {"name": "q", "every": "1h", "catch_up": "last", "calendar": "", "preset": "p"},
        {"name": "r", "cron": "@daily", "jitter_seconds": 0, "catch_up_limit": 9},
    ],
    "presets": [
        {"name": "p", "schedule": "0 * * * *", "timezone": "UTC"},
        {"name": "z", "schedule": "@hourly"},
        {"name": "w", "schedule": ""},
    ],
}


def test_what_clocks_say_survives_every_form():
    spec = JobSpec.parse(job(**CLOCKS))
    assert JobSpec.parse(spec.canonical()) == spec
    assert JobSpec.restore(spec.canonical()) == spec
    assert JobSpec.parse(tomllib.loads(spec.to_toml())["jobs"][0]) == spec
    assert spec.canonical()["depends_on"] == [
        "x",
        {"job": "y", "since": "today", "by": "09:00"},
    ]
    assert (spec.catch_up, spec.install_step, spec.calendar) == ("all", 7, "business-days")


def test_presets_with_a_cron_are_clocks():
    spec = JobSpec.parse(job(**CLOCKS))
    clocks = {clock.name: clock for clock in spec.clocks}
    assert list(clocks) == ["default", "q", "r", "p", "z"]
    assert (clocks["p"].preset, clocks["p"].timezone) == ("p", "UTC")
    assert clocks["z"].timezone == "Europe/Paris"
    assert [name for name in clocks if spec.fires_when_disabled(name)] == ["p", "z"]


def test_a_job_may_not_depend_on_itself():
    with pytest.raises(SpecErrors) as refused:
        JobSpec.parse(job(name="j", depends_on=["j"]))
    (problem,) = refused.value.problems
    assert (problem.code, problem.path) == (Code.CYCLE, ("depends_on", "0"))
    assert "`j` → `j`" in problem.message


def test_the_connectors_of_a_job_are_those_its_steps_name():
    steps = [
        {"name": "q", "type": "sql_query", "connector": "${kw:where}", "query": "SELECT 1"},
        {"name": "w", "type": "http", "connector": "github", "url": "/x"},
    ]
    spec = JobSpec.parse(job(params={"where": "default"}, steps=steps))
    assert uses.connectors(spec) == ("default", "github")
    assert uses.connectors(spec, {"where": "other"}) == ("github", "other")
