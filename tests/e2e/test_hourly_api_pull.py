"""Seed 000 through the three programs: thirty releases in, then again, the token nowhere."""

import base64
import json
from urllib.parse import quote

import pytest
from recipes import load

JOB = "github-releases-hourly"
TOKEN = "ghp_s3cret/t0ken+of~an&example=="
SHOWN = """query ($id: ID!, $job: String!) {
  job(name: $job) { definition toml params steps { config } }
  connectors { name settings }
  run(id: $id) { params overrides error { message traceback }
    steps { input output summary error { message traceback }
      attempts { error { message traceback } } }
    events(first: 100) { nodes { ... on LogsWritten { lines { message } } } }
    logs(first: 1000) { nodes { message } } } }"""


@pytest.fixture(scope="module")
def github():
    module = load("hourly-api-pull", "releases_stub.py")
    stub = module.ReleasesStub(TOKEN)
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def up(start, example, github):
    project = example("hourly-api-pull")
    (project / ".env").write_text(f"GITHUB_TOKEN='{TOKEN}'\nGITHUB_API_URL={github.url}\n")
    jobs = project / "jobs.toml"
    jobs.write_text(jobs.read_text().replace("base_seconds = 30", "base_seconds = 0.2"))
    return start(project)


@pytest.fixture
async def tables(up):
    run = await up.ended(await up.trigger("github-releases-tables"))
    assert run["status"] == "SUCCEEDED", run
    async with up.database() as connection:
        await connection.execute("TRUNCATE public.releases, public.sync_state")


async def state(up):
    async with up.database() as connection:
        return (
            await connection.fetchval("SELECT count(*) FROM public.releases"),
            await connection.fetchval("SELECT last_sync FROM public.sync_state"),
        )


async def test_first_all_are_new_then_all_are_updated(up, github, tables):
    first = await up.ended(await up.trigger(JOB))
    assert first["status"] == "SUCCEEDED", first
    count, first_sync = await state(up)
    assert count == 30
    second = await up.ended(await up.trigger(JOB))
    assert second["status"] == "SUCCEEDED", second
    assert await state(up) > (30, first_sync)

    for run, inserted, updated in ((first, 30, 0), (second, 0, 30)):
        fetched, upserted, marked = run["steps"]
        assert fetched["summary"] == "status=200 · body=30 items"
        assert upserted["output"] == {"fetched": 30, "inserted": inserted, "updated": updated}
        assert upserted["summary"] == f"fetched: 30 · inserted: {inserted} · updated: {updated}"
        assert marked["summary"] == "1 row affected"
        said = [(line["level"], line["message"]) for line in run["logs"]["nodes"]]
        assert ("INFO", f"upserted 30 releases · {inserted} new · {updated} updated") in said
    async with up.database() as connection:
        row = await connection.fetchrow("SELECT * FROM public.releases WHERE id = 9001")
    assert (row["repo"], row["tag"]) == ("fblettner/fblettner.github.io", "v1.1.0")
    assert row["published_at"].isoformat() == "2026-01-02T08:00:00+00:00"


async def test_another_repository_for_one_run(up, tables):
    run = await up.ended(await up.trigger(JOB, params={"repo": "python/cpython"}))
    assert run["status"] == "SUCCEEDED", run
    assert run["params"]["repo"] == "python/cpython"
    async with up.database() as connection:
        assert await connection.fetchval("SELECT min(repo) FROM public.releases") == (
            "python/cpython"
        )


async def test_a_503_is_tried_again(up, github, tables):
    github.statuses.clear()
    github.fail_next(503)
    run = await up.ended(await up.trigger(JOB))
    assert run["status"] == "SUCCEEDED", run
    first, second = run["steps"][0]["attempts"]
    assert (first["status"], second["status"]) == ("FAILED", "SUCCEEDED")
    assert "503" in first["error"]["message"]
    assert github.statuses == [503, 200]


async def test_the_token_is_nowhere(up, github, tables):
    github.fail_next(500, 3)
    failed = await up.trigger(JOB)
    assert (await up.ended(failed))["status"] == "FAILED"
    succeeded = await up.trigger(JOB)
    assert (await up.ended(succeeded))["status"] == "SUCCEEDED"

    forms = [TOKEN, quote(TOKEN), quote(TOKEN, safe=""), json.dumps(TOKEN)[1:-1]]
    forms += [base64.b64encode(TOKEN.encode()).decode().rstrip("="), TOKEN[4:20]]
    for run_id in (failed, succeeded):
        answer = json.dumps(await up.ask(SHOWN, id=run_id, job=JOB), ensure_ascii=False)
        assert "***" in answer
        assert [form for form in forms if form in answer] == []
    assert [form for form in forms if form in up.said()] == []
    # Everything that was ever written: tables, their write-ahead log, Valkey's file, server logs.
    async with up.database() as connection:
        await connection.execute("CHECKPOINT")
    kept = [path for path in up.home.rglob("*") if path.is_file()]
    assert len(kept) > 100
    assert [
        path for path in kept if any(form.encode() in path.read_bytes() for form in forms)
    ] == []
