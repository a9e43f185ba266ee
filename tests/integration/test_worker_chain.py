"""What a run does: order, retries, limits, conditions, overrides, abort; all parts real."""

import asyncio
import itertools

import pytest
from workshop import working

from nomaflow import dispatch
from nomaflow.errors import NomaflowError
from nomaflow.job.problems import SpecErrors

JOB = """
    [[jobs]]
    name = "{name}"
    {more}
"""


@pytest.fixture
async def worker(shop):
    async with working(shop) as supervisor:
        yield supervisor


def sql(name: str, query: str = "SELECT 1", **more: str) -> str:
    extra = "\n".join(f"{k} = {v}" for k, v in more.items())
    return f"""
    [[jobs.steps]]
    name = "{name}"
    type = "sql_query"
    connector = "default"
    query = "{query}"
    {extra}
    """


def job(name: str, *steps: str, more: str = "") -> str:
    return JOB.format(name=name, more=more) + "".join(steps)


RETRY = "[jobs.retry]\n    attempts = {n}\n    backoff = '{backoff}'\n    base_seconds = {base}\n"


async def test_steps_run_in_order_and_a_failure_skips_the_rest(shop, worker):
    await shop.declare(job("j", sql("a"), sql("b", "SELECT 1/0"), sql("c")))
    run = await shop.run("j")
    assert run["status"] == "failed"
    assert "step `b` failed" in run["reason"]
    assert "division by zero" in run["error"]["message"]
    steps = await shop.steps(run["id"])
    assert [s["status"] for s in steps] == ["succeeded", "failed", "skipped"]
    assert steps[2]["reason"] == "skipped: earlier step failed"


async def test_retries_are_per_step_with_exponential_gaps(shop, worker):
    await shop.declare(
        job(
            "j",
            sql("a"),
            sql("b", "SELECT 1/0"),
            more=RETRY.format(n=4, backoff="exponential", base=0.2),
        )
    )
    run = await shop.run("j")
    tries = await shop.db.fetch(
        "SELECT position, number, status, started_at, finished_at FROM attempts "
        "WHERE run_id = $1 ORDER BY position, number",
        run["id"],
    )
    assert [(t["position"], t["number"]) for t in tries] == [(0, 1), (1, 1), (1, 2), (1, 3), (1, 4)]
    waits = [
        (b["started_at"] - a["finished_at"]).total_seconds()
        for a, b in itertools.pairwise(tries[1:])
    ]
    for wait, base in zip(waits, (0.2, 0.4, 0.8), strict=True):
        assert base <= wait < base + 0.5


async def test_a_long_back_off_gives_the_slot_back(shop, worker):
    await shop.declare(
        job("j", sql("a", "SELECT 1/0"), more=RETRY.format(n=2, backoff="fixed", base=60))
    )
    run_id = await shop.trigger("j")
    await shop.until(run_id, "a", "retrying")
    async with asyncio.timeout(5):
        while (await shop.held(run_id)).status != "queued":
            await asyncio.sleep(0.02)
    row = await shop.db.fetchrow("SELECT * FROM runs WHERE id = $1", run_id)
    assert row["reason"] == "waiting: attempt 2 of 2 in 60 s"
    assert 50 < (row["not_before"] - row["queued_at"]).total_seconds() < 70


async def test_a_step_that_takes_too_long_fails_with_timeout_and_its_statement_is_cancelled(
    shop, worker
):
    await shop.declare(job("j", sql("slow", "SELECT pg_sleep(30)", timeout_seconds="1")))
    run = await shop.run("j")
    (step,) = await shop.steps(run["id"])
    assert step["error"]["message"] == "timeout after 1 s"
    assert step["error"]["category"] == "timeout"
    left = await shop.db.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%' "
        "AND state = 'active'"
    )
    assert left == 0


async def test_the_run_has_a_time_limit_of_its_own(shop, worker):
    await shop.declare(
        job("j", sql("slow", "SELECT pg_sleep(30)"), sql("b"), more="timeout_seconds = 1")
    )
    run = await shop.run("j")
    assert (run["status"], run["reason"]) == ("aborted", "timeout after 1 s")
    assert [s["status"] for s in await shop.steps(run["id"])] == ["aborted", "skipped"]


async def test_disabled_and_conditional_steps_are_recorded_and_passed_over(shop, worker):
    await shop.declare(
        job(
            "j",
            sql("off", enabled="false"),
            sql("no", when="\"params.go == 'yes'\""),
            sql("count", "SELECT 7 AS n", fetch='"first"'),
            sql("big", when='"steps.count.output.first_row.n > `100`"'),
            sql("last"),
            more='params = { go = "no" }',
        )
    )
    run = await shop.run("j")
    assert run["status"] == "succeeded"
    steps = await shop.steps(run["id"])
    assert [(s["name"], s["status"], s["reason"]) for s in steps] == [
        ("off", "skipped", "skipped: disabled"),
        ("no", "skipped", "skipped: condition is false"),
        ("count", "succeeded", None),
        ("big", "skipped", "skipped: condition is false"),
        ("last", "succeeded", None),
    ]


async def test_continue_on_error_makes_the_run_partial(shop, worker):
    await shop.declare(job("j", sql("a", "SELECT 1/0", continue_on_error="true"), sql("b")))
    run = await shop.run("j")
    assert (run["status"], run["reason"]) == ("partial", "partial: step `a` failed")
    assert (await shop.lines(run["id"]))[-1] == "run partial: step `a` failed"


async def test_what_a_step_failed_of_is_said_once(shop, worker):
    await shop.declare(job("j", sql("a", "SELECT :x", params="{ x = '${env:NOT_THERE}' }")))
    run = await shop.run("j")
    assert run["reason"] == "step `a` failed: " + run["error"]["message"]
    assert "the project's .env has no variable" in run["error"]["message"]
    assert "step" not in run["error"]["message"]


async def test_conditions_ask_how_a_step_ended_also_when_it_put_out_nothing(shop, worker):
    await shop.declare(
        job(
            "j",
            sql("load", "SELECT 1/0", continue_on_error="true"),
            sql("mend", when=""" "steps.load.status == 'failed'" """),
            sql("use", when=""" "steps.load.status == 'succeeded'" """),
        )
    )
    run = await shop.run("j")
    assert run["status"] == "partial"
    steps = await shop.steps(run["id"])
    assert [s["status"] for s in steps] == ["failed", "succeeded", "skipped"]


async def test_the_step_before_a_second_try_is_still_the_one_before(shop, worker):
    value = """{ v = "${previous_step.first_row.v}" }"""
    await shop.declare(
        job(
            "j",
            sql("one", "SELECT 7 AS v"),
            sql("two", "SELECT 1 / (:v::int - 7)", params=value, continue_on_error="true"),
            more=RETRY.format(n=2, backoff="fixed", base=0),
        )
    )
    run = await shop.run("j")
    assert run["status"] == "partial"
    rows = await shop.db.fetch(
        "SELECT error->>'message' AS said FROM attempts WHERE run_id = $1 AND position = 1",
        run["id"],
    )
    assert ["division by zero" in row["said"] for row in rows] == [True, True]


async def test_parameters_merge_in_their_order_and_the_definition_stays(shop, worker):
    query = "SELECT :a::text AS a, :b::text AS b"
    params = "{ a = '${kw:a}', b = '${kw:b}' }"
    await shop.declare(
        job(
            "j",
            sql("one", query, params=params),
            sql("two", query, params=params),
            more='params = { a = "job", b = "job" }',
        )
    )
    run = await shop.run("j", params={"a": "fire"}, step_kwargs={"two": {"b": "kwarg"}})
    one, two = await shop.steps(run["id"])
    assert one["output"]["rows"] == [{"a": "fire", "b": "job"}]
    assert two["output"]["rows"] == [{"a": "fire", "b": "kwarg"}]
    assert run["params"] == {"a": "fire", "b": "job"}
    assert run["overrides"] == {"params": {"a": "fire"}, "step_kwargs": {"two": {"b": "kwarg"}}}
    again = await shop.run("j")
    assert again["params"] == {"a": "job", "b": "job"}


async def test_a_step_can_be_switched_for_one_fire(shop, worker):
    await shop.declare(job("j", sql("a"), sql("b", enabled="false")))
    run = await shop.run("j", step_enabled={"a": False, "b": True})
    assert [s["status"] for s in await shop.steps(run["id"])] == ["skipped", "succeeded"]


async def test_wrong_requests_get_a_sentence_and_no_run(shop, worker):
    await shop.declare(job("nightly", sql("a"), more="params = { n = 1 }"))
    with pytest.raises(NomaflowError, match="no job `nigthly`; did you mean `nightly`"):
        await shop.trigger("nigthly")
    with pytest.raises(SpecErrors, match="no step `x`"):
        await shop.trigger("nightly", step_kwargs={"x": {}})
    with pytest.raises(SpecErrors, match="n"):
        await shop.trigger("nightly", params={"n": "many"})
    assert await shop.db.fetchval("SELECT count(*) FROM runs") == 0


async def test_abort_ends_a_running_statement_within_two_seconds(shop, worker):
    await shop.declare(job("j", sql("slow", "SELECT pg_sleep(60)"), sql("b")))
    run_id = await shop.trigger("j")
    await shop.until(run_id, "slow", "running")
    await asyncio.sleep(0.2)
    began = asyncio.get_running_loop().time()
    await dispatch.abort(shop.db, shop.bell, run_id, by="cli:bob", reason="too slow")
    run = await shop.end(run_id)
    assert asyncio.get_running_loop().time() - began < 2
    assert (run["status"], run["reason"]) == ("aborted", "aborted by cli:bob: too slow")
    assert (await shop.lines(run_id))[-1] == "run aborted: aborted by cli:bob: too slow"
    with pytest.raises(NomaflowError, match="already aborted"):
        await dispatch.abort(shop.db, shop.bell, run_id, by="api")


async def test_abort_ends_a_back_off(shop, worker):
    await shop.declare(
        job("j", sql("a", "SELECT 1/0"), more=RETRY.format(n=3, backoff="fixed", base=4))
    )
    run_id = await shop.trigger("j")
    await shop.until(run_id, "a", "retrying")
    await dispatch.abort(shop.db, shop.bell, run_id, by="api")
    run = await shop.end(run_id, 2)
    assert run["status"] == "aborted"


async def test_two_runs_of_one_job_are_refused_but_other_jobs_run_beside(shop, worker):
    slow = sql("slow", "SELECT pg_sleep(1)")
    await shop.declare(job("a", slow) + job("b", slow) + job("c", slow, more='overlap = "allow"'))
    began = asyncio.get_running_loop().time()
    ids = [await shop.trigger(name) for name in ("a", "b", "c", "c")]
    with pytest.raises(NomaflowError, match="previous run still running") as refused:
        await shop.trigger("a")
    assert refused.value.code == "BUSY"
    for run_id in ids:
        assert (await shop.end(run_id))["status"] == "succeeded"
    assert asyncio.get_running_loop().time() - began < 3


async def test_the_same_key_finds_the_same_run(shop, worker):
    await shop.declare(job("j", sql("a")))
    first = await shop.run("j", idempotency_key="k")
    assert await shop.trigger("j", idempotency_key="k") == first["id"]


async def test_an_edit_during_a_run_waits_for_the_next(shop, worker):
    await shop.declare(job("j", sql("wait", "SELECT pg_sleep(1)"), sql("old", "SELECT 'old' AS v")))
    run_id = await shop.trigger("j")
    await shop.until(run_id, "wait", "running")
    await shop.declare(job("j", sql("new", "SELECT 'new' AS v")))
    await shop.end(run_id)
    assert [s["name"] for s in await shop.steps(run_id)] == ["wait", "old"]
    again = await shop.run("j")
    assert [s["name"] for s in await shop.steps(again["id"])] == ["new"]


async def test_secrets_are_masked_and_the_env_file_is_read_again(shop, worker):
    toml = job("j", sql("a", "SELECT :t::text AS seen", params="{ t = '${env:TOKEN}' }"))
    await shop.declare(toml, **{".env": "TOKEN=first-secret-value\n"})
    run = await shop.run("j")
    (step,) = await shop.steps(run["id"])
    assert step["output"]["rows"] == [{"seen": "***"}]
    assert step["input"]["params"] == {"t": "***"}
    (shop.root / ".env").write_text("TOKEN=second-secret-value-longer\n")
    run = await shop.run("j")
    text = await shop.db.fetchval("SELECT string_agg(to_jsonb(s)::text, '') FROM step_runs s")
    assert "secret-value" not in text
    lines = " ".join(await shop.lines(run["id"]))
    assert "secret-value" not in lines


async def test_an_unknown_token_fails_the_step_naming_it(shop, worker):
    await shop.declare(job("j", sql("a", "SELECT :t::text", params="{ t = '${kw:nothing}' }")))
    run = await shop.run("j")
    assert run["status"] == "failed"
    assert "nothing" in run["reason"]


async def test_rows_add_up_and_the_log_tells_the_story(shop, worker):
    await shop.declare(
        job(
            "j",
            sql("make", "CREATE TABLE t (n int)"),
            sql("fill", "INSERT INTO t SELECT generate_series(1, 5)"),
            sql("more", "INSERT INTO t SELECT generate_series(1, 7)"),
        )
    )
    run = await shop.run("j")
    assert run["rows_affected"] == 12
    lines = await shop.lines(run["id"])
    assert lines[0] == "step `make` started (sql_query, attempt 1 of 1)"
    assert lines[-1] == "run succeeded"
    assert any(line.startswith("step `fill` succeeded · 5 rows affected") for line in lines)


async def test_a_draining_worker_hands_the_chain_over_at_a_boundary(shop):
    await shop.declare(job("j", sql("a", "SELECT pg_sleep(1)"), sql("b")))
    async with working(shop, "first") as supervisor:
        run_id = await shop.trigger("j")
        await shop.until(run_id, "a", "running")
        await supervisor.drain(10)
        held = await shop.held(run_id)
        assert held.status == "queued"
        assert [s.status for s in held.steps] == ["succeeded", "pending"]
    async with working(shop, "second"):
        run = await shop.end(run_id)
    assert run["status"] == "succeeded"
    assert run["interruptions"] == 0
    rows = await shop.db.fetch("SELECT worker FROM attempts ORDER BY position")
    assert [r["worker"] for r in rows] == ["first", "second"]


async def test_a_dead_workers_run_goes_on_at_the_interrupted_step(shop):
    await shop.declare(
        job("j", sql("a", "SELECT 'kept' AS v"), sql("b", "SELECT pg_sleep(2)"), sql("c"))
    )
    async with working(shop, "dead", lease=3) as supervisor:
        run_id = await shop.trigger("j")
        await shop.until(run_id, "b", "running")
        (chain,) = supervisor._chains.values()
        fence = chain.held.fence
        await shop.db.execute(
            "UPDATE runs SET lease_owner = 'gone', lease_expires_at = now() - interval '1 s' "
            "WHERE id = $1",
            run_id,
        )
        run = await shop.end(run_id, 30)
    assert run["status"] == "succeeded"
    assert run["fence"] > fence
    assert run["interruptions"] == 1
    tries = await shop.db.fetch(
        "SELECT position, number, status, error FROM attempts WHERE run_id = $1 "
        "ORDER BY position, number",
        run_id,
    )
    assert [(t["position"], t["number"], t["status"]) for t in tries] == [
        (0, 1, "succeeded"),
        (1, 1, "failed"),
        (1, 2, "succeeded"),
        (2, 1, "succeeded"),
    ]
    assert tries[1]["error"]["type"] == "Interrupted"
