"""`call_job` (J27): a child of its own, waited for by a parent that holds nothing meanwhile."""

import asyncio

import pytest
from workshop import working

from nomaflow import dispatch
from nomaflow_worker import children as children_module

FAMILY = """
[[jobs]]
name = "parent"
params = { day = "2026-05-01" }
[[jobs.steps]]
name = "load"
type = "call_job"
job = "child"
params = { day = "${kw:day}", text = "a ${out:x} b" }
retry = { attempts = 2, backoff = "fixed", base_seconds = 0 }
[[jobs.steps]]
name = "after"
type = "sql_query"
connector = "default"
query = "SELECT :n::int AS n, :day AS day, :status AS status"
fetch = "first"
[jobs.steps.params]
n = "${out:load.output.first_row.n}"
day = "${out:load.output.first_row.day}"
status = "${out:load.status}"

[[jobs]]
name = "child"
params = { day = "none", text = "" }
[[jobs.steps]]
name = "count"
type = "sql_query"
connector = "default"
query = "SELECT 7 AS n, :day AS day, :text AS text"
params = { day = "${kw:day}", text = "${kw:text}" }
fetch = "first"
"""


async def children(shop, run_id):
    rows = await shop.db.fetch(
        "SELECT * FROM runs WHERE parent_run_id = $1 ORDER BY queued_at", run_id
    )
    return [dict(row) for row in rows]


def calling(job: str, *, then: str = "", **child: str) -> str:
    """A parent that calls `child`, which runs one SQL statement."""
    words = "\n".join(f"{name} = {value}" for name, value in child.items() if name != "query")
    return f"""
[[jobs]]
name = "parent"
{then}
[[jobs.steps]]
name = "load"
type = "call_job"
job = "{job}"
[[jobs]]
name = "child"
{words}
[[jobs.steps]]
name = "work"
type = "sql_query"
connector = "default"
query = "{child.get("query", "SELECT 1 AS one")}"
"""


async def test_a_worker_with_one_place_runs_parent_and_child(shop):
    await shop.declare(FAMILY.replace("${out:x}", "$${out:x}"))
    async with working(shop, capacity=1) as worker:
        run = await shop.run("parent")
        assert worker.working == 0
    assert run["status"] == "succeeded", run["reason"]
    load, after = await shop.steps(run["id"])
    (child,) = await children(shop, run["id"])
    assert child["trigger"] == "call_job"
    assert child["triggered_by"] == f"call_job:parent@{run['id']}"
    assert load["output"]["output"].pop("elapsed_ms") is not None
    assert load["output"] == {
        "job": "child",
        "run_id": str(child["id"]),
        "status": "succeeded",
        "reason": None,
        "rows_affected": None,
        "output": {
            "row_count": 1,
            "first_row": {"n": 7, "day": "2026-05-01", "text": "a ${out:x} b"},
        },
    }
    assert load["summary"] == "child: succeeded"
    assert after["output"]["first_row"] == {"n": 7, "day": "2026-05-01", "status": "succeeded"}
    assert any(str(child["id"]) in line for line in await shop.lines(run["id"]))


async def test_ten_parents_and_one_place(shop):
    await shop.declare(calling("child", then='overlap = "allow"', overlap='"allow"'))
    async with working(shop, capacity=1):
        runs = [await shop.trigger("parent") for _ in range(10)]
        ends = [await shop.end(run_id) for run_id in runs]
    assert {end["status"] for end in ends} == {"succeeded"}


@pytest.mark.parametrize("lock", [{}, {"lock": '"gate"'}])
async def test_with_many_waiting_only_awaited_runs_are_taken(shop, monkeypatch, lock):
    monkeypatch.setattr(children_module, "MOST_WAITING", 1)
    query = "SELECT pg_sleep(0.3)"
    await shop.declare(
        calling("child", then='overlap = "allow"', overlap='"allow"', query=query, **lock)
    )
    async with working(shop, capacity=1):
        runs = [await shop.trigger("parent") for _ in range(3)]
        ends = [await shop.end(run_id) for run_id in runs]
    assert {end["status"] for end in ends} == {"succeeded"}
    starts = sorted(end["started_at"] for end in ends)
    born = [(await children(shop, end["id"]))[0]["finished_at"] for end in ends]
    # With one waiting, no other parent is begun before a child has ended.
    assert starts[1] >= min(born)


async def test_a_chain_of_calls_and_one_place(shop):
    links = [
        f"""
        [[jobs]]
        name = "link-{n}"
        lock = "one"
        [[jobs.steps]]
        name = "next"
        type = "call_job"
        job = "link-{n + 1}"
        """
        for n in range(12)
    ]
    deepest = """
        [[jobs]]
        name = "link-12"
        lock = "one"
        [[jobs.steps]]
        name = "end"
        type = "sql_query"
        connector = "default"
        query = "SELECT 1"
        """
    await shop.declare("".join([*links, deepest]))
    async with working(shop, capacity=1):
        run = await shop.run("link-3")
        assert run["status"] == "succeeded", run["reason"]
        run = await shop.run("link-0")
    assert run["status"] == "failed"
    assert "more than 10 deep: link-0 → link-1" in run["reason"]


async def test_a_failing_child_fails_the_step_and_a_retry_starts_another(shop):
    await shop.declare(
        calling("child", then="retry = { attempts = 2, base_seconds = 0 }", query="SELECT 1 / 0")
    )
    async with working(shop):
        run = await shop.run("parent")
    first, second = await children(shop, run["id"])
    assert run["status"] == "failed"
    assert f"run {second['id']} of job `child` failed: step `work` failed" in run["reason"]
    assert first["idempotency_key"] == f"call_job:{run['id']}:0:1"
    (load,) = await shop.steps(run["id"])
    assert load["output"]["status"] == "failed"
    assert load["output"]["run_id"] == str(second["id"])


async def test_what_a_later_step_may_do_about_a_failed_child(shop):
    text = calling("child", query="SELECT 1 / 0").replace(
        'job = "child"', 'job = "child"\ncontinue_on_error = true'
    )
    await shop.declare(text)
    async with working(shop):
        run = await shop.run("parent")
    assert run["status"] == "partial"


async def test_a_partial_child_makes_the_run_partial(shop):
    text = calling("child", query="SELECT 1 / 0").replace(
        'name = "work"', 'name = "work"\ncontinue_on_error = true'
    )
    await shop.declare(text)
    async with working(shop):
        run = await shop.run("parent")
    (child,) = await children(shop, run["id"])
    assert (run["status"], child["status"]) == ("partial", "partial")
    why = f"called job `child`, whose run {child['id']} is partial"
    assert run["reason"] == f"partial: step `load`: {why}"


async def test_an_abort_of_the_parent_ends_the_child(shop):
    await shop.declare(calling("child", query="SELECT pg_sleep(60)"))
    async with working(shop):
        run_id = await shop.trigger("parent")
        await shop.until(run_id, "load", "running")
        while not (born := await children(shop, run_id)):
            await asyncio.sleep(0.02)
        await shop.until(born[0]["id"], "work", "running")
        await dispatch.abort(shop.db, shop.bell, run_id, by="user:alice")
        child = await shop.end(born[0]["id"], 5)
        parent = await shop.end(run_id, 5)
    assert parent["status"] == child["status"] == "aborted"
    # Who asked reaches the child by two ways, and either may be first: the abort itself, and
    # the parent's own end.
    assert child["reason"] in {
        f"aborted by user:alice: its parent run {run_id} was aborted",
        f"aborted by nomaflow: its parent run {run_id} ended: aborted by user:alice",
    }


async def test_an_aborted_child_fails_the_step_once(shop):
    await shop.declare(
        calling(
            "child", then="retry = { attempts = 3, base_seconds = 0 }", query="SELECT pg_sleep(60)"
        )
    )
    async with working(shop):
        run_id = await shop.trigger("parent")
        while not (born := await children(shop, run_id)):
            await asyncio.sleep(0.02)
        await dispatch.abort(shop.db, shop.bell, born[0]["id"], by="user:bob")
        run = await shop.end(run_id, 5)
    assert run["status"] == "failed"
    assert "was aborted: aborted by user:bob" in run["reason"]
    assert len(await children(shop, run_id)) == 1


async def test_the_steps_timeout_ends_the_child(shop):
    text = calling("child", query="SELECT pg_sleep(60)").replace(
        'job = "child"', 'job = "child"\ntimeout_seconds = 0.5'
    )
    await shop.declare(text)
    async with working(shop):
        run = await shop.run("parent", 5)
        (child,) = await children(shop, run["id"])
        child = await shop.end(child["id"], 5)
    assert run["reason"] == "step `load` failed: timeout after 0.5 s"
    assert child["status"] == "aborted"
    assert "no longer waits for it" in child["reason"]


async def test_the_runs_timeout_ends_the_child(shop):
    await shop.declare(calling("child", then="timeout_seconds = 0.5", query="SELECT pg_sleep(60)"))
    async with working(shop):
        run = await shop.run("parent", 5)
        (child,) = await children(shop, run["id"])
        child = await shop.end(child["id"], 5)
    assert (run["status"], child["status"]) == ("aborted", "aborted")


async def test_another_worker_waits_on_for_the_same_child(shop):
    await shop.declare(
        calling("child", query="SELECT pg_sleep(2)", lock='"gate"')
        + """
        [[jobs]]
        name = "holder"
        lock = "gate"
        [[jobs.steps]]
        name = "hold"
        type = "sql_query"
        connector = "default"
        query = "SELECT pg_sleep(1)"
        """
    )
    async with working(shop, "first"):
        holder = await shop.trigger("holder")
        await shop.until(holder, "hold", "running")
        run_id = await shop.trigger("parent")
        while not await children(shop, run_id):
            await asyncio.sleep(0.02)
    (load,) = await shop.steps(run_id)
    assert (load["status"], load["reason"]) == ("retrying", "handed back: its worker is stopping")
    async with working(shop, "second"):
        run = await shop.end(run_id)
    assert run["status"] == "succeeded", run["reason"]
    assert run["interruptions"] == 0
    assert len(await children(shop, run_id)) == 1
    (load,) = await shop.steps(run_id)
    assert (load["attempt"], load["tries"]) == (1, 1)


async def test_a_dead_workers_parent_is_taken_over_with_its_child(shop):
    await shop.declare(calling("child", query="SELECT pg_sleep(1)"))
    async with working(shop, "first", capacity=2, lease=4):
        run_id = await shop.trigger("parent")
        while not (born := await children(shop, run_id)):
            await asyncio.sleep(0.02)
        await shop.until(born[0]["id"], "work", "running")
        # As if its worker had died: somebody else's claim, and a lease that is over.
        await shop.db.execute(
            """UPDATE runs SET lease_owner = 'gone', worker = 'gone', fence = nextval('fence'),
                 lease_expires_at = now() - interval '1 minute' WHERE id = $1""",
            run_id,
        )
        run = await shop.end(run_id)
    assert run["status"] == "succeeded", run["reason"]
    assert run["interruptions"] == 1
    assert len(await children(shop, run_id)) == 1
    (load,) = await shop.steps(run_id)
    assert (load["attempt"], load["tries"]) == (1, 2)


async def test_a_busy_child_fails_the_try_and_is_tried_again(shop):
    await shop.declare(calling("child", query="SELECT pg_sleep(0.8)"))
    async with working(shop):
        busy = await shop.trigger("child")
        run = await shop.run("parent")
        assert f"job `child` cannot start: previous run still running (run {busy})" in run["reason"]
        await shop.end(busy)
        await shop.declare(
            calling(
                "child",
                then="retry = { attempts = 20, base_seconds = 0.2, backoff = 'fixed' }",
                query="SELECT pg_sleep(0.8)",
            )
        )
        await shop.trigger("child")
        run = await shop.run("parent")
    assert run["status"] == "succeeded", run["reason"]


async def test_a_child_that_may_not_run_fails_the_step_with_the_reason(shop):
    await shop.declare(
        calling("child", depends_on='["before"]')
        + """
        [[jobs]]
        name = "before"
        [[jobs.steps]]
        name = "one"
        type = "sql_query"
        connector = "default"
        query = "SELECT 1"
        """
    )
    async with working(shop):
        run = await shop.run("parent")
        (child,) = await children(shop, run["id"])
        assert (run["status"], child["status"]) == ("failed", "skipped")
        assert f"run {child['id']} of job `child` did not run: {child['reason']}" in run["reason"]
        await shop.run("before")
        assert (await shop.run("parent"))["status"] == "succeeded"


async def test_a_child_that_queues_is_waited_for(shop):
    await shop.declare(calling("child", query="SELECT pg_sleep(0.5)", overlap='"queue"'))
    async with working(shop, capacity=2):
        await shop.trigger("child")
        run = await shop.run("parent")
    assert run["status"] == "succeeded", run["reason"]


async def test_a_circle_that_only_the_run_can_see(shop):
    await shop.declare(
        """
        [[jobs]]
        name = "a"
        params = { next = "b" }
        [[jobs.steps]]
        name = "go"
        type = "call_job"
        job = "${kw:next}"
        [[jobs]]
        name = "b"
        [[jobs.steps]]
        name = "back"
        type = "call_job"
        job = "a"
        """
    )
    async with working(shop, capacity=1):
        run = await shop.run("a")
    assert run["status"] == "failed"
    assert "jobs call each other in a circle: a → b → a" in run["reason"]


async def test_what_cannot_be_called(shop):
    await shop.declare(
        calling("chidl").replace('name = "parent"', 'name = "parent"\nparams = {j = "child"}')
    )
    async with working(shop):
        run = await shop.run("parent")
        assert "there is no job `chidl`; did you mean `child`?" in run["reason"]
        await shop.declare(
            calling("child", params="{ n = 1 }").replace(
                'job = "child"', 'job = "child"\nparams = { n = "many" }'
            )
        )
        run = await shop.run("parent")
    assert run["status"] == "failed"
    assert "`n`" in run["reason"]


async def test_one_fire_may_change_the_childs_params_and_not_the_child(shop):
    await shop.declare(FAMILY.replace("${out:x}", "$${out:x}"))
    async with working(shop):
        given = {"load": {"job": "parent", "params": {"day": "2026-06-01"}}}
        run = await shop.run("parent", step_kwargs=given)
    assert run["status"] == "succeeded", run["reason"]
    (child,) = await children(shop, run["id"])
    assert (child["job_name"], child["params"]["day"]) == ("child", "2026-06-01")


async def test_a_dry_run_is_passed_on(shop):
    await shop.declare(calling("child", query="CREATE TABLE public.made (n int)"))
    async with working(shop):
        run = await shop.run("parent", dry_run=True)
    (child,) = await children(shop, run["id"])
    assert (run["status"], child["dry_run"]) == ("succeeded", True), run["reason"]
    assert await shop.db.fetchval("SELECT to_regclass('public.made')") is None


SECRETIVE = """
[[jobs]]
name = "parent"
params = { token = "${env:TOKEN}" }
[[jobs.steps]]
name = "load"
type = "call_job"
job = "child"
params = { token = "a %s" }
[[jobs]]
name = "child"
params = { token = "" }
[[jobs.steps]]
name = "use"
type = "python"
callable = "uses:length"
"""


async def test_a_secret_is_not_handed_on(shop):
    (shop.root / ".env").write_text("TOKEN=s3cret-of-sixteen\n")
    await shop.declare(SECRETIVE % "${env:TOKEN}")
    said = [r["message"] for r in await shop.db.fetch("SELECT message FROM catalog_problems")]
    words = "a run's parameters may not name secrets: let that job read `${env:TOKEN}` itself"
    assert any(words in message for message in said)
    await shop.declare(SECRETIVE % "${kw:token}")
    async with working(shop):
        run = await shop.run("parent")
    assert "holds the value of a secret" in run["reason"]
    assert "s3cret" not in str(run)
    assert await children(shop, run["id"]) == []
