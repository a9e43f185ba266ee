"""Run again: the same snapshot, with edits, from the start or from where it stopped."""

import pytest
from workshop import working

from nomaflow import replay
from nomaflow.errors import NomaflowError
from nomaflow.replay import Again

CHAIN = """
    [[jobs]]
    name = "j"
    params = {{ n = 0 }}
    [[jobs.steps]]
    name = "load"
    type = "sql_query"
    connector = "default"
    query = "SELECT g, repeat('x', 500) AS text FROM generate_series(1, 100) g"
    [[jobs.steps]]
    name = "off"
    type = "sql_query"
    enabled = false
    connector = "default"
    query = "SELECT 1"
    [[jobs.steps]]
    name = "divide"
    type = "sql_query"
    connector = "default"
    query = "{query}"
    params = {{ n = "${{kw:n}}", rows = "${{out:load.rows}}" }}
"""
QUERY = "SELECT 1 / :n::int AS v, jsonb_array_length(:rows::jsonb) AS rows"


async def again(shop, run_id, **more):
    return (
        await replay.start(shop.db, shop.bell, Again(run_id=run_id, triggered_by="api", **more))
    ).run_id


async def test_a_failed_run_is_resumed_at_its_step_with_whole_earlier_outputs(shop):
    await shop.declare(CHAIN.format(query=QUERY))
    async with working(shop):
        old = await shop.run("j")
        assert old["status"] == "failed"
        await shop.declare(CHAIN.format(query="SELECT 'edited' AS v, :n::text, :rows::text"))
        new = await shop.end(await again(shop, old["id"], from_step="divide", params={"n": 4}))
    assert new["status"] == "succeeded"
    assert (new["replay_of"], new["trigger"]) == (old["id"], "replay")
    assert new["job_revision"] == old["job_revision"]
    load, off, divide = await shop.steps(new["id"])
    assert (load["status"], load["reason"]) == ("skipped", f"skipped: kept from run {old['id']}")
    assert off["reason"] == "skipped: disabled"
    assert divide["output"]["rows"] == [{"v": 0, "rows": 100}]
    before = await shop.steps(old["id"])
    assert [s["status"] for s in before] == ["succeeded", "skipped", "failed"]


async def test_the_whole_run_again_keeps_its_overrides(shop):
    await shop.declare(CHAIN.format(query=QUERY))
    async with working(shop):
        old = await shop.run("j", params={"n": 2})
        new = await shop.end(await again(shop, old["id"]))
    assert new["status"] == old["status"] == "succeeded"
    assert new["params"] == {"n": 2}
    assert [s["status"] for s in await shop.steps(new["id"])] == [
        "succeeded",
        "skipped",
        "succeeded",
    ]


async def test_what_cannot_be_run_again_says_why(shop):
    await shop.declare(CHAIN.format(query=QUERY))
    waiting = await shop.trigger("j")
    with pytest.raises(NomaflowError, match="still queued") as refused:
        await again(shop, waiting)
    assert refused.value.code == "INVALID_STATE"
    async with working(shop):
        await shop.end(waiting)
    with pytest.raises(NomaflowError, match="no step `nope`"):
        await again(shop, waiting, from_step="nope")
    with pytest.raises(NomaflowError, match="there is no run"):
        await again(shop, "01920000-0000-7000-8000-000000000001")


async def test_a_preview_is_never_taken_for_the_output(shop):
    await shop.declare(CHAIN.format(query=QUERY).replace("repeat('x', 500)", "repeat('x', 5000)"))
    async with working(shop):
        old = await shop.run("j", params={"n": 1})
        with pytest.raises(NomaflowError, match="begin at `load` or before") as refused:
            await again(shop, old["id"], from_step="divide")
        assert refused.value.code == "INVALID_STATE"
        new = await shop.end(await again(shop, old["id"], from_step="load"))
    assert new["status"] == old["status"] == "succeeded"
