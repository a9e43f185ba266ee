"""Runs over GraphQL: started, read in pages, aborted; steps, tries, logs and outputs of each."""

import pytest

from nomaflow.errors import Failure

from .conftest import STEPS

CREATE = """mutation ($input: JobInput!) { jobCreate(input: $input) { errors { message } } }"""
TRIGGER = """mutation ($input: RunTriggerInput!) { runTrigger(input: $input) {
  run { id status triggeredBy params overrides logLevel dryRun waitingFor steps { name status } }
  created errors { code message path } } }"""
SQL = {"connector": "default", "query": "SELECT 1"}


@pytest.fixture
async def job(api):
    steps = [{"name": n, "type": "sql_query", "config": SQL} for n in ("fetch", "load")]
    declared = {"name": "copy", "overlap": "ALLOW", "params": {"day": "monday"}, "steps": steps}
    assert (await api.query(CREATE, input=declared))["jobCreate"]["errors"] == []
    return "copy"


async def trigger(api, **fields):
    return (await api.query(TRIGGER, input={"job": "copy", **fields}))["runTrigger"]


async def test_a_run_starts_at_once_with_what_this_fire_changed(api, job):
    answer = await trigger(
        api,
        params={"day": "friday"},
        stepEnabled={"load": False},
        logLevel="DEBUG",
        dryRun=True,
    )
    assert (answer["created"], answer["errors"]) == (True, [])
    run = answer["run"]
    assert (run["status"], run["triggeredBy"], run["logLevel"]) == ("QUEUED", "api", "DEBUG")
    assert run["params"] == {"day": "friday"}
    assert run["overrides"]["params"] == {"day": "friday"}
    assert run["dryRun"] is True
    assert [s["status"] for s in run["steps"]] == ["PENDING", "SKIPPED"]
    assert "worker" in run["waitingFor"]


async def test_the_command_line_is_named_with_its_user(api, job):
    response = await api.post(TRIGGER, {"input": {"job": "copy"}}, **{"Nomaflow-Client": "cli/bob"})
    run = response.json()["data"]["runTrigger"]["run"]
    assert run["triggeredBy"] == "cli:bob"
    for odd in ("cli/", "cli/a b", "cli/" + "x" * 100, "browser/1", "cli/\u00e9"):
        headers = {"Nomaflow-Client": odd.encode()}
        response = await api.http.post(
            "/graphql",
            json={"query": TRIGGER, "variables": {"input": {"job": "copy"}}},
            headers=headers,
        )
        assert response.json()["data"]["runTrigger"]["run"]["triggeredBy"] == "api", odd


async def test_the_same_key_finds_the_same_run(api, job):
    first = await trigger(api, idempotencyKey="k1")
    second = await trigger(api, idempotencyKey="k1", params={"day": "sunday"})
    assert second["run"]["id"] == first["run"]["id"]
    assert (first["created"], second["created"]) == (True, False)


async def test_every_wrong_wish_is_a_sentence_and_starts_nothing(api, job):
    wishes = (
        ({"job": "copi"}, "NOT_FOUND", ["job"]),
        ({"stepEnabled": {"nobody": True}}, "INVALID", ["stepEnabled", "nobody"]),
        ({"stepKwargs": {"nobody": {}}}, "INVALID", ["stepKwargs", "nobody"]),
        ({"stepEnabled": {"load": "yes"}}, "INVALID", ["stepEnabled", "load"]),
        ({"stepKwargs": {"load": 5}}, "INVALID", ["stepKwargs", "load"]),
        ({"stepKwargs": {"load": {"fech": "first"}}}, "INVALID", ["stepKwargs", "load", "fech"]),
        ({"stepKwargs": []}, "INVALID", ["stepKwargs"]),
        ({"params": "text"}, "INVALID", ["params"]),
        ({"preset": "nobody"}, "NOT_FOUND", ["preset"]),
        ({"idempotencyKey": ""}, "INVALID", ["idempotencyKey"]),
    )
    for wish, code, path in wishes:
        answer = await trigger(api, **wish)
        assert answer["run"] is None, wish
        assert (code, path) in [(e["code"], e["path"]) for e in answer["errors"]], answer
        assert all(len(e["message"]) > 10 for e in answer["errors"])
    assert "did you mean" in (await trigger(api, job="copi"))["errors"][0]["message"]
    assert (await api.query("{ runs { totalCount } }"))["runs"]["totalCount"] == 0


async def test_a_busy_job_says_so(api, worker):
    steps = [{"name": "a", "type": "sql_query", "config": SQL}]
    await api.query(CREATE, input={"name": "copy", "steps": steps})
    assert (await trigger(api))["created"] is True
    (error,) = (await trigger(api))["errors"]
    assert error["code"] == "BUSY"


RUN = """query ($id: ID!) { run(id: $id) {
  id kind jobName status reason triggeredBy queuedAt startedAt finishedAt durationSeconds
  waitingFor worker interruptions rowsAffected error { type message retryable }
  steps { id position name type status reason startedAt finishedAt durationSeconds input output
    summary rowsAffected progress { done total fraction unit batch } error { message }
    attempts { number status startedAt finishedAt worker error { message } } } } }"""


async def test_a_run_shows_its_steps_their_tries_and_what_came_out(api, worker):
    run_id = await worker.born()
    await worker.claim()
    await worker.progress(run_id, done=3, total=4, unit="pages", batch=1)
    running = (await api.query(RUN, id=str(run_id)))["run"]
    assert running["steps"][0]["attempts"][0]["status"] == "RUNNING"
    assert running["steps"][0]["progress"] == {
        "done": "3",
        "total": "4",
        "fraction": 0.75,
        "unit": "pages",
        "batch": 1,
    }
    await worker.done(run_id, {"status": 200}, "status=200", rows=2**40)
    await worker.failed(run_id, Failure("ValueError", "no such table"))
    run = (await api.query(RUN, id=running["id"]))["run"]
    assert (run["status"], run["worker"], run["rowsAffected"]) == ("FAILED", "w1", str(2**40))
    fetch, load = run["steps"]
    assert fetch["output"] == {"status": 200}
    assert fetch["input"] == {"url": "http://x"}
    assert (fetch["summary"], load["error"]["message"]) == ("status=200", "no such table")
    (attempt,) = load["attempts"]
    assert (attempt["number"], attempt["status"]) == (1, "FAILED")
    assert attempt["error"] == {"message": "no such table"}
    assert run["durationSeconds"] >= 0
    assert run["startedAt"].endswith("Z")
    node = """query ($id: ID!) { node(id: $id) { __typename id ... on StepRun { name } } }"""
    assert (await api.query(node, id=load["id"]))["node"]["name"] == "load"
    assert (await api.query(node, id=run["id"]))["node"]["__typename"] == "Run"


async def test_lists_of_runs_are_paged_from_both_ends_without_gap_or_repeat(api, worker):
    ids = [str(await worker.born(job_name=f"j{n % 2}")) for n in range(7)]
    query = """query ($first: Int, $after: String, $last: Int, $before: String,
                      $order: RunOrder, $filter: RunFilter) {
      runs(first: $first, after: $after, last: $last, before: $before, orderBy: $order,
           filter: $filter) {
        nodes { id jobName } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
    from nomaflow_api.graph.base import global_id

    known = [global_id("Run", i) for i in ids]

    async def pages(**given):
        found, cursor, key, word = [], None, "after", "endCursor"
        if "last" in given:
            key, word = "before", "startCursor"
        while True:
            page = (await api.query(query, **given, **({key: cursor} if cursor else {})))["runs"]
            assert page["totalCount"] == 7
            nodes = [n["id"] for n in page["nodes"]]
            found = nodes + found if key == "before" else found + nodes
            more = "hasPreviousPage" if key == "before" else "hasNextPage"
            if not page["pageInfo"][more]:
                return found
            cursor = page["pageInfo"][word]

    newest_first = list(reversed(known))
    assert await pages(first=3) == newest_first
    assert await pages(first=3, order="QUEUED_ASC") == known
    assert await pages(last=3) == newest_first
    one = await api.query(query, first=9, filter={"jobs": ["j1"]})
    assert [n["jobName"] for n in one["runs"]["nodes"]] == ["j1"] * 3
    cursor = one["runs"]["pageInfo"]["endCursor"]
    ((code, _),) = await api.errors(query, first=2, after=cursor, order="FINISHED_DESC")
    assert code == "BAD_USER_INPUT"


async def test_runs_are_found_by_what_people_know_of_them(api, worker, job):
    from nomaflow.store import jobs

    row = await jobs.find(api.db, "copy")
    done = await worker.born(job_id=row.id, triggered_by="cli:bob", trigger="cli")
    await worker.claim()
    await worker.done(done)
    await worker.done(done)
    await worker.born(job_name="other", triggered_by="cron", trigger="cron")
    query = "query ($filter: RunFilter) { runs(filter: $filter) { nodes { jobName } } }"

    async def names(**given):
        return [n["jobName"] for n in (await api.query(query, filter=given))["runs"]["nodes"]]

    assert await names(status=["SUCCEEDED"]) == ["copy"]
    assert await names(status=["QUEUED", "RUNNING"]) == ["other"]
    assert await names(triggeredBy="cli") == ["copy"]
    assert await names(triggeredBy="cli:bob") == ["copy"]
    assert await names(triggeredBy="cron") == ["other"]
    assert await names(app="_default") == ["copy"]
    assert await names(tags=["x"]) == []
    assert await names(kind="SYSTEM") == []
    assert await names(since="2999-01-01T00:00:00Z") == []
    assert len(await names(until="2999-01-01T00:00:00Z")) == 2
    finished = "{ runs(orderBy: FINISHED_DESC) { nodes { jobName } totalCount } }"
    assert (await api.query(finished))["runs"] == {"nodes": [{"jobName": "copy"}], "totalCount": 1}
    about = """{ job(name: "copy") { lastRun { status } lastSuccess { id } inFlight { id }
                 runs { nodes { status job { name } } totalCount } } }"""
    found = (await api.query(about))["job"]
    assert found["lastRun"] == {"status": "SUCCEEDED"}
    assert found["runs"] == {
        "nodes": [{"status": "SUCCEEDED", "job": {"name": "copy"}}],
        "totalCount": 1,
    }


async def test_the_log_is_paged_filtered_and_read_from_its_end(api, worker):
    run_id = await worker.born()
    await worker.claim()
    await worker.log(run_id, *(f"line {n}" for n in range(10)))
    await worker.log(run_id, "watch out", level="WARNING")
    query = """query ($id: ID!, $first: Int, $after: Cursor, $last: Int, $before: Cursor,
                      $filter: LogFilter) { run(id: $id) {
      logs(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
        nodes { cursor message level } endCursor pageInfo { hasNextPage hasPreviousPage } } } }"""

    async def logs(**given):
        found = (await api.query(query, id=str(run_id), **given))["run"]["logs"]
        return [n["message"] for n in found["nodes"]], found

    lines, page = await logs(first=4)
    assert (lines, page["pageInfo"]["hasNextPage"]) == ([f"line {n}" for n in range(4)], True)
    lines, page = await logs(first=100, after=page["endCursor"])
    assert lines == [f"line {n}" for n in range(4, 10)] + ["watch out"]
    assert page["pageInfo"]["hasNextPage"] is False
    tail, last = await logs(last=2)
    assert tail == ["line 9", "watch out"]
    assert last["endCursor"] == page["endCursor"]
    assert (await logs(last=2, before=last["nodes"][0]["cursor"]))[0] == ["line 7", "line 8"]
    assert (await logs(first=9, filter={"minLevel": "WARNING"}))[0] == ["watch out"]
    assert (await logs(first=9, filter={"text": "LINE 3"}))[0] == ["line 3"]
    assert (await logs(first=9, filter={"step": "load"}))[0] == []
    ((code, _),) = await api.errors(query, id=str(run_id), first=1001)
    assert code == "BAD_USER_INPUT"


ABORT = """mutation ($run: ID!) { runAbort(run: $run, reason: "enough") {
  run { status abortRequestedBy reason } created errors { code message path } } }"""


async def test_a_queued_run_ends_here_and_a_running_one_is_told_to(api, worker):
    queued = str(await worker.born())
    answer = (await api.query(ABORT, run=queued))["runAbort"]
    assert answer["errors"] == []
    assert answer["run"]["status"] == "ABORTED"
    assert answer["run"]["reason"] == "aborted by api: enough"
    (error,) = (await api.query(ABORT, run=queued))["runAbort"]["errors"]
    assert error["code"] == "INVALID_STATE"
    await worker.born()
    running = str(await worker.claim())
    answer = (await api.query(ABORT, run=running))["runAbort"]
    assert answer["run"] == {"status": "RUNNING", "abortRequestedBy": "api", "reason": None}
    unknown = "0199aaaa-0000-7000-8000-000000000000"
    (error,) = (await api.query(ABORT, run=unknown))["runAbort"]["errors"]
    assert error["code"] == "NOT_FOUND"
    ((code, _),) = await api.errors(ABORT, run="bogus")
    assert code == "BAD_USER_INPUT"


async def test_a_page_of_runs_with_jobs_and_steps_costs_three_statements(api, worker, job):
    from nomaflow.store import jobs

    row = await jobs.find(api.db, "copy")
    for _ in range(10):
        await worker.born(job_id=row.id, steps=STEPS)
    seen = []
    fetch = api.db.fetch

    async def counted(sql, *values):
        seen.append(sql)
        return await fetch(sql, *values)

    api.db.fetch = counted
    query = (
        "{ runs { nodes { id job { name lastRun { id } } steps { name attempts { number } } } } }"
    )
    await api.query(query)
    ours = [s for s in seen if "catalog" not in s and "processes" not in s]
    assert len(ours) == 5, ours
