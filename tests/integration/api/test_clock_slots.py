"""What became of each due time, over GraphQL: the one place that says why something did not run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nomaflow.clock.calendars import Blackout
from nomaflow.in_force import catalog, switches
from nomaflow.store import schedules
from nomaflow_scheduler import fire

STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}
T0 = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SLOTS = """query ($since: DateTime!, $until: DateTime!, $jobs: [String!], $outcomes: [String!],
    $first: Int, $after: String) {
  slots(since: $since, until: $until, jobs: $jobs, outcomes: $outcomes, first: $first,
        after: $after) {
    nodes { job schedule timezone dueAt outcome reason until count at lookAt waitsUntil
            run { id jobName status reason scheduledFor } replay { id scheduledFor } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""


async def declare(api, name="j", at=T0, **fields):
    """A job whose clocks are due next at `at`."""
    raw = {"name": name, "schedule": "* * * * *", "steps": [STEP], **fields}
    job = await catalog.create(api.db, api.backing.bell, raw, by="test")
    for row in await schedules.of_job(api.db, job.id):
        await schedules.set_next(api.db, row.id, at)
    return job


async def tick(api, at):
    await fire.tick(api.db, api.backing.bell, at=at)


async def slots(api, begin=T0 - timedelta(days=1), end=T0 + timedelta(days=9), **wanted):
    variables = {"since": begin.isoformat(), "until": end.isoformat(), **wanted}
    return (await api.query(SLOTS, **variables))["slots"]


async def nodes(api, **wanted):
    return (await slots(api, **wanted))["nodes"]


def due(found):
    return [datetime.fromisoformat(slot["dueAt"]) for slot in found]


async def test_each_due_time_tells_what_became_of_it_and_of_which_run(api):
    await declare(api)
    for n in range(3):
        await tick(api, T0 + n * MINUTE)
    found = await nodes(api)
    assert due(found) == [T0, T0 + MINUTE, T0 + 2 * MINUTE]
    assert [slot["outcome"] for slot in found] == ["fired", "skipped", "skipped"]
    assert (found[0]["job"], found[0]["schedule"], found[0]["timezone"]) == ("j", "default", "UTC")
    assert (found[0]["run"]["status"], found[0]["reason"]) == ("QUEUED", None)
    assert found[1]["run"]["status"] == "SKIPPED"
    assert "previous run still running" in found[1]["reason"]
    assert found[0]["run"]["scheduledFor"] == found[0]["dueAt"]
    assert all(slot["count"] == 1 and slot["until"] is None for slot in found)


async def test_a_due_time_that_was_run_again_says_by_which_run(api):
    await declare(api)
    for n in range(2):
        await tick(api, T0 + n * MINUTE)
    fired, skipped = await nodes(api)
    assert (fired["replay"], skipped["replay"]) == (None, None)
    await api.query(
        "mutation ($run: ID!) { runAbort(run: $run) { errors { message } } }",
        run=fired["run"]["id"],
    )
    again = """mutation ($run: ID!) { runReplay(input: {run: $run}) {
      run { id } errors { message } } }"""
    answer = (await api.query(again, run=skipped["run"]["id"]))["runReplay"]
    assert answer["errors"] == []
    fired, skipped = await nodes(api)
    assert fired["replay"] is None
    assert skipped["outcome"] == "skipped"
    assert skipped["replay"] == {"id": answer["run"]["id"], "scheduledFor": skipped["dueAt"]}


async def test_a_long_gap_is_one_row_and_is_found_by_a_window_inside_it(api):
    await declare(api, schedule="* * * * * *")
    await tick(api, T0 + timedelta(hours=2))
    (gap, *later) = await nodes(api, outcomes=["missed"])
    assert gap["count"] > 1_000
    assert due([gap]) == [T0]
    assert datetime.fromisoformat(gap["until"]) > T0 + timedelta(hours=1, minutes=50)
    assert later == []
    inside = T0 + timedelta(hours=1)
    found = await nodes(api, begin=inside, end=inside + MINUTE)
    assert [slot["dueAt"] for slot in found] == [gap["dueAt"]]
    beyond = T0 + timedelta(hours=3)
    assert await nodes(api, begin=beyond, end=beyond + MINUTE) == []


async def test_pages_meet_without_gap_or_repetition(api):
    for name in ("a", "b", "c"):
        await declare(api, name)
    for n in range(5):
        await tick(api, T0 + n * MINUTE)
    whole = await nodes(api)
    assert len(whole) == 15
    seen, after = [], None
    while True:
        page = await slots(api, first=4, after=after)
        seen += page["nodes"]
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert seen == whole


async def test_a_window_jobs_and_outcomes_narrow_it(api):
    await declare(api, "a")
    await declare(api, "b")
    for n in range(4):
        await tick(api, T0 + n * MINUTE)
    assert {slot["job"] for slot in await nodes(api, jobs=["b"])} == {"b"}
    assert await nodes(api, jobs=["nobody"]) == []
    assert len(await nodes(api, jobs=[])) == 8
    found = await nodes(api, begin=T0 + MINUTE, end=T0 + 3 * MINUTE, jobs=["a"])
    assert due(found) == [T0 + MINUTE, T0 + 2 * MINUTE]
    assert [s["outcome"] for s in await nodes(api, outcomes=["fired"])] == ["fired", "fired"]


async def test_due_times_of_a_deleted_job_stay(api):
    await declare(api)
    await tick(api, T0)
    await catalog.delete(api.db, api.backing.bell, "j", by="test")
    assert [slot["job"] for slot in await nodes(api)] == ["j"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"end": T0 - timedelta(days=2)}, "`until` must be later than `since`"),
        ({"first": 101}, "`first` must be between 1 and 100"),
        ({"first": 0}, "`first` must be between 1 and 100"),
        ({"after": "bogus"}, "This cursor does not belong to this list"),
        ({"outcomes": ["lost"]}, "`lost` is no outcome; there are fired"),
        ({"jobs": ["x"] * 1_001}, "at most 1000 jobs"),
    ],
)
async def test_what_cannot_be_asked_is_told(api, wanted, said):
    begin, end = wanted.pop("begin", T0 - timedelta(days=1)), wanted.pop("end", T0)
    variables = {"since": begin.isoformat(), "until": end.isoformat(), **wanted}
    ((code, message),) = await api.errors(SLOTS, **variables)
    assert code == "BAD_USER_INPUT"
    assert said in message


async def test_closed_times_say_by_what(api):
    await declare(api, "a", schedule="0 * * * *")
    dark = Blackout("night", T0, T0 + timedelta(hours=2), ("*",))
    await switches.set_blackout(api.db, dark, by="test")
    for hour in range(3):
        await tick(api, T0 + timedelta(hours=hour))
    found = await nodes(api)
    assert [slot["outcome"] for slot in found] == ["skipped", "skipped", "fired"]
    assert found[0]["reason"] == "blackout: night until 2030-01-01T14:00:00Z"


async def test_due_times_that_nobody_served_are_counted(api):
    assert await unaccounted(api) == 0
    await declare(api, schedule="* * * * *", at=datetime.now(UTC) - timedelta(minutes=10))
    assert 8 <= await unaccounted(api) <= 10
    await tick(api, None)
    assert await unaccounted(api) == 0


async def unaccounted(api):
    return (await api.query("{ system { slotsUnaccounted } }"))["system"]["slotsUnaccounted"]
