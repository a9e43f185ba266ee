"""Bootstrap jobs over GraphQL: in order, each after the one before succeeded (J26)."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from nomaflow import installation
from nomaflow.errors import Failure
from nomaflow.in_force import catalog
from nomaflow_api import installing
from nomaflow_api.backing import Backing

STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}
FIELDS = "runs { id jobName status } done errors { code message path }"
INSTALL = f"mutation ($force: Boolean) {{ installRun(force: $force) {{ {FIELDS} }} }}"
STANDS = "{ installation { forced done remaining runs { jobName status triggeredBy } } }"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Answer after half a second instead of five: no worker runs here but the test itself."""
    monkeypatch.setattr(installing, "ANSWER_SECONDS", 0.5)


async def declare(api, name, step, **fields):
    raw = {"name": name, "install_step": step, "steps": [STEP], **fields}
    await catalog.create(api.db, api.backing.bell, raw, by="test")


async def install(api, *, force=False):
    return (await api.query(INSTALL, force=force))["installRun"]


async def stands(api):
    found = (await api.query(STANDS))["installation"]
    return found and (found["done"], began(found), found["remaining"])


def began(found):
    return [(run["jobName"], run["status"]) for run in found["runs"]]


async def claimed(worker):
    """The next run, as soon as it is there."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await worker.claim()
            except ValueError:
                await asyncio.sleep(0.05)


async def until_done(api):
    async with asyncio.timeout(10):
        while not (await stands(api))[0]:
            await asyncio.sleep(0.05)


async def test_jobs_run_in_order_each_after_the_one_before(api, worker):
    await declare(api, "second", 2)
    await declare(api, "first", 1)
    await declare(api, "third", 3)
    await catalog.create(api.db, api.backing.bell, {"name": "no", "steps": [STEP]}, by="test")
    answer = await install(api)
    assert (began(answer), answer["done"], answer["errors"]) == ([("first", "QUEUED")], False, [])
    await worker.done(await claimed(worker))
    await worker.done(await claimed(worker))
    assert await stands(api) == (
        False,
        [("first", "SUCCEEDED"), ("second", "SUCCEEDED")],
        ["third"],
    ) or began((await api.query(STANDS))["installation"])[2:] == [("third", "QUEUED")]
    await worker.done(await claimed(worker))
    await until_done(api)
    found = (await api.query(STANDS))["installation"]
    assert began(found) == [
        ("first", "SUCCEEDED"),
        ("second", "SUCCEEDED"),
        ("third", "SUCCEEDED"),
    ]
    assert {run["triggeredBy"] for run in found["runs"]} == {"api"}


async def test_what_has_succeeded_is_skipped_unless_forced(api, worker):
    await declare(api, "first", 1)
    await declare(api, "second", 2)
    await install(api)
    await worker.done(await claimed(worker))
    await worker.done(await claimed(worker))
    await until_done(api)
    assert await install(api) == {"runs": [], "done": True, "errors": []}
    await declare(api, "new", 1)
    assert began(await install(api)) == [("new", "QUEUED")]
    await worker.done(await claimed(worker))
    await until_done(api)
    assert began(await install(api, force=True)) == [("first", "QUEUED")]
    (error,) = (await install(api))["errors"]
    assert error["code"] == "BUSY"


async def test_the_first_failure_ends_it_and_is_said(api, worker, monkeypatch):
    monkeypatch.setattr(installing, "ANSWER_SECONDS", 5)
    await declare(api, "first", 1)
    await declare(api, "second", 2)
    waiting = asyncio.create_task(install(api))
    await worker.failed(await claimed(worker), Failure("Boom", "it broke"))
    answer = await waiting
    assert (began(answer), answer["done"]) == ([("first", "FAILED")], True)
    assert answer["errors"] == [
        {
            "code": "INVALID_STATE",
            "message": "job `first` is failed, so the installation ends; not begun: `second`",
            "path": [],
        }
    ]
    assert await stands(api) == (True, [("first", "FAILED")], ["second"])
    # Once the cause is mended, it begins with the job that failed.
    assert began(await install(api)) == [("first", "QUEUED")]


@contextlib.asynccontextmanager
async def program(options):
    """An API process, as far as an installation needs one."""
    backing = Backing(options)
    running = asyncio.create_task(backing.run())
    try:
        async with asyncio.timeout(10):
            await backing.opened.wait()
        yield backing
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_it_goes_on_when_the_api_was_started_anew_in_the_middle(options):
    async with program(options) as first:
        for name, step in (("first", 1), ("second", 2)):
            raw = {"name": name, "install_step": step, "steps": [STEP]}
            await catalog.create(first.db, first.bell, raw, by="test")
        by = installation.By("api", "api", "admin")
        await installation.begin(first.db, first.bell, forced=False, by=by)
    async with program(options) as second:
        await second.db.execute(
            "UPDATE runs SET status = 'succeeded', started_at = now(), finished_at = now()"
        )
        async with asyncio.timeout(10):
            while await second.db.fetchval("SELECT count(*) FROM runs") < 2:
                await asyncio.sleep(0.05)
        there = await installation.current(second.db)
        assert there is not None
        assert [(run.job, run.status) for run in there.runs] == [
            ("first", "succeeded"),
            ("second", "queued"),
        ]


async def test_several_programs_that_carry_it_on_begin_each_job_once(api, worker):
    for name in ("a", "b", "c"):
        await declare(api, name, 1)
    await install(api)
    for _ in range(3):
        await worker.done(await claimed(worker))
        await asyncio.gather(*(installation.carry(api.db, api.backing.bell) for _ in range(5)))
    await until_done(api)
    assert await api.db.fetchval("SELECT count(*) FROM runs") == 3


async def test_two_who_ask_at_once_get_one_installation(api):
    await declare(api, "first", 1, overlap="allow")
    answers = await asyncio.gather(*(install(api) for _ in range(4)))
    assert len({run["id"] for answer in answers for run in answer["runs"]}) == 1


async def test_a_job_that_is_declared_later_is_not_begun_by_an_installation_that_is_over(
    api, worker
):
    await declare(api, "first", 1)
    await install(api)
    await worker.done(await claimed(worker))
    await until_done(api)
    await declare(api, "later", 2)
    assert await installation.carry(api.db, api.backing.bell) is False
    assert await stands(api) == (True, [("first", "SUCCEEDED")], [])


async def test_without_install_jobs_there_is_nothing_to_do(api):
    assert await install(api) == {"runs": [], "done": True, "errors": []}
    assert await stands(api) is None


async def test_a_busy_job_is_begun_when_its_other_run_is_over(api, worker):
    await declare(api, "first", 1)
    await declare(api, "second", 2)
    trigger = 'mutation { runTrigger(input: { job: "second" }) { run { id } errors { code } } }'
    await install(api)
    await api.query(trigger)
    await worker.done(await claimed(worker))
    own = await claimed(worker)
    await asyncio.sleep(1.2)  # it looks, finds the job busy, and looks again
    await worker.failed(own, Failure("Boom", "it broke"))
    await worker.done(await claimed(worker))
    await until_done(api)
    assert (await stands(api))[1] == [("first", "SUCCEEDED"), ("second", "SUCCEEDED")]
