"""What is ahead, over GraphQL: the calendar of all jobs, each clock's next fires, previews."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from nomaflow.clock.calendars import Action, Blackout
from nomaflow.in_force import catalog, switches

STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}
CALENDAR = """query ($since: DateTime!, $until: DateTime!, $jobs: [String!], $closed: Boolean,
    $first: Int, $after: String) {
  calendar(since: $since, until: $until, jobs: $jobs, includeClosed: $closed, first: $first,
           after: $after) {
    nodes { at dueAt job schedule timezone tag collides closed }
    pageInfo { hasNextPage endCursor } } }"""
DAY = timedelta(days=1)


def midnight(days=1):
    now = datetime.now(UTC)
    return datetime(now.year, now.month, now.day, tzinfo=UTC) + days * DAY


async def declare(api, name, **fields):
    raw = {"name": name, "steps": [STEP], **fields}
    return await catalog.create(api.db, api.backing.bell, raw, by="test")


async def calendar(api, begin=None, end=None, **wanted):
    begin = begin or midnight()
    variables = {"since": begin.isoformat(), "until": (end or begin + DAY).isoformat(), **wanted}
    return (await api.query(CALENDAR, **variables))["calendar"]


async def fires(api, **wanted):
    found = (await calendar(api, **wanted))["nodes"]
    return [(f["at"][11:19], f["job"], f["schedule"], f["collides"]) for f in found]


async def test_all_jobs_and_presets_are_in_one_calendar_with_their_collisions(api):
    await declare(api, "a", schedule="0 6 * * *", tags=["etl", "nightly"])
    await declare(api, "b", schedules=[{"name": "six", "cron": "0 6,18 * * *"}])
    await declare(
        api,
        "c",
        enabled=False,
        schedule="0 6 * * *",
        presets=[{"name": "sandbox", "schedule": "30 6 * * *"}],
    )
    await declare(api, "manual")
    assert await fires(api) == [
        ("06:00:00", "a", "default", True),
        ("06:00:00", "b", "six", True),
        ("06:30:00", "c", "sandbox", False),
        ("18:00:00", "b", "six", False),
    ]
    assert [f["tag"] for f in (await calendar(api))["nodes"]] == ["etl", None, None, None]
    assert await fires(api, jobs=["a"]) == [("06:00:00", "a", "default", False)]


async def test_jitter_shifts_a_fire_away_from_the_crowd(api):
    await declare(api, "a", schedule="0 6 * * *")
    await declare(api, "b", schedule="0 6 * * *", jitter_seconds=600)
    found = (await calendar(api))["nodes"]
    assert [f["collides"] for f in found] == [False, False]
    assert found[1]["dueAt"][11:19] == "06:00:00"
    assert "06:00:00" < found[1]["at"][11:19] < "06:10:00"


async def test_pages_of_a_calendar_meet_and_know_their_collisions(api):
    for name in ("a", "b", "c"):
        await declare(api, name, schedule="0 */4 * * *")
    whole = (await calendar(api))["nodes"]
    assert len(whole) == 18
    assert all(f["collides"] for f in whole)
    seen, after = [], None
    while True:
        page = await calendar(api, first=4, after=after)
        seen += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert seen == whole


async def test_closed_times_are_left_out_and_shown_with_their_reason_when_asked_for(api):
    await declare(api, "a", schedule="0 */6 * * *")
    await declare(api, "b", schedule="0 6 * * *")
    dark = Blackout("dark", midnight(), midnight() + timedelta(hours=7), ("a",))
    await switches.set_blackout(api.db, dark, by="test")
    assert await fires(api) == [
        ("06:00:00", "b", "default", False),
        ("12:00:00", "a", "default", False),
        ("18:00:00", "a", "default", False),
    ]
    shown = (await calendar(api, closed=True))["nodes"]
    assert [f["at"][11:19] for f in shown if f["closed"]] == ["00:00:00", "06:00:00"]
    assert shown[0]["closed"].startswith("blackout: dark until ")
    assert not any(f["collides"] for f in shown)


async def test_a_paused_scheduler_has_nothing_ahead(api):
    await declare(api, "a", schedule="0 6 * * *")
    await switches.pause_scheduler(api.db, paused=True, by="user:ann")
    assert await fires(api) == []
    (shown,) = (await calendar(api, closed=True))["nodes"]
    assert shown["closed"] == "paused: the whole scheduler was paused by user:ann"
    job = (await api.query('{ job(name: "a") { nextFireAt } system { schedulerPaused } }'))["job"]
    assert job["nextFireAt"] is None


async def test_what_is_past_is_no_part_of_a_calendar(api):
    await declare(api, "a", schedule="* * * * *")
    assert await fires(api, begin=midnight(-2), end=midnight(-1)) == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"end": midnight(-3)}, "`until` must be later"),
        ({"end": midnight(200)}, "at most 92 days"),
        ({"first": 1_001}, "`first` must be between 1 and 1000"),
        ({"after": "x"}, "This cursor does not belong"),
    ],
)
async def test_what_no_calendar_can_show_is_told(api, wanted, said):
    end = wanted.pop("end", midnight(2))
    variables = {"since": midnight().isoformat(), "until": end.isoformat(), **wanted}
    ((code, message),) = await api.errors(CALENDAR, **variables)
    assert code == "BAD_USER_INPUT"
    assert said in message


NEXT = """{ job(name: "a") { nextFireAt pausedUntil calendar
  schedules { name nextFireAt upcoming(first: 2) description catchUp jitterSeconds warning }
  presets { name schedule timezone nextFireAt } } }"""


@pytest.fixture
def few(project):
    """A calendar that is closed today and on the next two days."""
    closed = [str(midnight(n).date()) for n in range(3)]
    (project / "calendars.toml").write_text(f"[calendars.few]\nexclude = {closed}\n")


async def test_next_fire_at_tells_the_truth_about_what_is_closed(few, api):
    async with asyncio.timeout(10):
        while "few" not in (await api.query("{ calendars }"))["calendars"]:
            await asyncio.sleep(0.05)
    await declare(
        api,
        "a",
        schedule="0 6 * * *",
        calendar="few",
        catch_up="last",
        presets=[{"name": "p", "schedule": "0 7 * * *", "timezone": "Europe/Paris"}],
    )
    opens = midnight(3)
    job = (await api.query(NEXT))["job"]
    assert job["calendar"] == "few"
    (own, preset) = job["schedules"]
    six = (opens + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert own["nextFireAt"] == own["upcoming"][0] == six
    assert own["description"] == "At 06:00 every day"
    assert (own["catchUp"], own["jitterSeconds"], own["warning"]) == ("LAST", 0, None)
    (shown,) = job["presets"]
    assert (shown["schedule"], shown["timezone"]) == ("0 7 * * *", "Europe/Paris")
    assert shown["nextFireAt"] == preset["nextFireAt"]
    assert job["nextFireAt"] == min(own["nextFireAt"], preset["nextFireAt"])

    until = opens + timedelta(hours=7)
    await switches.pause_job(api.db, api.backing.bell, "a", until, by="test")
    job = (await api.query(NEXT))["job"]
    assert job["pausedUntil"] == until.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert job["schedules"][0]["nextFireAt"][:10] == str(midnight(4).date())


async def test_a_postponed_fire_is_ahead_at_the_end_of_its_blackout(api):
    await declare(api, "a", schedule="0 6 * * *")
    end = midnight() + timedelta(hours=9)
    dark = Blackout("dark", midnight(), end, ("*",), (), Action.POSTPONE)
    await switches.set_blackout(api.db, dark, by="test")
    job = (await api.query('{ job(name: "a") { nextFireAt } }'))["job"]
    wanted = end if datetime.now(UTC).hour >= 6 else midnight(0) + timedelta(hours=6)
    assert datetime.fromisoformat(job["nextFireAt"]) == wanted


async def test_lists_of_jobs_tell_the_same_as_one_job(api):
    await declare(api, "a", schedule="0 6 * * *")
    await switches.pause_job(api.db, api.backing.bell, "a", midnight(5), by="test")
    found = await api.query("""{ jobs { nodes { nextFireAt schedules { nextFireAt } } }
      job(name: "a") { nextFireAt schedules { nextFireAt } } }""")
    assert found["jobs"]["nodes"] == [found["job"]]
    assert found["job"]["nextFireAt"] > midnight(5).isoformat()[:10]


PREVIEW = """query ($cron: String, $every: Float, $zone: String, $first: Int, $after: DateTime) {
  schedulePreview(cron: $cron, everySeconds: $every, timezone: $zone, first: $first,
                  after: $after) { fires description error remarks } }"""


async def preview(api, **wanted):
    return (await api.query(PREVIEW, **wanted))["schedulePreview"]


async def test_a_preview_shows_fires_words_and_what_the_clock_change_does(api):
    found = await preview(
        api,
        cron="30 2 * * *",
        zone="Europe/Paris",
        first=5,
        after="2026-03-27T12:00:00Z",
    )
    assert found["fires"] == [
        "2026-03-28T01:30:00.000Z",
        "2026-03-29T01:00:00.000Z",
        "2026-03-30T00:30:00.000Z",
        "2026-03-31T00:30:00.000Z",
        "2026-04-01T00:30:00.000Z",
    ]
    assert found["description"] == "At 02:30 every day"
    (remark,) = found["remarks"]
    assert remark.startswith("02:30 does not exist on 2026-03-29 in Europe/Paris, the clock is put")
    assert remark.endswith("; it fires at 03:00")
    assert len((await preview(api, cron="30 2 * * *"))["fires"]) == 3
    every = await preview(api, every=5400, after="2026-01-01T00:00:00Z", first=2)
    assert every["fires"] == ["2026-01-01T01:30:00.000Z", "2026-01-01T03:00:00.000Z"]
    assert every["description"] == "Every 90 minutes"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"cron": "0 25 * * *"}, "hour `25` must be 0 to 23"),
        ({"cron": "30 2 30 2 *"}, "no date ever matches"),
        ({"cron": "*," * 50_000}, "longer than 200 characters"),
        ({"cron": ",".join(["1"] * 200) + " * * * *"}, "longer than 200 characters"),
        ({"cron": "* * * * *", "zone": "Europe/Pari"}, "did you mean `Europe/Paris`"),
        ({"every": 0}, "between 1 second and 366 days"),
        ({"every": 1e9}, "between 1 second and 366 days"),
        ({}, "give `cron` or `everySeconds`"),
        ({"cron": "* * * * *", "every": 5}, "give `cron` or `everySeconds`"),
        ({"every": 86400, "after": "9999-12-31T23:00:00Z"}, "end of all time"),
    ],
)
async def test_bad_input_is_a_sentence_at_the_cost_of_a_valid_request(api, wanted, said):
    began = time.perf_counter()
    found = await preview(api, **wanted)
    assert said in found["error"]
    assert (found["fires"], found["description"]) == ([], None)
    assert time.perf_counter() - began < 1
    ((code, _),) = await api.errors(PREVIEW, cron="* * * * *", first=101)
    assert code == "BAD_USER_INPUT"
