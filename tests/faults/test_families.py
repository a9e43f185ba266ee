"""Runs that start runs, while what they stand on dies: each child is born once, and waited for."""

import asyncio

import pytest
from house import House

JOBS = """
[[jobs]]
name = "caller"
[[jobs.steps]]
name = "call"
type = "call_job"
job = "child"
params = {{ n = 7, seconds = {child} }}

[[jobs]]
name = "function"
[[jobs.steps]]
name = "go"
type = "python"
callable = "families:many"
kwargs = {{ before = {before}, seconds = {child} }}
on_interrupt = "retry"

[[jobs]]
name = "child"
overlap = "allow"
params = {{ n = 0, seconds = 0.0 }}
[[jobs.steps]]
name = "work"
type = "python"
callable = "families:work"
on_interrupt = "retry"
"""
PLUGIN = """
import asyncio

async def many(ctx, *, before: float, seconds: float):
    await asyncio.sleep(before)
    runs = await asyncio.gather(
        *(ctx.call_job("child", {"n": n, "seconds": seconds}) for n in range(4)),
        ctx.call_job("child", {"n": 9, "seconds": seconds}, wait=False),
    )
    return {"ns": [run.output.get("n") for run in runs]}

async def work(ctx, *, n: int, seconds: float):
    await asyncio.sleep(seconds)
    return {"n": n}
"""


async def declare(home: House, before: float, child: float) -> None:
    plugins = home.project / "plugins"
    plugins.mkdir(exist_ok=True)
    (plugins / "families.py").write_text(PLUGIN)
    await home.declare(JOBS.format(before=before, child=child))


async def judged(home: House, caller, function) -> None:
    """Every child once, and whole answers."""
    for run_id in (caller, function):
        run = await home.end(run_id, 60)
        assert run["status"] == "succeeded", run["reason"]
    await home.settled(30)
    children = await home.db.fetch(
        "SELECT parent_run_id, params ->> 'n' AS n, status FROM runs WHERE job_name = 'child'"
    )
    assert {row["status"] for row in children} == {"succeeded"}
    born = sorted((row["parent_run_id"] == function, row["n"]) for row in children)
    assert born == [(False, "7"), *((True, n) for n in "01239")]
    output = await home.db.fetchval("SELECT output FROM step_runs WHERE run_id = $1", function)
    assert output["ns"] == [0, 1, 2, 3, None]


async def waiting(home: House, caller, function) -> None:
    async with asyncio.timeout(30):
        while await home.db.fetchval("SELECT count(*) FROM runs WHERE job_name = 'child'") < 6:
            await asyncio.sleep(0.02)


@pytest.mark.timeout(180)
async def test_a_worker_dies_that_waits_for_children(home: House, figures):
    home.settings["NOMAFLOW_LEASE_SECONDS"] = "3"
    await declare(home, before=0, child=4)
    await home.start("worker")
    caller, function = await home.trigger("caller"), await home.trigger("function")
    await waiting(home, caller, function)
    victim = await home.owner(function)
    await victim.kill()
    await home.start("worker")
    await judged(home, caller, function)
    figures(children=6)


@pytest.mark.timeout(180)
async def test_postgresql_is_away_when_children_are_to_be_born(home: House, figures):
    home.settings["NOMAFLOW_LEASE_SECONDS"] = "6"
    await declare(home, before=2, child=1)
    await home.start("worker")
    function = await home.trigger("function")
    await home.until(function, "go", "running")
    caller = await home.trigger("caller")
    await home.until(caller, "call", "running")
    await asyncio.sleep(0.5)
    await home.postgres.restart(crash=True)
    await asyncio.sleep(1.2)  # the function asks for its children about now
    await home.postgres.restart(crash=True)
    await home.ask(lambda: home.db.fetchval("SELECT 1"))
    await judged(home, caller, function)
    figures(children=6)
