"""A run's feed over graphql-transport-ws: from its first event, from the middle, after its end."""

import asyncio

import pytest

from nomaflow.errors import Failure
from nomaflow.store import feed
from nomaflow_api import feeds

EVENTS = """
subscription ($run: ID!, $after: Cursor) {
  runEvents(run: $run, after: $after) {
    __typename cursor at runId
    ... on RunChanged { status reason run { jobName status } }
    ... on StepChanged { step position stepStatus: status attempt stepRun { name } }
    ... on StepProgressed { step progress { done total fraction unit } }
    ... on LogsWritten { lines { cursor seq level step message } }
  }
}"""


def told(events):
    """The events as facts that do not depend on how lines were put into batches."""
    facts = []
    for data in events:
        event = data["runEvents"]
        match event["__typename"]:
            case "RunChanged":
                facts.append(("run", event["status"], event["reason"]))
            case "StepChanged":
                facts.append(("step", event["step"], event["stepStatus"], event["attempt"]))
            case "StepProgressed":
                facts.append(("progress", event["step"], event["progress"]["done"]))
            case "LogsWritten":
                facts += [("line", line["seq"], line["message"]) for line in event["lines"]]
    return facts


async def whole_run(worker, run_id=None):
    run_id = run_id or await worker.born()
    assert await worker.claim() == run_id
    await worker.log(run_id, "one", "two")
    await worker.progress(run_id, done=5, total=10, unit="rows")
    await worker.log(run_id, "three")
    await worker.done(run_id, {"rows": 10}, "10 rows", rows=10)
    await worker.log(run_id, "four", step="load", level="WARNING")
    await worker.done(run_id)
    return run_id


FACTS = [
    ("run", "QUEUED", None),
    ("run", "RUNNING", None),
    ("step", "fetch", "RUNNING", 1),
    ("line", 4, "one"),
    ("line", 5, "two"),
    ("progress", "fetch", "5"),
    ("line", 7, "three"),
    ("step", "fetch", "SUCCEEDED", 1),
    ("step", "load", "RUNNING", 1),
    ("line", 10, "four"),
    ("step", "load", "SUCCEEDED", 1),
    ("run", "SUCCEEDED", None),
]


async def test_a_run_is_told_from_its_first_event_to_its_last(api, worker):
    run_id = await worker.born()
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id))
        first = await socket.next()
        assert told([first]) == FACTS[:1]
        await whole_run(worker, run_id)
        assert told([first, *await socket.rest()]) == FACTS


async def test_a_run_that_is_over_is_told_the_same_and_ends_at_once(api, worker):
    run_id = await whole_run(worker)
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id))
        assert told(await socket.rest()) == FACTS


@pytest.mark.parametrize("cut", range(1, 9))
async def test_a_listener_that_comes_back_misses_nothing_and_hears_nothing_twice(api, worker, cut):
    run_id = await worker.born()
    heard = []
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id))
        writing = asyncio.create_task(whole_run(worker, run_id))
        while len(told(heard)) < cut:
            heard.append(await socket.next())
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id), after=heard[-1]["runEvents"]["cursor"])
        heard += await socket.rest()
    await writing
    assert told(heard) == FACTS


async def test_the_cursor_of_a_single_line_leads_into_the_middle_of_its_batch(api, worker):
    run_id = await whole_run(worker)
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id))
        events = await socket.rest()
        batch = next(e["runEvents"] for e in events if "lines" in e["runEvents"])
        await socket.subscribe(EVENTS, run=str(run_id), after=batch["lines"][0]["cursor"])
        assert told(await socket.rest()) == FACTS[4:]


async def test_history_and_live_meet_at_the_cursor_of_the_connection(api, worker):
    run_id = await worker.born()
    await worker.claim()
    await worker.log(run_id, "one", "two")
    query = """query ($id: ID!) { run(id: $id) {
      events { nodes { __typename } endCursor } logs { nodes { message } endCursor } } }"""
    run = (await api.query(query, id=str(run_id)))["run"]
    assert [n["__typename"] for n in run["events"]["nodes"]] == [
        "RunChanged",
        "RunChanged",
        "StepChanged",
        "LogsWritten",
    ]
    assert run["events"]["endCursor"] == run["logs"]["endCursor"]
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id), after=run["events"]["endCursor"])
        await worker.log(run_id, "three")
        assert told([await socket.next()]) == [("line", 6, "three")]


async def test_lines_are_heard_without_any_hint_from_redis(api, worker):
    run_id = await worker.born()
    await worker.claim()
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id))
        while told([await socket.next()])[0][0] != "step":
            pass
        await worker.log(run_id, "quiet", tell=False)
        assert told([await socket.next()]) == [("line", 4, "quiet")]


async def test_only_the_lines_asked_for_come_in_the_log(api, worker):
    run_id = await whole_run(worker)
    query = """subscription ($run: ID!, $filter: LogFilter, $after: Cursor) {
      runLogs(run: $run, filter: $filter, after: $after) { cursor lines { message } } }"""

    async def lines(socket, **given):
        await socket.subscribe(query, run=str(run_id), **given)
        batches = await socket.rest()
        return [line["message"] for b in batches for line in b["runLogs"]["lines"]]

    async with api.socket() as socket:
        assert await lines(socket) == ["one", "two", "three", "four"]
        assert await lines(socket, filter={"step": "load"}) == ["four"]
        assert await lines(socket, filter={"minLevel": "WARNING"}) == ["four"]
        assert await lines(socket, filter={"text": "TW"}) == ["two"]


async def test_a_failed_run_ends_its_feed_with_the_failure(api, worker):
    run_id = await worker.born()
    await worker.claim()
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id))
        await worker.failed(run_id, Failure("HTTPError", "503 from the stub"))
        facts = told(await socket.rest())
    assert facts[-3:-1] == [("step", "fetch", "FAILED", 1), ("step", "load", "SKIPPED", 0)]
    assert facts[-1][:2] == ("run", "FAILED")


async def test_a_ring_too_small_for_a_slow_listener_costs_it_nothing(api, worker, monkeypatch):
    monkeypatch.setattr(feeds, "RING_EVENTS", 3)
    monkeypatch.setattr(feeds, "PAGE", 4)
    monkeypatch.setattr(feeds, "WINDOW_SECONDS", 0)
    run_id = await worker.born()
    await worker.claim()
    seen = []
    events = api.backing.feeds.events(run_id, 0)
    async for event in events:
        seen.append(event)
        if len(seen) == 2:  # others read on while this one stands still
            other = api.backing.feeds.events(run_id, 0)
            for n in range(40):
                await worker.log(run_id, f"line {n}")
            await anext(other)
            await worker.done(run_id)
            await worker.done(run_id)
            async for _ in other:
                pass
    reading = await feed.read(api.db, run_id, 0)
    lines = [line.seq for e in seen if hasattr(e, "lines") for line in e.lines]
    assert lines == list(range(4, 44))
    assert [e.seq for e in seen if not hasattr(e, "lines")] == [
        e.seq for e in reading.events if not hasattr(e, "lines")
    ]
    assert not api.backing.feeds._rings


async def test_going_away_ends_nothing_but_the_listening(api, worker):
    run_id = await worker.born()
    await worker.claim()
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id))
        await socket.next()
    await worker.done(run_id)
    await worker.done(run_id)
    run = await api.query("query ($id: ID!) { run(id: $id) { status } }", id=str(run_id))
    assert run["run"]["status"] == "SUCCEEDED"
    async with asyncio.timeout(5):
        while api.backing.feeds._rings:
            await asyncio.sleep(0.01)


async def test_what_is_in_flight_comes_first_and_then_each_change(api, worker):
    before = await worker.born(job_name="before")
    query = """subscription ($filter: LiveFilter) { runsChanged(filter: $filter) {
      snapshot { jobName status } run { jobName status steps { name status } } } }"""
    async with api.socket() as socket:
        number = await socket.subscribe(query)
        first = await socket.next()
        snapshot = [{"jobName": "before", "status": "QUEUED"}]
        assert first["runsChanged"] == {"snapshot": snapshot, "run": None}
        await worker.claim()
        run = (await socket.next())["runsChanged"]["run"]
        assert (run["jobName"], run["status"]) == ("before", "RUNNING")
        await worker.done(before)
        run = (await socket.next())["runsChanged"]["run"]
        assert [s["status"] for s in run["steps"]] == ["SUCCEEDED", "RUNNING"]
        await worker.done(before)
        assert (await socket.next())["runsChanged"]["run"]["status"] == "SUCCEEDED"
        await socket.send(id=number, type="complete")
        await socket.subscribe(query, filter={"jobs": ["other"]})
        assert (await socket.next())["runsChanged"]["snapshot"] == []
        await worker.born(job_name="not this one")
        other = await worker.born(job_name="other")
        run = (await socket.next())["runsChanged"]["run"]
        assert (run["jobName"], run["status"]) == ("other", "QUEUED")
    assert other


async def test_a_skipped_fire_is_seen_by_whoever_watches_all_runs(api, worker):
    async with api.socket() as socket:
        await socket.subscribe("subscription { runsChanged { run { status reason } } }")
        await socket.next()
        from nomaflow.lifecycle import SKIPPED_OVERLAP, RunStatus

        await worker.born(status=RunStatus.SKIPPED, reason=SKIPPED_OVERLAP, steps=())
        run = (await socket.next())["runsChanged"]["run"]
    assert run == {"status": "SKIPPED", "reason": "skipped: previous run still running"}


async def test_a_run_nobody_knows_cannot_be_listened_to(api):
    async with api.socket() as socket:
        for wrong in ("0199aaaa-0000-7000-8000-000000000000", "nonsense", ""):
            await socket.subscribe(EVENTS, run=wrong)
            message = await socket.receive()
            assert message["type"] == "error" or message["payload"]["errors"], message
            error = (
                message["payload"] if message["type"] == "error" else message["payload"]["errors"]
            )[0]
            assert error["extensions"]["code"] == "BAD_USER_INPUT"
            if message["type"] != "error":
                assert (await socket.receive())["type"] == "complete"


async def test_an_event_stream_tells_the_same(api, worker):
    run_id = await whole_run(worker)
    body = {"query": EVENTS, "variables": {"run": str(run_id)}}
    response = await api.http.post("/graphql", json=body, headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    import json

    frames = [f for f in response.text.split("\r\n\r\n") if f]
    assert frames[-1].startswith("event: complete")
    data = [json.loads(f.split("data: ", 1)[1]) for f in frames[:-1]]
    assert told([d["data"] for d in data]) == FACTS


async def test_a_feed_outlives_the_connections_it_reads_by(api, worker):
    run_id = await worker.born()
    await worker.claim()
    async with api.socket() as socket:
        await socket.subscribe(EVENTS, run=str(run_id))
        heard = [await socket.next() for _ in range(3)]
        for n in range(3):
            await api.db.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name = 'nomaflow api' AND pid <> pg_backend_pid()"""
            )
            await worker.log(run_id, f"line {n}")
        await worker.done(run_id)
        await worker.done(run_id)
        heard += await socket.rest()
    lines = [fact[2] for fact in told(heard) if fact[0] == "line"]
    assert lines == ["line 0", "line 1", "line 2"]
    assert told(heard)[-1] == ("run", "SUCCEEDED", None)


async def test_an_event_stream_that_is_cut_leaves_nothing_behind(api, worker):
    run_id = await worker.born()
    body = {"query": EVENTS, "variables": {"run": str(run_id)}}
    accept = {"Accept": "text/event-stream"}
    async with api.http.stream("POST", "/graphql", json=body, headers=accept) as response:
        async for chunk in response.aiter_text():
            assert "RunChanged" in chunk
            break
        assert api.backing.feeds._rings
    async with asyncio.timeout(5):
        while api.backing.feeds._rings:
            await asyncio.sleep(0.01)
