"""`ctx.call_job` and `ctx.parent_chain`: a function that starts runs of other jobs (J27, P07)."""

import asyncio

import pytest
from workshop import working

from nomaflow import dispatch
from nomaflow_worker import called_runs
from nomaflow_worker import children as children_module

CHILD = """
[[jobs]]
name = "child"
params = { day = "none", text = "", n = 0 }
overlap = "allow"
%s
[[jobs.steps]]
name = "work"
type = "sql_query"
connector = "default"
query = "%s"
params = { day = "${kw:day}", text = "${kw:text}", n = "${kw:n}" }
fetch = "first"
"""
ECHO = "SELECT :day AS day, :text AS text, :n::int AS n"
PARENT = """
[[jobs]]
name = "parent"
%s
[[jobs.steps]]
name = "go"
type = "python"
callable = "calls:%s"
%s
"""
CALLS = """
import asyncio
from datetime import date
from nomaflow import StepContext
from nomaflow.errors import StepError


async def once(ctx: StepContext, **_):
    run = await ctx.call_job("child", {"day": date(2026, 5, 1), "text": "a ${env:HOME} b", "n": 7})
    shown = {"day": run.output["first_row"]["day"], "text": run.output["first_row"]["text"]}
    return {"run_id": run.run_id, "status": run.status, "job": run.job, **shown}


async def words(ctx, *, below: bool = False):
    run = None if below else await ctx.call_job("parent", {"below": True})
    return {"own": ctx.trigger, "called": run and run.output["own"]}


async def many(ctx, *, n: int = 5):
    runs = await asyncio.gather(*(ctx.call_job("child", {"n": at}) for at in range(n)))
    return {"ns": [run.output["first_row"]["n"] for run in runs]}


async def leave(ctx):
    run = await ctx.call_job("child", wait=False)
    return {"run_id": run.run_id, "status": run.status}


async def leave_and_stay(ctx):
    await ctx.call_job("child", wait=False)
    await asyncio.sleep(60)


async def unchecked(ctx):
    run = await ctx.call_job("child", check=False)
    return {"status": run.status, "reason": run.reason}


async def caught(ctx):
    try:
        await ctx.call_job("child")
    except StepError as error:
        return {"said": error.message, "output": error.output}


async def left_waiting(ctx):
    asyncio.create_task(ctx.call_job("child"))
    await asyncio.sleep(0.5)
    return {"left": True}


async def chain(ctx):
    first = ctx.parent_chain[0] if ctx.parent_chain else None
    return {
        "chain": [list(one) for one in ctx.parent_chain],
        "outermost": first and first.job,
        "before": ctx.prev_rows_affected,
    }


async def chain_below(ctx, *, depth: int = 0, job: str = "chain"):
    run = await ctx.call_job(job)
    return {"chain": run.output["chain"], "above": len(ctx.parent_chain)}


async def job_named(ctx, *, job: str, wait: bool = True):
    run = await ctx.call_job(job, wait=wait)
    return {"status": run.status, "run_id": run.run_id, "reason": run.reason}


async def with_params(ctx, *, given: dict):
    await ctx.call_job("child", given)


async def a_secret(ctx):
    import os
    await ctx.call_job("child", {"text": "a " + os.environ["TOKEN"]})


def plainly(ctx):
    run = asyncio.run(ctx.call_job("child", {"n": 4}))
    return {"n": run.output["first_row"]["n"]}


async def too_many(ctx):
    for at in range(4):
        await ctx.call_job("child", {"n": at}, wait=False)
"""


async def declare(shop, function, *, query=ECHO, child="", job="", step="", more=""):
    text = PARENT % (job, function, step) + CHILD % (child, query) + more
    return await shop.declare(text, **{"plugins__calls.py": CALLS})


async def born(shop, run_id, wanted=1):
    """The children of a run, once there are so many."""
    async with asyncio.timeout(20):
        while True:
            rows = await shop.db.fetch(
                "SELECT * FROM runs WHERE parent_run_id = $1 ORDER BY queued_at", run_id
            )
            if len(rows) >= wanted:
                return [dict(row) for row in rows]
            await asyncio.sleep(0.02)


async def output(shop, run):
    assert run["status"] == "succeeded", run["reason"]
    return (await shop.steps(run["id"]))[-1]["output"]


async def test_a_run_is_started_waited_for_and_read(shop):
    await declare(shop, "once")
    async with working(shop, capacity=1) as worker:
        run = await shop.run("parent")
        assert worker.working == worker.tools.children.waiting == 0
    said = await output(shop, run)
    (child,) = await born(shop, run["id"])
    assert said == {
        "run_id": str(child["id"]),
        "status": "succeeded",
        "job": "child",
        "day": "2026-05-01",
        "text": "a ${env:HOME} b",
    }
    assert (child["trigger"], child["triggered_by"], child["principal"]) == (
        "call_job",
        f"call_job:parent@{run['id']}",
        run["principal"],
    )
    assert any(str(child["id"]) in line for line in await shop.lines(run["id"]))


async def test_a_function_knows_by_which_word_its_run_was_started(shop):
    files = {"plugins__calls.py": CALLS}
    await shop.declare(
        (PARENT + PARENT.replace('"parent"', '"caller"'))
        % ("params = { below = true }", "words", "", "params = { below = false }", "words", ""),
        **files,
    )
    async with working(shop):
        run = await shop.run("caller")
    assert await output(shop, run) == {"own": "api", "called": "call_job"}


async def test_many_at_once_in_a_worker_with_one_place(shop):
    await declare(shop, "many")
    async with working(shop, capacity=1):
        run = await shop.run("parent")
    assert (await output(shop, run))["ns"] == [0, 1, 2, 3, 4]
    assert len(await born(shop, run["id"], 5)) == 5


async def test_with_many_processes_waiting_only_awaited_runs_begin(shop, monkeypatch):
    monkeypatch.setattr(children_module, "MOST_WAITING_PROCESSES", 1)
    await declare(shop, "once", job='overlap = "allow"', query=f"{ECHO}, pg_sleep(0.2)")
    async with working(shop, capacity=1):
        runs = [await shop.trigger("parent") for _ in range(3)]
        ends = [await shop.end(run_id) for run_id in runs]
    assert {end["status"] for end in ends} == {"succeeded"}
    starts = sorted(end["started_at"] for end in ends)
    finished = [(await born(shop, end["id"]))[0]["finished_at"] for end in ends]
    assert starts[1] >= min(finished)


async def test_a_plain_function_brings_its_own_loop(shop):
    await declare(shop, "plainly")
    async with working(shop):
        run = await shop.run("parent")
    assert await output(shop, run) == {"n": 4}


async def test_a_failing_child_raises_and_can_be_caught_or_judged(shop):
    await declare(shop, "once", query="SELECT 1 / (:n::int - :n::int), :day, :text")
    async with working(shop):
        run = await shop.run("parent")
        (child,) = await born(shop, run["id"])
        assert run["status"] == "failed"
        assert f"run {child['id']} of job `child` failed: step `work` failed" in run["reason"]
        await declare(shop, "caught", query="SELECT 1 / (:n::int - :n::int), :day, :text")
        said = await output(shop, await shop.run("parent"))
        assert "of job `child` failed" in said["said"]
        assert said["output"]["status"] == "failed"
        await declare(shop, "unchecked", query="SELECT 1 / (:n::int - :n::int), :day, :text")
        said = await output(shop, await shop.run("parent"))
    assert said["status"] == "failed"
    assert "division by zero" in said["reason"]


async def test_a_retry_starts_another_child_and_an_interruption_finds_the_same(shop):
    query = f"{ECHO}, pg_sleep(1)"
    await declare(shop, "once", query=query, step='on_interrupt = "retry"')
    async with working(shop, "first", capacity=2, lease=4):
        run_id = await shop.trigger("parent")
        (child,) = await born(shop, run_id)
        # As if its worker had died: somebody else's claim, and a lease that is over.
        await shop.db.execute(
            """UPDATE runs SET lease_owner = 'gone', worker = 'gone', fence = nextval('fence'),
                 lease_expires_at = now() - interval '1 minute' WHERE id = $1""",
            run_id,
        )
        run = await shop.end(run_id)
        assert (await output(shop, run))["run_id"] == str(child["id"])
        assert (run["interruptions"], len(await born(shop, run_id))) == (1, 1)
        again = "retry = { attempts = 2, base_seconds = 0, backoff = 'fixed' }"
        await declare(shop, "once", job=again, query="SELECT 1 / 0, :day, :text, :n")
        run = await shop.run("parent")
    assert len(await born(shop, run["id"])) == 2


async def test_an_interrupted_step_that_may_not_be_repeated_ends_its_child(shop):
    await declare(shop, "once", query=f"{ECHO}, pg_sleep(60)")
    async with working(shop, "first", capacity=2, lease=4):
        run_id = await shop.trigger("parent")
        (child,) = await born(shop, run_id)
        await shop.until(child["id"], "work", "running")
        await shop.db.execute(
            """UPDATE runs SET lease_owner = 'gone', worker = 'gone', fence = nextval('fence'),
                 lease_expires_at = now() - interval '1 minute' WHERE id = $1""",
            run_id,
        )
        run = await shop.end(run_id)
        child = await shop.end(child["id"], 5)
    assert (run["status"], child["status"]) == ("failed", "aborted")
    assert "step `go` of its parent run was interrupted" in child["reason"]


@pytest.mark.parametrize("by", ["abort", "step timeout", "run timeout"])
async def test_whatever_ends_the_step_ends_the_child(shop, by):
    limit = "timeout_seconds = 1" if by != "abort" else ""
    where = {"job": limit} if by == "run timeout" else {"step": limit}
    await declare(shop, "once", query=f"{ECHO}, pg_sleep(60)", **where)
    async with working(shop):
        run_id = await shop.trigger("parent")
        (child,) = await born(shop, run_id)
        if by == "abort":
            await shop.until(child["id"], "work", "running")
            await dispatch.abort(shop.db, shop.bell, run_id, by="user:alice")
        run = await shop.end(run_id, 6)
        child = await shop.end(child["id"], 5)
    assert run["status"] == ("failed" if by == "step timeout" else "aborted"), run["reason"]
    assert child["status"] == "aborted"


async def test_a_run_that_is_waited_for_no_more_is_ended_with_the_step(shop):
    await declare(shop, "left_waiting", query=f"{ECHO}, pg_sleep(60)")
    async with working(shop):
        run = await shop.run("parent")
        (child,) = await born(shop, run["id"])
        child = await shop.end(child["id"], 5)
    assert (run["status"], child["status"]) == ("succeeded", "aborted")
    assert "no longer waits for it" in child["reason"]


async def test_a_run_that_is_not_waited_for_goes_on_by_itself(shop):
    await declare(shop, "leave", query=f"{ECHO}, pg_sleep(1)")
    async with working(shop, capacity=2):
        run = await shop.run("parent")
        said = await output(shop, run)
        (child,) = await born(shop, run["id"])
        assert said == {"run_id": str(child["id"]), "status": "queued"}
        assert child["finished_at"] is None
        assert (await shop.end(child["id"]))["status"] == "succeeded"
        await declare(shop, "leave_and_stay", query=f"{ECHO}, pg_sleep(1)")
        run_id = await shop.trigger("parent")
        (child,) = await born(shop, run_id)
        await dispatch.abort(shop.db, shop.bell, run_id, by="user:alice")
        assert (await shop.end(run_id))["status"] == "aborted"
        assert (await shop.end(child["id"]))["status"] == "succeeded"


async def test_a_dry_run_starts_nothing_and_says_what_it_would(shop):
    await declare(shop, "job_named", step='kwargs = { job = "child" }')
    async with working(shop):
        run = await shop.run("parent", dry_run=True)
        said = await output(shop, run)
        assert said == {"status": "skipped", "run_id": None, "reason": "dry run: not started"}
        assert await shop.db.fetchval("SELECT count(*) FROM runs") == 1
        assert any("would start job `child`" in line for line in await shop.lines(run["id"]))
        given = {"go": {"job": "chidl"}}
        run = await shop.run("parent", dry_run=True, step_kwargs=given)
    assert "there is no job `chidl`; did you mean `child`?" in run["reason"]


async def test_circles_and_depth_are_refused(shop):
    await declare(shop, "job_named", step='kwargs = { job = "parent" }')
    async with working(shop, capacity=1):
        run = await shop.run("parent")
        assert "jobs call each other in a circle: parent → parent" in run["reason"]
        for wait in (True, False):
            run = await shop.run("parent", step_kwargs={"go": {"wait": wait}})
            assert "in a circle" in run["reason"]
        assert await shop.db.fetchval("SELECT count(*) FROM runs WHERE job_name = 'child'") == 0
        links = "".join(
            f"""
            [[jobs]]
            name = "link-{n}"
            [[jobs.steps]]
            name = "go"
            type = "python"
            callable = "calls:job_named"
            kwargs = {{ job = "link-{n + 1}" }}
            """
            for n in range(11)
        )
        await declare(shop, "once", more=links)
        run = await shop.run("link-0", 60)
    assert "jobs call each other more than 10 deep: link-0 → link-1" in run["reason"]


async def test_the_chain_above_is_known(shop):
    more = """
    [[jobs]]
    name = "chain"
    [[jobs.steps]]
    name = "count"
    type = "sql_query"
    connector = "default"
    query = "CREATE TEMP TABLE t AS SELECT generate_series(1, 3)"
    [[jobs.steps]]
    name = "look"
    type = "python"
    callable = "calls:chain"
    [[jobs]]
    name = "outer"
    [[jobs.steps]]
    name = "go"
    type = "call_job"
    job = "parent"
    """
    await declare(shop, "chain_below", more=more)
    async with working(shop):
        outer = await shop.run("outer")
        (parent,) = await born(shop, outer["id"])
        (below,) = await born(shop, parent["id"])
        look = (await shop.steps(below["id"]))[-1]["output"]
        alone = await output(shop, await shop.run("chain"))
    assert look["chain"] == [["outer", str(outer["id"])], ["parent", str(parent["id"])]]
    assert look["outermost"] == "outer"
    assert alone["chain"] == []


async def test_what_is_refused_has_a_sentence(shop):
    async with working(shop):
        for function, step, words in (
            ("with_params", 'kwargs = { given = { n = "many" } }', "`n`"),
            ("with_params", 'kwargs = { given = { text = "${env:TOKEN}" } }', "secret"),
            ("a_secret", 'env = ["TOKEN"]', "holds the value of a secret"),
            ("job_named", 'kwargs = { job = "" }', "call a job by its name"),
        ):
            (shop.root / ".env").write_text("TOKEN=s3cret-of-sixteen\n")
            await declare(shop, function, step=step)
            run = await shop.run("parent")
            assert run["status"] == "failed"
            assert words in run["reason"]
            assert "s3cret" not in str(run) + str(await shop.lines(run["id"]))
        assert await shop.db.fetchval("SELECT count(*) FROM runs WHERE job_name = 'child'") == 0


async def test_a_step_starts_so_many_runs_and_no_more(shop, monkeypatch):
    monkeypatch.setattr(called_runs, "MOST", 3)
    await declare(shop, "too_many")
    async with working(shop):
        run = await shop.run("parent")
    assert "a step starts 3 runs at most" in run["reason"]
    assert len(await born(shop, run["id"], 3)) == 3


async def test_a_busy_job_is_said_at_once(shop):
    await declare(shop, "once", query=f"{ECHO}, pg_sleep(5)", child="")
    text = (shop.root / "jobs.toml").read_text().replace('overlap = "allow"', "")
    await shop.declare(text)
    async with working(shop, capacity=2):
        busy = await shop.trigger("child")
        run = await shop.run("parent", 4)
        await dispatch.abort(shop.db, shop.bell, busy, by="user:alice")
        await shop.end(busy)
    assert f"job `child` cannot start: previous run still running (run {busy})" in run["reason"]


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_worker_that_stops_hands_the_function_on_with_or_without_its_child(
    shop, repeatable
):
    query = f"{ECHO}, pg_sleep(7)"
    step = f"on_interrupt = '{'retry' if repeatable else 'fail'}'"
    await declare(shop, "once", query=query, step=step)
    async with working(shop, "carries"):  # the child, which another worker has
        async with working(shop, "stops", capacity=1):
            run_id = await shop.trigger("parent")
            (child,) = await born(shop, run_id)
            owner = await shop.db.fetchval("SELECT lease_owner FROM runs WHERE id = $1", run_id)
            first = {one.tools.name: one for one in shop.supervisors}[owner]
            await first.drain(0.2)
            run = await shop.end(run_id, 40)
        child = await shop.end(child["id"])
    if repeatable:
        assert (await output(shop, run))["run_id"] == str(child["id"])
        assert len(await born(shop, run_id)) == 1
    else:
        assert (run["status"], child["status"]) == ("failed", "aborted"), run["reason"]
        assert "of its parent run was stopped" in child["reason"]


async def test_what_the_step_before_counted_is_known_to_the_worker_that_goes_on(shop):
    await shop.db.execute("CREATE TABLE public.counted (n int)")
    await shop.db.execute("GRANT INSERT ON public.counted TO PUBLIC")
    text = """
[[jobs]]
name = "parent"
[[jobs.steps]]
name = "fill"
type = "sql_query"
connector = "default"
query = "INSERT INTO public.counted SELECT 1 FROM generate_series(1, 3), pg_sleep(%s)"
[[jobs.steps]]
name = "go"
type = "python"
callable = "calls:chain"
"""
    await shop.declare(text % 0, **{"plugins__calls.py": CALLS})
    async with working(shop, "first") as supervisor:
        assert (await output(shop, await shop.run("parent")))["before"] == 3
        await shop.declare(text % 1)
        run_id = await shop.trigger("parent")
        await shop.until(run_id, "fill", "running")
        await supervisor.drain(10)
    async with working(shop, "second"):
        assert (await output(shop, await shop.end(run_id)))["before"] == 3
