"""Syncs in the graph: what they did, how far they came, what they could not write."""

from uuid import UUID

import pytest

from nomaflow import moves
from nomaflow.lifecycle import Onward, Result
from nomaflow.steps.syncing.largest import Largest
from nomaflow.steps.syncing.tally import Tally
from nomaflow.steps.syncing.writing import Written
from nomaflow.store import checkpoints, watermarks
from nomaflow.store.failed_batches import NewFailedBatch

CREATE = """mutation ($input: JobInput!) { jobCreate(input: $input) { errors { message } } }"""
TRIGGER = """mutation ($input: RunTriggerInput!) { runTrigger(input: $input) {
  run { id } errors { message } } }"""
SET = """mutation ($job: String!, $name: String!, $value: String) {
  watermarkSet(job: $job, name: $name, value: $value) {
    job { watermarks { name value updatedAt run { id } } } errors { code message path } } }"""
RETRY = """mutation ($run: ID, $job: String, $step: String, $limit: Int) {
  failedBatchRetry(run: $run, job: $job, step: $step, limit: $limit) {
    run { id kind status jobName triggeredBy replayOf { id } overrides steps { name status reason }
      failedBatches { totalCount nodes { batch } } }
    retried errors { code message path } } }"""
RUN = """query ($id: ID!, $first: Int, $after: String, $status: String) { run(id: $id) {
  status reason
  sync { records pages batches inserted updated errorCount errors durationSeconds completedAt }
  failedBatches(first: $first, after: $after, status: $status) {
    totalCount pageInfo { hasNextPage endCursor }
    nodes { id step page batch items error attempts status createdAt payload } } } }"""
JOB = """{ job(name: "users") { watermarks { name value } lastSuccess { id }
  failedBatches(status: "PENDING") { totalCount nodes { step batch } } } }"""
CONFIG = {
    "request": {"url": "http://127.0.0.1:1/users"},
    "map": {"id": "id"},
    "target": {"table": "users", "key": ["id"]},
    "on_error": "continue",
}
OUTPUT = {
    "records": 250,
    "pages": 3,
    "batches": 25,
    "inserted": 230,
    "updated": 0,
    "failed_batches": 2,
    "errors": [{"page": 1, "batch": 7, "error": "no", "at": "2026-01-01T00:00:00Z"}],
    "duration_seconds": 1.5,
    "completed_at": "2026-01-01T00:00:01.500Z",
}


@pytest.fixture
async def partial(api, worker):
    """A run of `users` that could not write its batches 7 and 9."""
    step = {"name": "sync", "type": "http_sync", "config": CONFIG}
    declared = {"name": "users", "steps": [step]}
    assert (await api.query(CREATE, input=declared))["jobCreate"]["errors"] == []
    run = (await api.query(TRIGGER, input={"job": "users"}))["runTrigger"]["run"]["id"]
    assert (await api.query(RUN, id=run))["run"]["sync"] is None
    run_id = await worker.claim()
    held = worker.held[run_id]
    failed = [NewFailedBatch(1, n, [{"id": n}], f"batch {n} is bad") for n in (7, 9)]
    assert await checkpoints.write(api.db, run_id, held.fence, 0, {"pages": 3}, failed)
    result = Result(OUTPUT, "", 230, reason="2 batches failed", watermarks={"last_sync": "now"})
    await worker.move(run_id, moves.succeed(held, result, Onward()))
    return run


async def test_an_aborted_run_shows_its_last_whole_page(api, worker):
    declared = {
        "name": "users",
        "steps": [{"name": "sync", "type": "http_sync", "config": CONFIG}],
    }
    assert (await api.query(CREATE, input=declared))["jobCreate"]["errors"] == []
    run = (await api.query(TRIGGER, input={"job": "users"}))["runTrigger"]["run"]["id"]
    run_id = await worker.claim()
    tally = Tally("r", Largest())
    tally.wrote(200, Written(150, 50))
    tally.lost(2, [{"id": 7}], "no")
    tally.pages = 2
    held = worker.held[run_id]
    assert await checkpoints.write(api.db, run_id, held.fence, 0, tally.checkpoint())
    assert (await api.query(RUN, id=run))["run"]["sync"] is None  # it has not ended
    await worker.move(run_id, moves.abort(held, "aborted by user:ann"))
    shown = (await api.query(RUN, id=run))["run"]
    assert shown["status"] == "ABORTED"
    assert shown["sync"].pop("durationSeconds") >= 0
    assert shown["sync"] == {
        "records": "201",
        "pages": 2,
        "batches": 2,
        "inserted": "150",
        "updated": "50",
        "errorCount": 1,
        "errors": tally.errors,
        "completedAt": None,
    }


async def test_a_run_shows_what_its_syncs_did(api, partial):
    run = (await api.query(RUN, id=partial, first=1))["run"]
    assert (run["status"], run["reason"]) == ("PARTIAL", "partial: step `sync`: 2 batches failed")
    assert run["sync"] == {
        "records": "250",
        "pages": 3,
        "batches": 25,
        "inserted": "230",
        "updated": "0",
        "errorCount": 2,
        "errors": OUTPUT["errors"],
        "durationSeconds": 1.5,
        "completedAt": "2026-01-01T00:00:01.500Z",
    }
    page = run["failedBatches"]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (2, True)
    (newest,) = page["nodes"]
    assert (newest["step"], newest["page"], newest["batch"], newest["items"]) == ("sync", 1, 9, 1)
    assert (newest["status"], newest["attempts"], newest["payload"]) == ("pending", 1, [{"id": 9}])
    after = page["pageInfo"]["endCursor"]
    rest = (await api.query(RUN, id=partial, after=after))["run"]["failedBatches"]
    assert [node["batch"] for node in rest["nodes"]] == [7]
    done = (await api.query(RUN, id=partial, status="done"))["run"]["failedBatches"]
    assert (done["nodes"], done["totalCount"]) == ([], 0)
    job = (await api.query(JOB))["job"]
    assert job["failedBatches"]["totalCount"] == 2
    assert (job["watermarks"], job["lastSuccess"]) == ([], None)


async def test_a_retry_is_a_run_of_its_own(api, partial, worker):
    answer = (await api.query(RETRY, run=partial, limit=1))["failedBatchRetry"]
    assert (answer["errors"], answer["retried"]) == ([], 1)
    run = answer["run"]
    assert (run["kind"], run["status"], run["jobName"]) == ("JOB", "QUEUED", "users")
    assert run["replayOf"] == {"id": partial}
    assert run["overrides"]["failed_batches"]["batches"] == 1
    assert run["failedBatches"] == {"totalCount": 1, "nodes": [{"batch": 7}]}
    busy = (await api.query(RETRY, job="users"))["failedBatchRetry"]
    assert [error["code"] for error in busy["errors"]] == ["BUSY"]
    run_id = await worker.claim()
    await worker.done(run_id, OUTPUT)
    job = (await api.query(JOB))["job"]
    assert job["lastSuccess"] is None


@pytest.mark.parametrize(
    ("asked", "code", "path"),
    [
        ({}, "INVALID", ["run"]),
        ({"job": "nobody"}, "NOT_FOUND", ["job"]),
        ({"run": "0199aaaa-0000-7000-8000-000000000000"}, "NOT_FOUND", ["run"]),
        ({"job": "users", "limit": 0}, "INVALID", ["limit"]),
    ],
)
async def test_a_retry_that_makes_no_sense(api, partial, asked, code, path):
    answer = (await api.query(RETRY, **asked))["failedBatchRetry"]
    assert (answer["run"], answer["retried"]) == (None, 0)
    assert [(error["code"], error["path"]) for error in answer["errors"]] == [(code, path)]


async def test_no_batch_of_that_step(api, partial):
    answer = (await api.query(RETRY, run=partial, step="other"))["failedBatchRetry"]
    assert answer == {"run": None, "retried": 0, "errors": []}


async def test_a_status_that_no_batch_has(api, partial):
    ((code, message),) = await api.errors(RUN, id=partial, status="lost")
    assert code == "BAD_USER_INPUT"
    assert "pending, done, failed" in message
    ((code, _),) = await api.errors(RUN, id=partial, after="nonsense")
    assert code == "BAD_USER_INPUT"


async def test_a_watermark_is_set_and_forgotten(api, partial):
    made = (await api.query(SET, job="users", name="last_sync", value="2026-01-01"))["watermarkSet"]
    (mark,) = made["job"]["watermarks"]
    assert (mark["name"], mark["value"], mark["run"]) == ("last_sync", "2026-01-01", None)
    await watermarks.set(api.db, "users", "last_sync", "later", UUID(int=1))
    (mark,) = (await api.query(JOB))["job"]["watermarks"]
    assert mark == {"name": "last_sync", "value": "later"}
    gone = (await api.query(SET, job="users", name="last_sync", value=None))["watermarkSet"]
    assert gone == {"job": {"watermarks": []}, "errors": []}


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"job": "nobody", "name": "x", "value": "1"}, ["job"]),
        ({"job": "users", "name": "a b", "value": "1"}, ["name"]),
        ({"job": "users", "name": "x", "value": "two\nlines"}, ["value"]),
        ({"job": "users", "name": "x", "value": "x" * 4001}, ["value"]),
    ],
)
async def test_a_watermark_that_cannot_be(api, partial, asked, path):
    answer = (await api.query(SET, **asked))["watermarkSet"]
    assert (answer["job"], [error["path"] for error in answer["errors"]]) == (None, [path])
