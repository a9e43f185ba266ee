"""Runs that wait for each other: queue, replace, named locks, tags and priority."""

import asyncio
import itertools

import pytest
from workshop import working

from nomaflow.errors import NomaflowError


def job(name: str, query: str = "SELECT 1", more: str = "") -> str:
    return f"""
    [[jobs]]
    name = "{name}"
    {more}
    [[jobs.steps]]
    name = "only"
    type = "sql_query"
    connector = "default"
    query = "{query}"
    """


async def spans(shop, *ids):
    rows = await shop.db.fetch(
        "SELECT started_at, finished_at FROM runs WHERE id = ANY ($1) ORDER BY started_at",
        list(ids),
    )
    return [(r["started_at"], r["finished_at"]) for r in rows]


def apart(found) -> bool:
    return all(a[1] <= b[0] for a, b in itertools.pairwise(found))


async def test_queued_runs_of_one_job_follow_each_other_over_two_workers(shop):
    await shop.declare(job("j", "SELECT pg_sleep(0.2)", 'overlap = "queue"\n    queue_depth = 5'))
    async with working(shop, "w1"), working(shop, "w2"):
        ids = [await shop.trigger("j") for _ in range(6)]
        ends = [await shop.end(i) for i in ids]
    assert [e["status"] for e in ends] == ["succeeded"] * 6
    assert apart(await spans(shop, *ids))
    order = await shop.db.fetch("SELECT id FROM runs ORDER BY started_at")
    assert [r["id"] for r in order] == ids


async def test_a_full_queue_is_busy(shop):
    await shop.declare(job("j", more='overlap = "queue"'))
    first, _second = await shop.trigger("j"), None
    with pytest.raises(NomaflowError, match=r"1 already waiting \(queue_depth = 1\)") as refused:
        await shop.trigger("j")
    assert refused.value.code == "BUSY"
    async with working(shop):
        await shop.end(first)


async def test_jobs_that_share_a_lock_never_run_together(shop):
    query = "SELECT pg_sleep(0.15)"
    await shop.declare(
        "".join(job(f"j{i}", query, 'lock = "warehouse"') for i in range(4)) + job("free", query)
    )
    async with working(shop, "w1"), working(shop, "w2"):
        ids = [await shop.trigger(f"j{i}") for i in range(4)]
        free = await shop.trigger("free")
        for run_id in (*ids, free):
            assert (await shop.end(run_id))["status"] == "succeeded"
    assert apart(await spans(shop, *ids))


async def test_a_replacing_run_ends_the_others_and_runs(shop):
    await shop.declare(job("j", "SELECT pg_sleep(30)", 'overlap = "replace"'))
    async with working(shop):
        old = await shop.trigger("j")
        await shop.until(old, "only", "running")
        new = await shop.trigger("j")
        ended = await shop.end(old, 5)
        assert (ended["status"], ended["reason"]) == (
            "aborted",
            f"aborted by nomaflow: replaced by run {new}",
        )
        await shop.until(new, "only", "running")


async def test_priority_goes_first_and_a_tag_waits_for_its_worker(shop):
    await shop.declare(
        job("low", more="priority = -1")
        + job("high", more="priority = 5")
        + job("gpu", more='worker = "gpu"')
    )
    low, high, gpu = [await shop.trigger(n) for n in ("low", "high", "gpu")]
    async with working(shop, capacity=1):
        await asyncio.gather(shop.end(low), shop.end(high))
        found = await shop.db.fetch(
            "SELECT job_name FROM runs WHERE started_at IS NOT NULL ORDER BY started_at"
        )
        assert [r["job_name"] for r in found] == ["high", "low"]
        assert (await shop.held(gpu)).status == "queued"
