"""Jobs that would wait for each other's locks or turns for ever: refused at once, in a sentence."""

import asyncio

from workshop import working


def caller(name: str, calls: str, *, facts: str = "", wait: str = "0.8") -> str:
    """A job that takes its time and then calls another."""
    return f"""
    [[jobs]]
    name = "{name}"
    params = {{ calls = "{calls}" }}
    {facts}
    [[jobs.steps]]
    name = "wait"
    type = "sql_query"
    connector = "default"
    query = "SELECT pg_sleep({wait})"
    [[jobs.steps]]
    name = "call"
    type = "call_job"
    job = "${{kw:calls}}"
    """


def leaf(name: str, facts: str = "") -> str:
    return f"""
    [[jobs]]
    name = "{name}"
    {facts}
    [[jobs.steps]]
    name = "one"
    type = "sql_query"
    connector = "default"
    query = "SELECT 1"
    """


async def both(shop, first: str, second: str) -> list[dict]:
    """Run two jobs at once, until both are over; in the order of their ends."""
    async with working(shop, capacity=2):
        runs = [await shop.trigger(first), await shop.trigger(second)]
        ends = await asyncio.gather(*(shop.end(run_id, 15) for run_id in runs))
    return sorted(ends, key=lambda end: end["finished_at"])


async def test_two_locks_taken_in_two_orders(shop):
    await shop.declare(
        caller("left", "needs-two", facts='lock = "one"')
        + caller("right", "needs-one", facts='lock = "two"', wait="1.2")
        + leaf("needs-one", 'lock = "one"')
        + leaf("needs-two", 'lock = "two"')
    )
    loser, winner = await both(shop, "left", "right")
    assert (loser["status"], winner["status"]) == ("failed", "succeeded"), winner["reason"]
    assert (loser["job_name"], winner["job_name"]) == ("right", "left")
    needs = await shop.db.fetchrow("SELECT id FROM runs WHERE job_name = 'needs-two'")
    assert (
        f"job `needs-one` would wait for ever: for lock `one` of run {winner['id']} of job `left`, "
        f"which waits for run {needs['id']} of job `needs-two`, which waits for lock `two` of run "
        f"{loser['id']} of job `right`, which waits for this very call; let jobs that call each "
        "other take their locks in one order, or share one"
    ) in loser["reason"]


async def test_a_circle_through_three_jobs_and_a_grandchild(shop):
    await shop.declare(
        caller("a", "between", facts='lock = "one"', wait="0.2")
        + caller("between", "needs-two", wait="0.2")
        + caller("b", "needs-three", facts='lock = "two"', wait="0.6")
        + caller("c", "needs-one", facts='lock = "three"', wait="1.5")
        + leaf("needs-one", 'lock = "one"')
        + leaf("needs-two", 'lock = "two"')
        + leaf("needs-three", 'lock = "three"')
    )
    async with working(shop, capacity=3):
        runs = [await shop.trigger(name) for name in "abc"]
        ends = {e["job_name"]: e for e in [await shop.end(run_id, 15) for run_id in runs]}
    assert {name: end["status"] for name, end in ends.items()} == {
        "a": "succeeded",
        "b": "succeeded",
        "c": "failed",
    }
    assert "job `needs-one` would wait for ever" in ends["c"]["reason"]


async def test_turns_of_jobs_that_queue_are_locks_too(shop):
    queue = 'overlap = "queue"\nqueue_depth = 5'
    await shop.declare(
        caller("a", "b", facts=queue, wait="0.5")
        + leaf("b-end")
        + caller("b", "a", facts=queue, wait="0.9").replace("calls = ", "calls = ")
    )
    loser, winner = await both(shop, "a", "b")
    # The winner's child is a circle of its own: it is refused when its turn has come.
    assert "would wait for ever: for the turn of run" in loser["reason"]
    assert "in a circle: a → b → a" in winner["reason"]


async def test_the_last_who_closes_the_circle_is_the_one_who_fails_when_both_are_born_at_once(shop):
    await shop.declare(
        caller("left", "needs-two", facts='lock = "one"', wait="0.5")
        + caller("right", "needs-one", facts='lock = "two"', wait="0.5")
        + leaf("needs-one", 'lock = "one"')
        + leaf("needs-two", 'lock = "two"')
    )
    for _ in range(3):
        ends = await both(shop, "left", "right")
        assert [end["status"] for end in ends] == ["failed", "succeeded"]


async def test_waiting_for_a_lock_that_will_be_free_is_no_circle(shop):
    await shop.declare(
        caller("left", "needs-two", facts='lock = "one"', wait="0.2")
        + caller("right", "needs-three", facts='lock = "two"', wait="1")
        + leaf("needs-two", 'lock = "two"')
        + leaf("needs-three", 'lock = "three"')
    )
    ends = await both(shop, "left", "right")
    assert [end["status"] for end in ends] == ["succeeded", "succeeded"], ends[0]["reason"]


async def test_nobody_waits_for_a_detached_run(shop):
    calls = """
    async def leave(ctx, *, job):
        run = await ctx.call_job(job, wait=False)
        return {"run": run.run_id}
    """
    await shop.declare(
        """
        [[jobs]]
        name = "left"
        lock = "one"
        [[jobs.steps]]
        name = "leave"
        type = "python"
        callable = "calls:leave"
        kwargs = { job = "needs-one" }
        """
        + leaf("needs-one", 'lock = "one"'),
        **{"plugins__calls.py": calls},
    )
    async with working(shop, capacity=2):
        run = await shop.run("left")
        assert run["status"] == "succeeded", run["reason"]
        child = await shop.db.fetchval("SELECT id FROM runs WHERE job_name = 'needs-one'")
        end = await shop.end(child)
    # The lock is its own wish: nobody above holds it for it.
    assert (end["lock"], end["status"]) == ("one", "succeeded")
    assert end["started_at"] >= run["finished_at"]
