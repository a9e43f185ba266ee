"""Time at its ends, and text that is no name: a sentence or an empty answer, never a fault."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from nomaflow.in_force import catalog

STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}
MOMENTS = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1900-02-28T23:59:59.999999Z",
    "2026-12-01T00:00:00Z",
    "9999-12-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-12:00",
    "not a time",
)
NAMES = ("", "\u0000", "\ud800", "x" * 100_000, "j'; DROP TABLE slots; --", "*", "🕰")
FAULTS = {"INTERNAL", "TIMEOUT", "UNAVAILABLE"}


@pytest.fixture(autouse=True)
async def jobs(api):
    for fields in (
        {"name": "j", "schedule": "* * * * *", "timezone": "Australia/Lord_Howe"},
        {"name": "k", "schedules": [{"name": "e", "every": "1h"}], "jitter_seconds": 3600},
    ):
        raw = {"steps": [STEP], **fields}
        await catalog.create(api.db, api.backing.bell, raw, by="test")


async def fault(api, query, **variables):
    """The codes of what may not happen."""
    body = json.dumps({"query": query, "variables": variables})  # lone surrogates stay escapes
    kind = {"Content-Type": "application/json"}
    response = await api.http.post("/graphql", content=body, headers=kind)
    assert response.status_code < 500, response.text
    answer = response.json()
    return {e["extensions"]["code"] for e in answer.get("errors", ())} & FAULTS


async def test_every_window_is_answered(api):
    slots = """query ($since: DateTime!, $until: DateTime!) {
      slots(since: $since, until: $until) { nodes { dueAt } } }"""
    calendar = """query ($since: DateTime!, $until: DateTime!) {
      calendar(since: $since, until: $until, includeClosed: true, first: 5) { nodes { at } } }"""
    for since, until in itertools.product(MOMENTS, repeat=2):
        for query in (slots, calendar):
            assert await fault(api, query, since=since, until=until) == set(), (since, until)


async def test_every_preview_is_answered(api):
    query = """query ($cron: String, $every: Float, $zone: String, $after: DateTime) {
      schedulePreview(cron: $cron, everySeconds: $every, timezone: $zone, first: 100,
                      after: $after) { fires description error remarks } }"""
    crons = (None, "* * * * * *", "0 0 29 2 *", "59 23 31 12 *", "\u0000", "0 0 * * 1#5")
    for cron, after in itertools.product(crons, MOMENTS):
        for every in (None, 31_622_400.0, 1.0):
            variables = {"cron": cron, "every": every, "after": after}
            zone = "Pacific/Apia" if cron else "\u0000"
            assert await fault(api, query, zone=zone, **variables) == set(), variables


async def test_every_deed_is_answered(api):
    pause = """mutation ($name: String!, $at: DateTime) {
      jobPause(name: $name, until: $at) { errors { code } } }"""
    dark = """mutation ($name: String!, $from: DateTime!, $until: DateTime!) {
      blackoutSet(input: { name: $name, from: $from, until: $until, jobs: ["*"] }) {
        effect errors { code } } }"""
    delete = "mutation ($name: String!) { blackoutDelete(name: $name) { errors { code } } }"
    switch = """mutation ($name: String!) {
      a: scheduleEnable(job: $name, schedule: "e", enabled: true) { errors { code } }
      b: scheduleEnable(job: "j", schedule: $name, enabled: true) { errors { code } } }"""
    for name, at in itertools.product(("j", *NAMES), MOMENTS):
        assert await fault(api, pause, name=name, at=at) == set(), (name, at)
    for since, until in itertools.product(MOMENTS, repeat=2):
        assert await fault(api, dark, name="d", **{"from": since}, until=until) == set()
    for name in NAMES:
        assert await fault(api, delete, name=name) == set(), name
        assert await fault(api, switch, name=name) == set(), name


async def test_names_of_every_kind_narrow_lists_to_nothing(api):
    query = """query ($jobs: [String!], $after: String) {
      slots(since: "2026-01-01T00:00:00Z", until: "2026-02-01T00:00:00Z", jobs: $jobs,
            after: $after) { nodes { job } } }"""
    for name in NAMES:
        assert await fault(api, query, jobs=[name]) == set(), name
        assert await fault(api, query, after=name) == set(), name


async def test_fires_that_lie_years_apart_hold_up_nobody(api):
    """Leap days that are Saturdays: a hundred of each take a while to be found."""
    asked = " ".join(
        f'p{n}: schedulePreview(cron: "{n} 0 29 2 */6", first: 100) {{ fires error }}'
        for n in range(10)
    )
    loop = asyncio.get_running_loop()
    gaps, ended = [], asyncio.Event()

    async def look():
        while not ended.is_set():
            before = loop.time()
            await asyncio.sleep(0.005)
            gaps.append(loop.time() - before)

    async with asyncio.TaskGroup() as group:
        group.create_task(look())
        began = loop.time()
        answer = await api.query(f"{{ {asked} }}")
        took = loop.time() - began
        ended.set()
    assert {len(one["fires"]) for one in answer.values()} == {100}
    assert max(gaps) < max(took / 2, 0.1)
