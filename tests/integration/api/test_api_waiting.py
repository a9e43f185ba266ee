"""What a queued run waits for, as clients read it, and the fields of a job that decide about it."""

import re

import pytest

from nomaflow import moves
from nomaflow.errors import Failure
from nomaflow.retry import RetryPolicy
from nomaflow.store import claims, processes

CREATE = """mutation ($input: JobInput!) { jobCreate(input: $input) {
  job { overlap queueDepth lock worker priority } errors { code message path } } }"""
TRIGGER = """mutation ($job: String!) { runTrigger(input: { job: $job }) {
  run { id } errors { code message } } }"""
WAITING = "query ($id: ID!) { run(id: $id) { status waitingFor } }"
STEP = {"name": "a", "type": "sql_query", "config": {"connector": "default", "query": "SELECT 1"}}


async def declare(api, name, **fields):
    given = {"name": name, "steps": [STEP], **fields}
    payload = (await api.query(CREATE, input=given))["jobCreate"]
    assert payload["errors"] == []
    return payload["job"]


async def trigger(api, job):
    from nomaflow_api.graph.base import parts_of

    payload = (await api.query(TRIGGER, job=job))["runTrigger"]
    assert payload["errors"] == []
    return parts_of(payload["run"]["id"])[1]


async def waiting(api, run_id):
    return (await api.query(WAITING, id=str(run_id)))["run"]["waitingFor"]


async def beat(api, *tags, state="active"):
    details = {"tags": list(tags)}
    await processes.beat(api.db, "w1", "worker", state=state, capacity=1, details=details)


async def take_turn(api):
    claimed = await claims.claim_turn(api.db, "w1", lease_seconds=60, tags=["default"])
    assert claimed is not None
    return claimed.held


async def test_the_fields_of_turns_are_declared_and_read_back(api):
    given = {"overlap": "QUEUE", "queueDepth": 3, "lock": "wh", "worker": "gpu", "priority": 7}
    assert await declare(api, "j", **given) == given
    bare = {"overlap": "SKIP", "queueDepth": 1, "lock": None, "worker": "default", "priority": 0}
    assert await declare(api, "bare") == bare
    for overlap in ("ALLOW", "REPLACE"):
        assert (await declare(api, overlap, overlap=overlap))["overlap"] == overlap
    wrong = {"name": "k", "steps": [STEP], "queueDepth": 0}
    (error,) = (await api.query(CREATE, input=wrong))["jobCreate"]["errors"]
    assert (error["code"], error["path"]) == ("INVALID", ["queueDepth"])


async def test_a_run_waits_for_a_worker_that_takes_its_kind(api):
    await declare(api, "j", overlap="ALLOW")
    await declare(api, "heavy", worker="gpu")
    run, heavy = await trigger(api, "j"), await trigger(api, "heavy")
    assert await waiting(api, run) == 'a worker with tag "default"'
    await beat(api, "default")
    assert await waiting(api, run) == "a free worker"
    assert await waiting(api, heavy) == 'a worker with tag "gpu"'
    await beat(api, "default", state="draining")
    assert await waiting(api, run) == 'a worker with tag "default"'
    await claims.claim(api.db, "w1", limit=1, lease_seconds=60, tags=["default"])
    found = (await api.query(WAITING, id=run))["run"]
    assert found == {"status": "RUNNING", "waitingFor": None}


async def test_a_run_waits_for_its_turn_and_for_a_lock(api):
    await beat(api, "default")
    await declare(api, "j", overlap="QUEUE", queueDepth=5, lock="warehouse")
    await declare(api, "other", lock="warehouse")
    first, second, third = [await trigger(api, "j") for _ in range(3)]
    other = await trigger(api, "other")
    assert await waiting(api, first) == await waiting(api, other) == "a free worker"
    assert await waiting(api, second) == f"run {first} of this job"
    held = await take_turn(api)
    assert await waiting(api, third) == f"run {first} of this job"
    assert await waiting(api, other) == f'lock "warehouse" held by run {first} of j'
    assert await worker_ends(api, held)
    assert await waiting(api, second) == "a free worker"
    assert await waiting(api, third) == f"run {second} of this job"


async def worker_ends(api, held):
    from nomaflow.lifecycle import Onward, Result
    from nomaflow.store import runs

    return await runs.apply(api.db, moves.succeed(held, Result({}, "ok"), Onward()))


@pytest.mark.parametrize(
    ("wait", "words"),
    [(3600, r"retry at (\S+T)?\d\d:\d\d:\d\dZ \(attempt 2 of 3\)"), (86_400, r"retry at \S+T.*")],
)
async def test_a_run_in_a_long_back_off_says_when_it_goes_on(api, worker, wait, words):
    await beat(api, "default")
    run_id = await worker.born()
    await worker.claim()
    policy = RetryPolicy(attempts=3, base_seconds=wait)
    failure = Failure("E", "no", retryable=True, category="error")
    await worker.move(run_id, moves.fail(worker.held[run_id], failure, policy))
    release = moves.release(worker.held[run_id], "waiting", not_before_seconds=wait)
    await worker.move(run_id, release)
    assert re.fullmatch(words, await waiting(api, run_id))
    await api.db.execute("UPDATE runs SET not_before = now() WHERE id = $1", run_id)
    assert await waiting(api, run_id) == "a free worker"


async def test_a_run_of_the_house_waits_for_a_scheduler(api, worker):
    assert await waiting(api, await worker.born(kind="system")) == "a scheduler"


async def test_a_page_of_waiting_runs_costs_one_statement_more(api, worker):
    for _ in range(10):
        await worker.born()
    seen = []
    fetch = api.db.fetch

    async def counted(sql, *values):
        seen.append(sql)
        return await fetch(sql, *values)

    api.db.fetch = counted
    found = await api.query("{ runs { nodes { waitingFor children { id } } } }")
    assert {n["waitingFor"] for n in found["runs"]["nodes"]} == {'a worker with tag "default"'}
    ours = [s for s in seen if "catalog" not in s and "application" not in s]
    assert len(ours) == 3, ours


async def test_a_run_names_the_runs_that_it_started(api, worker):
    parent = await worker.born()
    kept = [str(await worker.born(parent_run_id=parent, job_name=n)) for n in ("a", "b")]
    query = """query ($id: ID!) { run(id: $id) { children { jobName parent { jobName } } } }"""
    found = (await api.query(query, id=str(parent)))["run"]["children"]
    assert [c["jobName"] for c in found] == ["a", "b"]
    assert {c["parent"]["jobName"] for c in found} == {"copy"}
    assert (await api.query(query, id=kept[0]))["run"]["children"] == []
