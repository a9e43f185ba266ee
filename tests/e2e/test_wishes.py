"""What people ask for, by one run: abort, overrides, another run beside it; and what is refused."""

import asyncio

import pytest


@pytest.fixture(scope="module")
def up(work_up):
    return work_up


@pytest.mark.parametrize(("job", "step"), [("stubborn", "python"), ("sleeper", "sql")])
async def test_abort_ends_a_step_within_two_seconds(up, job, step):
    run_id = await up.trigger(job)
    await up.running(run_id, step)
    if step == "python":
        await up.until(
            run_id, lambda e: any(x["message"] == "off it goes" for x in e.get("lines", ()))
        )
    asked = asyncio.get_running_loop().time()
    abort = 'mutation ($run: ID!) { runAbort(run: $run, reason: "enough") { errors { code } } }'
    assert (await up.ask(abort, run=run_id))["runAbort"]["errors"] == []

    run = await up.ended(run_id)

    assert asyncio.get_running_loop().time() - asked < 2
    assert run["status"] == "ABORTED"
    assert run["reason"].endswith(": enough")
    assert run["steps"][0]["status"] == "ABORTED"
    assert {s["status"] for s in run["steps"][1:]} <= {"SKIPPED"}
    async with up.database() as connection:
        at_work = """SELECT count(*) FROM pg_stat_activity
                     WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"""
        assert await connection.fetchval(at_work) == 0
    payload = (await up.ask(abort, run=run_id))["runAbort"]
    assert [e["code"] for e in payload["errors"]] == ["INVALID_STATE"]


async def test_different_jobs_run_at_the_same_time(up):
    began = asyncio.get_running_loop().time()
    runs = [await up.trigger(job, params={"seconds": 1.5}) for job in ("sleeper", "other-sleeper")]
    first, second = await up.all_ended(runs)
    assert asyncio.get_running_loop().time() - began < 3
    assert max(first["startedAt"], second["startedAt"]) < min(
        first["finishedAt"], second["finishedAt"]
    )


async def test_a_second_trigger_of_a_job_at_work_is_refused(up):
    run_id = await up.trigger("other-sleeper", params={"seconds": 1})
    (error,) = await up.refused("other-sleeper")
    assert error["code"] == "BUSY"
    assert run_id in error["message"]
    await up.ended(run_id)


async def test_the_later_layer_of_parameters_wins(up):
    run = await up.ended(
        await up.trigger(
            "layers", params={"c": "fire", "d": "fire"}, stepKwargs={"echo": {"d": "fire-step"}}
        )
    )
    assert run["steps"][0]["output"] == {"a": "job", "b": "step", "c": "fire", "d": "fire-step"}
    assert run["steps"][1]["output"] == {"a": "job", "b": "step", "c": "fire", "d": "fire"}
    assert run["overrides"]["params"] == {"c": "fire", "d": "fire"}
    assert run["overrides"]["step_kwargs"] == {"echo": {"d": "fire-step"}}
    again = await up.ended(await up.trigger("layers"))
    assert again["steps"][0]["output"] == {"a": "job", "b": "step", "c": "step", "d": "step"}


async def test_a_step_switched_off_for_one_run_is_skipped(up):
    run = await up.ended(await up.trigger("layers", stepEnabled={"optional": False}))
    assert run["status"] == "SUCCEEDED"
    assert (run["steps"][1]["status"], run["steps"][1]["reason"]) == (
        "SKIPPED",
        "skipped: disabled",
    )


async def test_wrong_wishes_get_a_sentence_and_start_nothing(up):
    (error,) = await up.refused("layer")
    assert error["code"] == "NOT_FOUND"
    assert "`layers`" in error["message"]
    (error,) = await up.refused("layers", params={"count": "many"})
    assert (error["code"], error["path"][-1]) == ("INVALID", "count")
    (error,) = await up.refused("layers", stepKwargs={"ech": {"a": 1}})
    assert "ech" in error["message"] + ".".join(error["path"])
    (error,) = await up.refused("layers", stepEnabled={"echo": "no"})
    assert error["code"] == "INVALID"
