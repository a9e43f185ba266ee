"""A job that this program knows starts in one statement, which looks whether it is still so."""

import pytest

from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import definitions
from nomaflow.job.problems import SpecErrors
from nomaflow.store import database

JOB = """
    [[jobs]]
    name = "j"
    overlap = "{overlap}"
    {more}
    steps = [{{ name = "{step}", type = "sql_query", connector = "default", query = "SELECT 1" }}]
"""


def job(step="a", more="", overlap="allow"):
    return JOB.format(step=step, more=more, overlap=overlap)


async def revision_and_steps(shop, run_id):
    row = await shop.db.fetchrow("SELECT job_revision, seq, status FROM runs WHERE id = $1", run_id)
    return row["job_revision"], [step["name"] for step in await shop.steps(run_id)]


async def test_a_known_job_starts_in_one_statement(shop, monkeypatch):
    await shop.declare(job())
    await shop.trigger("j")
    monkeypatch.setattr(database.Database, "transaction", None)
    run_id = await shop.trigger("j")
    assert await revision_and_steps(shop, run_id) == (1, ["a"])
    assert await shop.db.fetchval("SELECT count(*) FROM run_events WHERE run_id = $1", run_id) == 1


async def test_a_job_that_was_edited_meanwhile_starts_as_it_is_now(shop):
    await shop.declare(job())
    await shop.trigger("j")
    known = definitions.seen("j")
    await shop.declare(job(step="b", more="params = { day = 1 }"))
    definitions._seen["j"] = known  # as another program's edit leaves this one
    run_id = await shop.trigger("j")
    assert await revision_and_steps(shop, run_id) == (2, ["b"])


async def test_a_refusal_comes_from_the_definition_in_force(shop):
    await shop.declare(job())
    await shop.trigger("j")
    known = definitions.seen("j")
    await shop.declare(job(more="params = { day = 1 }"))
    definitions._seen["j"] = known
    await shop.trigger("j", params={"day": 2})
    await shop.declare(job())
    with pytest.raises(SpecErrors):
        await shop.trigger("j", params={"day": {}}, step_kwargs={"gone": {}})


@pytest.mark.parametrize(
    ("change", "code"),
    [(job().replace('"j"', '"other"'), Code.NOT_FOUND), (job(overlap="skip"), Code.BUSY)],
    ids=["gone", "one at a time"],
)
async def test_a_job_that_is_gone_or_may_not_run_twice_does_not_start(shop, change, code):
    await shop.declare(job())
    await shop.trigger("j")
    known = definitions.seen("j")
    await shop.declare(change)
    definitions._seen["j"] = known
    with pytest.raises(NomaflowError) as refused:
        await shop.trigger("j")
    assert refused.value.code is code
    assert await shop.db.fetchval("SELECT count(*) FROM runs") == 1


async def test_a_key_finds_its_run_also_for_a_known_job(shop):
    await shop.declare(job())
    await shop.trigger("j")
    first = await shop.trigger("j", idempotency_key="k")
    assert await shop.trigger("j", idempotency_key="k") == first
