"""Runs again and runs no more: replays, idempotency keys, and aborts in every situation."""

import pytest

from nomaflow import moves
from nomaflow.errors import Failure
from nomaflow.retry import RetryPolicy
from nomaflow.store import claims, leases, runs

CREATE = """mutation ($input: JobInput!) { jobCreate(input: $input) { errors { message } } }"""
TRIGGER = """mutation ($input: RunTriggerInput!) { runTrigger(input: $input) {
  run { id } created errors { code message path } } }"""
REPLAY = """mutation ($input: RunReplayInput!) { runReplay(input: $input) {
  run { id jobRevision status triggeredBy params overrides dryRun logLevel replayOf { id }
    steps { name status reason output } }
  created errors { code message path } } }"""
ABORT = """mutation ($run: ID!, $reason: String) { runAbort(run: $run, reason: $reason) {
  run { status reason abortRequestedBy steps { status reason } } errors { code message path } } }"""
SQL = {"connector": "default", "query": "SELECT 1"}
UNKNOWN = "0199aaaa-0000-7000-8000-000000000000"


async def declare(api, name="copy", **fields):
    steps = [{"name": n, "type": "sql_query", "config": SQL} for n in ("fetch", "load")]
    declared = {"name": name, "steps": steps, "params": {"day": "monday"}, **fields}
    assert (await api.query(CREATE, input=declared))["jobCreate"]["errors"] == []


async def trigger(api, **fields):
    answer = (await api.query(TRIGGER, input={"job": "copy", **fields}))["runTrigger"]
    assert answer["errors"] == [], answer
    return answer["run"]["id"], answer["created"]


async def replay(api, run, **fields):
    return (await api.query(REPLAY, input={"run": run, **fields}))["runReplay"]


@pytest.fixture
async def failed(api, worker):
    """A run of `copy` whose first step succeeded and whose second failed."""
    await declare(api)
    run, _ = await trigger(api, params={"day": "friday"}, dryRun=True)
    run_id = await worker.claim()
    await worker.done(run_id, {"rows": 3})
    await worker.failed(run_id, Failure("ValueError", "no such table"))
    return run


async def test_a_run_goes_again_from_where_it_failed_with_edits(api, failed):
    answer = await replay(api, failed, fromStep="load", params={"day": "sunday"}, dryRun=False)
    assert (answer["errors"], answer["created"]) == ([], True)
    run = answer["run"]
    assert (run["status"], run["triggeredBy"], run["dryRun"]) == ("QUEUED", "api", False)
    assert run["params"] == {"day": "sunday"}
    assert run["replayOf"] == {"id": failed}
    fetch, load = run["steps"]
    assert (fetch["status"], fetch["output"]) == ("SKIPPED", {"rows": 3})
    assert fetch["reason"].startswith("skipped: kept from run ")
    assert load["status"] == "PENDING"


async def test_the_whole_run_again_is_as_it_was(api, failed):
    run = (await replay(api, failed))["run"]
    assert (run["params"], run["dryRun"], run["jobRevision"]) == ({"day": "friday"}, True, 1)
    assert [s["status"] for s in run["steps"]] == ["PENDING", "PENDING"]


async def test_the_command_line_that_replays_is_named(api, failed):
    given = {"input": {"run": failed, "logLevel": "DEBUG"}}
    response = await api.post(REPLAY, given, **{"Nomaflow-Client": "cli/bob"})
    run = response.json()["data"]["runReplay"]["run"]
    assert (run["triggeredBy"], run["logLevel"]) == ("cli:bob", "DEBUG")


async def test_what_cannot_run_again_is_a_sentence_and_starts_nothing(api, failed, worker):
    async def count():
        return (await api.query("{ runs { totalCount } }"))["runs"]["totalCount"]

    before = await count()
    external = str(await worker.born(job_name="outside"))
    await api.query(ABORT, run=external)
    wishes = (
        (failed, {"fromStep": "nope"}, "INVALID", ["fromStep"]),
        (failed, {"params": []}, "INVALID", ["params"]),
        (failed, {"params": {"day": 5}}, "INVALID", ["params", "day"]),
        (failed, {"stepEnabled": {"zzz": True}}, "INVALID", ["stepEnabled", "zzz"]),
        (failed, {"stepKwargs": {"load": 5}}, "INVALID", ["stepKwargs", "load"]),
        (UNKNOWN, {}, "NOT_FOUND", ["run"]),
        (external, {}, "INVALID_STATE", ["run"]),
    )
    for run, wish, code, path in wishes:
        answer = await replay(api, run, **wish)
        assert answer["run"] is None, wish
        assert (code, path) in [(e["code"], e["path"]) for e in answer["errors"]], answer
    assert await count() == before + 1
    again = (await replay(api, failed))["run"]["id"]
    (busy,) = (await replay(api, failed))["errors"]
    assert busy["code"] == "BUSY"
    (early,) = (await replay(api, again))["errors"]
    assert early["code"] == "INVALID_STATE"


async def test_a_key_belongs_to_a_job_and_to_seven_days(api):
    await declare(api, overlap="ALLOW")
    await declare(api, "other")
    first, created = await trigger(api, idempotencyKey="k")
    assert created
    assert await trigger(api, idempotencyKey="k") == (first, False)
    assert (await trigger(api, idempotencyKey="k", job="other"))[1]
    await api.query(ABORT, run=first)
    assert await trigger(api, idempotencyKey="k") == (first, False)  # over, and still the answer
    await age(api, days=6.9)
    assert await trigger(api, idempotencyKey="k") == (first, False)
    await age(api, days=0.2)
    second, created = await trigger(api, idempotencyKey="k")
    assert (created, second != first) == (True, True)
    query = "query ($id: ID!) { run(id: $id) { idempotencyKey } }"
    assert (await api.query(query, id=second))["run"]["idempotencyKey"] == "k"


async def age(api, days):
    await api.db.execute(
        "UPDATE runs SET queued_at = queued_at - make_interval(secs => $1) WHERE job_name = 'copy'",
        days * 86_400.0,
    )


async def test_a_key_answers_even_while_the_job_is_busy(api):
    await declare(api)
    first, _ = await trigger(api, idempotencyKey="k")
    assert await trigger(api, idempotencyKey="k") == (first, False)


async def abort(api, run, reason=None):
    payload = (await api.query(ABORT, run=str(run), reason=reason))["runAbort"]
    return payload["run"], [e["code"] for e in payload["errors"]]


async def test_a_queued_run_ends_at_once_and_says_who_and_why(api, worker):
    run_id = await worker.born()
    run, errors = await abort(api, run_id, "wrong day")
    assert errors == []
    assert (run["status"], run["abortRequestedBy"]) == ("ABORTED", "api")
    assert run["reason"] == "aborted by api: wrong day"
    assert {s["status"] for s in run["steps"]} == {"SKIPPED"}
    again, errors = await abort(api, run_id)
    assert (again["reason"], errors) == ("aborted by api: wrong day", ["INVALID_STATE"])
    assert await abort(api, UNKNOWN) == (None, ["NOT_FOUND"])


async def test_a_running_run_is_asked_once_however_often_one_asks(api, worker):
    run_id = await worker.born()
    await worker.claim()
    for reason in ("first", "second", None):
        run, errors = await abort(api, run_id, reason)
        assert (run["status"], run["abortRequestedBy"], errors) == ("RUNNING", "api", [])
    (asked,) = await leases.abort_requests(api.db, "w1")
    assert (asked.run_id, asked.abort_reason) == (run_id, "first")


async def test_a_run_whose_worker_is_dead_ends_at_once(api, worker):
    run_id = await worker.born()
    await worker.claim()
    await api.db.execute("UPDATE runs SET lease_expires_at = now() - interval '1 s'")
    run, errors = await abort(api, run_id, "it is dead")
    assert (run["status"], run["reason"], errors) == ("ABORTED", "aborted by api: it is dead", [])
    assert [s["status"] for s in run["steps"]] == ["ABORTED", "SKIPPED"]
    held = worker.held[run_id]  # the worker was only asleep: what it says now is not written
    assert await runs.apply(api.db, moves.fail(held, Failure("E", "late"), RetryPolicy())) is None


async def test_a_run_asked_to_end_while_it_goes_into_a_long_wait_does_not_wait(api, worker):
    run_id = await worker.born()
    await worker.claim()
    policy = RetryPolicy(attempts=2)
    failure = Failure("E", "no", retryable=True, category="error")
    await worker.move(run_id, moves.fail(worker.held[run_id], failure, policy))
    assert (await abort(api, run_id, "enough"))[0]["status"] == "RUNNING"
    release = moves.release(worker.held[run_id], "waiting", not_before_seconds=3600)
    await worker.move(run_id, release)
    (claimed,) = await claims.claim(api.db, "w2", limit=1, lease_seconds=60, tags=["default"])
    assert (claimed.run_id, claimed.abort_requested_by) == (run_id, "api")


async def test_who_may_run_a_job_may_not_change_what_its_steps_do(api, failed, monkeypatch):
    from nomaflow_api.auth import Doorkeeper, Permission, Principal

    weak = Principal("runner", "service", frozenset({Permission.SEE, Permission.RUN}))
    monkeypatch.setattr(Doorkeeper, "admit", lambda *_: weak)
    other = {"load": {"query": "SELECT 2"}}
    wrong = ("FORBIDDEN", ["stepKwargs", "load", "query"])
    answer = (await api.query(TRIGGER, input={"job": "copy", "stepKwargs": other}))["runTrigger"]
    for found in (answer, await replay(api, failed, stepKwargs=other)):
        assert found["run"] is None
        assert [(e["code"], e["path"]) for e in found["errors"]] == [wrong]
    refused = await api.http.post("/admin/jobs/copy/run", json={"op_kwargs": other})
    assert refused.status_code == 422
    assert "takes the permission `edit`" in refused.text
    answer = await replay(api, failed, stepKwargs={"load": {"fetch": "first"}})
    assert answer["errors"] == []


async def test_parameters_that_hold_a_secret_are_masked_where_they_are_shown(api):
    await declare(api)
    url = "https://bob:hunter2hunter2@x.example"
    run, _ = await trigger(api, params={"day": "a-token-for-tests-0123456789", "url": url})
    query = "query ($id: ID!) { run(id: $id) { params overrides } }"
    shown = (await api.query(query, id=run))["run"]
    masked = {"day": "***", "url": "https://bob:***@x.example"}
    assert shown == {"params": masked, "overrides": {"params": masked}}
