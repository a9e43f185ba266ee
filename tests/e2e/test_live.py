"""Watching: from the first event, from the middle after a disconnect, after the end: the same."""

import asyncio
import contextlib
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

EVENTS = """subscription ($run: ID!, $after: Cursor) { runEvents(run: $run, after: $after) {
  __typename cursor at runId
  ... on RunChanged { runStatus: status reason }
  ... on StepChanged { step position stepStatus: status attempt }
  ... on StepProgressed { step progress { done total unit } }
  ... on LogsWritten { lines { cursor at level step message } } } }"""
LINES = """subscription ($run: ID!, $after: Cursor) { runLogs(run: $run, after: $after) {
  cursor lines { cursor level step message } } }"""
CHANGES = """subscription { runsChanged {
  snapshot { id status } run { id status jobName } } }"""


@pytest.fixture(scope="module")
def up(work_up):
    return work_up


async def heard(up, run_id, after=None, until=None):
    """Every event from a cursor on: to the end, or until enough was heard and the line is cut."""
    events = []
    stream = up.subscribe(EVENTS, run=run_id, after=after)
    async with asyncio.timeout(30):
        async for data in stream:
            events.append(data["runEvents"])
            if until and until(events):
                await stream.aclose()
    return events


def one_by_one(events):
    """Lines leave in batches, and where a batch is cut is nobody's promise."""
    flat = []
    for event in events:
        if event["__typename"] == "LogsWritten":
            assert event["cursor"] == event["lines"][-1]["cursor"]
            flat += event["lines"]
        else:
            flat.append(event)
    return flat


async def test_every_way_of_watching_tells_the_same(up):
    run_id = await up.trigger("talker")
    from_the_start = asyncio.create_task(heard(up, run_id))
    # One leaves after a dozen events, comes back with its cursor, and once more.
    pieces = await heard(up, run_id, until=lambda e: len(e) == 12)
    pieces += await heard(up, run_id, pieces[-1]["cursor"], until=lambda e: len(e) == 3)
    assert (await up.run(run_id))["status"] == "RUNNING"
    pieces += await heard(up, run_id, pieces[-1]["cursor"])
    whole = one_by_one(await from_the_start)

    assert one_by_one(pieces) == whole
    assert one_by_one(await heard(up, run_id)) == whole
    middle = whole[len(whole) // 2]["cursor"]
    rest = one_by_one(await heard(up, run_id, middle))
    assert rest == whole[len(whole) // 2 + 1 :]
    assert await heard(up, run_id, whole[-1]["cursor"]) == []

    assert len({event["cursor"] for event in whole}) == len(whole)
    runs = [event["runStatus"] for event in whole if "runStatus" in event]
    assert runs == ["QUEUED", "RUNNING", "SUCCEEDED"]
    steps = [(event["step"], event["stepStatus"]) for event in whole if "stepStatus" in event]
    assert steps == [
        (step, status)
        for step in ("first", "second", "third")
        for status in ("RUNNING", "SUCCEEDED")
    ]
    said = [
        event["message"] for event in whole if event.get("step") == "first" and "level" in event
    ]
    assert [text for text in said if text.startswith("line")] == [f"line {n}" for n in range(40)]
    assert "that was all" in said
    last = [event for event in whole if event.get("step") == "first" and "progress" in event][-1]
    assert last["progress"] == {"done": "40", "total": "40", "unit": "lines"}
    assert (await up.run(run_id))["status"] == "SUCCEEDED"


async def test_log_lines_alone_live_and_after_the_end(up):
    run_id = await up.trigger("talker")
    async with asyncio.timeout(30):
        live = [d["runLogs"] async for d in up.subscribe(LINES, run=run_id)]
        later = [d["runLogs"] async for d in up.subscribe(LINES, run=run_id)]
        tail = [d async for d in up.subscribe(LINES, run=run_id, after=live[-1]["cursor"])]
    lines = [line for batch in live for line in batch["lines"]]
    assert [line for batch in later for line in batch["lines"]] == lines
    assert tail == []
    assert [x["message"] for x in lines if x["message"].startswith("line")] == [
        f"line {n}" for count in (40, 5) for n in range(count)
    ]
    assert {"first", "second", "third"} <= {line["step"] for line in lines}


async def test_lines_arrive_while_the_step_runs(up):
    run_id = await up.trigger("talker")
    await up.until(run_id, lambda e: any(x["message"] == "line 3" for x in e.get("lines", ())))
    assert (await up.run(run_id))["status"] == "RUNNING"
    await up.ended(run_id)


async def test_the_panel_begins_with_a_snapshot_and_hears_of_every_run(up):
    stream = up.subscribe(CHANGES)
    async with asyncio.timeout(30):
        first = (await anext(stream))["runsChanged"]
        assert first["run"] is None
        assert isinstance(first["snapshot"], list)
        run_id = await up.trigger("talker")
        triggered = asyncio.get_running_loop().time()
        statuses = []
        async for data in stream:
            changed = data["runsChanged"]["run"]
            if not statuses:
                assert asyncio.get_running_loop().time() - triggered < 1
            assert changed["jobName"] == "talker"
            if changed["status"] not in statuses:
                statuses.append(changed["status"])
            if changed["status"] == "SUCCEEDED":
                break
        await stream.aclose()
    assert statuses[-2:] == ["RUNNING", "SUCCEEDED"]
    await up.ended(run_id)


@pytest.mark.parametrize("payload", [None, {}, {"Authorization": "Bearer nf_wrong"}])
async def test_without_a_token_nothing_is_heard(up, payload):
    url = up.state.url.replace("http", "ws", 1) + "/graphql"
    async with connect(url, subprotocols=["graphql-transport-ws"], proxy=None) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        said = []
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(10):
                said += [json.loads(await socket.recv())["type"]]
    assert set(said) <= {"ping"}
    assert socket.close_code in {4401, 4403}
