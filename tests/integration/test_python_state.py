"""`ctx.state` in whole runs: a watermark moves with the run that succeeded, and only then."""

import pytest
from workshop import working, workshop

from nomaflow.store import watermarks

JOBS = """
[[jobs]]
name = "pull"
params = { fail = "no" }
[[jobs.steps]]
name = "fetch"
type = "python"
callable = "pull:fetch"
[[jobs.steps]]
name = "look"
type = "python"
callable = "pull:look"
kwargs = { rendered = "${state.last:-never}" }
when = "params.fail != 'skip'"
[[jobs.steps]]
name = "end"
type = "sql_query"
connector = "default"
query = "SELECT 1 / :n::int AS one"
params = { n = "${out:look.n:-1}" }
"""
PULL = """
async def fetch(ctx, *, fail):
    since = ctx.state.get("last", "2024-01-01")
    if "last" in ctx.state:
        assert ctx.state["last"] == since
    ctx.state.set("last", since + "+")
    return {"since": since, "now": ctx.state["last"]}


def look(ctx, *, rendered, fail):
    return {"seen": ctx.state.get("last"), "rendered": rendered, "n": 0 if fail == "yes" else 1}
"""


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as made:
        (made.root / "plugins" / "pull.py").write_text(PULL)
        await made.declare(JOBS)
        async with working(made):
            yield made


async def test_a_watermark_moves_only_with_a_run_that_succeeded(shop):
    failed = await shop.run("pull", params={"fail": "yes"})
    assert failed["status"] == "failed"
    assert await watermarks.of_job(shop.db, "pull") == {}

    first = await shop.run("pull")
    assert first["status"] == "succeeded", first["reason"]
    fetch, look, _ = await shop.steps(first["id"])
    assert fetch["output"] == {"since": "2024-01-01", "now": "2024-01-01+"}
    assert look["output"] == {"seen": None, "rendered": "never", "n": 1}
    kept = await watermarks.get(shop.db, "pull", "last")
    assert (kept.value, kept.run_id) == ("2024-01-01+", first["id"])

    second = await shop.run("pull")
    fetch, look, _ = await shop.steps(second["id"])
    assert fetch["output"]["since"] == "2024-01-01+"
    assert look["output"]["seen"] == look["output"]["rendered"] == "2024-01-01+"


async def test_a_dry_run_moves_none_and_says_so(shop):
    run = await shop.run("pull", dry_run=True)
    assert run["status"] == "succeeded", run["reason"]
    assert await watermarks.of_job(shop.db, "pull") == {}
    assert "would move the watermarks: last to 2024-01-01+" in await shop.lines(run["id"])


async def test_a_watermark_that_holds_a_secret_is_refused(shop):
    (shop.root / ".env").write_text("TOKEN=s3cret-of-sixteen\n")
    (shop.root / "plugins" / "leak.py").write_text(
        "import os\ndef leak(ctx): ctx.state.set('x', 'a ' + os.environ['TOKEN'])\n"
    )
    await shop.declare(
        """
        [[jobs]]
        name = "leak"
        [[jobs.steps]]
        name = "leak"
        type = "python"
        callable = "leak:leak"
        env = ["TOKEN"]
        """
    )
    run = await shop.run("leak")
    assert run["status"] == "failed"
    assert "a watermark of step `leak` holds the value of a secret" in run["reason"]
    assert await watermarks.of_job(shop.db, "leak") == {}
