"""http_sync and what cannot be written: kept, reported, retried."""

import json
from datetime import datetime
from uuid import uuid4

import pytest
from loopback import as_json
from paged_api import PagedApi, user
from syncing import WATERMARK, declared, job, place, rows, synced, tables
from workshop import working, workshop

from nomaflow import batch_retry, replay
from nomaflow.errors import NomaflowError
from nomaflow.replay import Again
from nomaflow.store import history, sync_results, watermarks


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with place(database_url, redis_url, tmp_path) as made:
        yield made


async def test_one_bad_batch_leaves_the_others_and_the_run_partial(shop):
    people = [user(n) for n in range(250)]
    people[65]["email"] = None
    async with PagedApi(people) as api:
        step_words = 'batch_size = 10\non_error = "continue"'
        log = '[jobs.steps.log_table]\ntable = "sync_logs"'
        await declared(shop, job(api, step=step_words, rest=f"{WATERMARK}\n{log}"))
        run, step = await synced(shop)
    assert (run["status"], await rows(shop)) == ("partial", 240)
    assert run["reason"] == "partial: step `sync`: 1 batch failed and can be retried"
    assert step["status"] == "succeeded"
    output = step["output"]
    assert (output["records"], output["inserted"], output["failed_batches"]) == (250, 240, 1)
    (error,) = output["errors"]
    assert (error["page"], error["batch"]) == (1, 7)
    assert 'null value in column "email"' in error["error"]
    assert datetime.fromisoformat(error["at"]).tzinfo
    kept = await shop.db.fetchrow("SELECT * FROM failed_batches")
    assert (kept["page"], kept["batch"], kept["items"], kept["attempts"]) == (1, 7, 10, 1)
    assert (kept["status"], kept["step"], kept["job_name"]) == ("pending", "sync", "users")
    assert kept["payload"] == people[60:70]
    assert await watermarks.of_job(shop.db, "users") == {}
    log = await shop.db.fetchrow("SELECT * FROM public.sync_logs")
    assert (log["status"], log["records_processed"], log["pages"]) == ("partial", 250, 3)
    assert log["errors"][0]["batch"] == 7


async def test_stopping_at_the_first_bad_batch_says_what_stays(shop):
    people = [user(n) for n in range(250)]
    people[165]["email"] = None
    async with PagedApi(people) as api:
        log = '[jobs.steps.log_table]\ntable = "sync_logs"'
        await declared(shop, job(api, step="batch_size = 10", rest=log))
        run, step = await synced(shop)
    assert (run["status"], await rows(shop)) == ("failed", 160)
    message = step["error"]["message"]
    assert message.startswith("page 2, batch 17: ")
    assert message.endswith("; 160 rows of earlier batches stay written")
    assert step["output"]["inserted"] == 160
    row = await shop.db.fetchrow("SELECT * FROM public.sync_logs")
    assert (row["status"], row["records_processed"]) == ("failed", 160)
    # Seed 003's `error_count` of a sync that failed is not 0.
    sync = (await sync_results.of_runs(shop.db, [run["id"]]))[run["id"]]
    assert sync["failed_batches"] == 1
    for (error,) in (row["errors"], step["output"]["errors"], sync["errors"]):
        assert (error["page"], error["batch"]) == (2, 17)
        assert 'null value in column "email"' in error["error"]
        assert datetime.fromisoformat(error["at"]).tzinfo


async def test_what_stopped_a_try_is_its_own_error_and_not_one_of_the_next(shop):
    broken = {"3"}
    answer = lambda q: as_json({}, 500) if q["page"] in broken else None  # noqa: E731
    async with PagedApi([user(n) for n in range(250)], before=answer) as api:
        await declared(shop, job(api))
        run, step = await synced(shop)
        (error,) = step["output"]["errors"]
        assert (run["status"], error["page"], error["batch"]) == ("failed", 3, None)
        assert error["error"].startswith("page 3: GET ")
        assert step["output"]["failed_batches"] == 1
        assert "errors" in step["checkpoint"]
        assert step["checkpoint"]["errors"] == []


async def test_secrets_of_headers_are_masked(shop):
    (shop.root / ".env").write_text("API_TOKEN=tok_0123456789abcdef\n")
    request = 'headers = { Authorization = "Bearer ${env:API_TOKEN}" }'
    people = [user(1), user(2, email=None, first_name="it is tok_0123456789abcdef")]
    async with PagedApi(people) as api:
        step_words = 'batch_size = 1\non_error = "continue"'
        await declared(shop, job(api, request=request, step=step_words))
        run, _ = await synced(shop)
        assert run["status"] == "partial"
        assert api.server.received[0].header("authorization") == "Bearer tok_0123456789abcdef"
    batch = await shop.db.fetchrow("SELECT * FROM failed_batches")
    assert batch["masked"]
    assert batch["payload"][0]["first_name"] == "it is ***"
    for table in ("step_runs", "failed_batches", "log_lines", "run_events", "attempts"):
        found = await shop.db.fetch(f"SELECT t::text FROM {table} t")
        assert "tok_0123456789abcdef" not in json.dumps([row[0] for row in found])


async def retried(shop, **asked):
    made = await batch_retry.start(
        shop.db, shop.bell, batch_retry.Asked(triggered_by="user:ann", **asked)
    )
    return made, await shop.end(made.run_ids[-1]) if made.run_ids else None


async def test_a_failed_batch_is_written_by_a_run_of_its_own(shop):
    people = [user(n) for n in range(250)]
    people[65]["email"] = None
    fetch = """
[[jobs.steps]]
name = "before"
type = "sql_query"
connector = "default"
query = "SELECT 'x' AS word"
fetch = "first"
"""
    async with PagedApi(people) as api:
        text = job(api, step='batch_size = 10\non_error = "continue"', rest=WATERMARK)
        text = text.replace("[[jobs.steps]]", fetch + "[[jobs.steps]]", 1)
        text = text.replace(api.url, api.url + "?w=${out:before.first_row.word}")
        await declared(shop, text)
        run = await shop.run("users")
        assert run["status"] == "partial"
        assert api.asked[0]["w"] == "x"

        again, failed = await retried(shop, run_id=run["id"])
        assert (again.batches, failed["status"]) == (1, "partial")
        assert failed["reason"] == "partial: step `sync`: 1 batch failed again"
        batch = await shop.db.fetchrow("SELECT * FROM failed_batches")
        assert (batch["status"], batch["attempts"], batch["run_id"]) == ("failed", 2, run["id"])

        await shop.db.execute("ALTER TABLE public.users ALTER COLUMN email DROP NOT NULL")
        asked = len(api.asked)
        again, done = await retried(shop, job="users")
        assert (done["status"], await rows(shop)) == ("succeeded", 250)
        assert len(api.asked) == asked
    before, sync = await shop.steps(done["id"])
    assert (before["status"], sync["status"]) == ("skipped", "succeeded")
    assert before["reason"] == "skipped: only failed batches are retried"
    assert (sync["output"]["inserted"], sync["output"]["records"]) == (10, 10)
    assert sync["progress"]["last"] is True
    batch = await shop.db.fetchrow("SELECT * FROM failed_batches")
    assert (batch["status"], batch["attempts"]) == ("done", 3)
    assert (done["kind"], done["trigger"], done["triggered_by"]) == ("job", "retry", "user:ann")
    assert done["replay_of"] == run["id"]
    # It completes the old run, and is no success of the job's own.
    assert await watermarks.of_job(shop.db, "users") == {}
    assert (await shop.db.fetchval("SELECT status FROM runs WHERE id = $1", run["id"])) == "partial"
    assert await history.last_successes(shop.db, [done["job_id"]]) == {}
    nothing, _ = await retried(shop, job="users")
    assert (nothing.run_ids, nothing.batches) == ((), 0)
    with pytest.raises(NomaflowError, match="retried failed batches"):
        await replay.start(shop.db, shop.bell, Again(run_id=done["id"], triggered_by="user:ann"))


async def test_at_most_ten_are_retried_at_a_time_the_untried_first(shop):
    async with PagedApi([user(n, email=None) for n in range(12)]) as api:
        await declared(shop, job(api, step='batch_size = 1\non_error = "continue"'))
        run = await shop.run("users")
    first, _ = await retried(shop, run_id=run["id"])
    await shop.db.execute("ALTER TABLE public.users ALTER COLUMN email DROP NOT NULL")
    second, _ = await retried(shop, run_id=run["id"], limit=2)
    assert (first.batches, second.batches) == (10, 2)
    found = await shop.db.fetch("SELECT batch, status, attempts FROM failed_batches ORDER BY batch")
    assert {(r["status"], r["attempts"]) for r in found[:10]} == {("failed", 2)}
    assert {(r["status"], r["attempts"]) for r in found[10:]} == {("done", 2)}
    third, last = await retried(shop, job="users", limit=100)
    assert (third.batches, last["status"], await rows(shop)) == (10, "succeeded", 12)


NONSENSE = [
    ({}, "name a run or a job"),
    ({"job": "users", "limit": 0}, "between 1 and 1000"),
    ({"job": "nobody"}, "there is no job `nobody`"),
    ({"run_id": uuid4()}, "there is no run"),
]


async def test_a_retry_that_makes_no_sense_is_refused(shop):
    async with PagedApi([]) as api:
        await declared(shop, job(api))
    for asked, words in NONSENSE:
        with pytest.raises(NomaflowError, match=words):
            await retried(shop, **asked)


async def test_a_batch_that_held_a_secret_is_not_written_back(shop):
    (shop.root / ".env").write_text("API_TOKEN=tok_0123456789abcdef\n")
    request = 'headers = { Authorization = "Bearer ${env:API_TOKEN}" }'
    async with PagedApi([user(2, email=None, first_name="is tok_0123456789abcdef")]) as api:
        text = job(api, request=request, step='on_error = "continue"')
        await declared(shop, text)
        run = await shop.run("users")
    await shop.db.execute("ALTER TABLE public.users ALTER COLUMN email DROP NOT NULL")
    _, again = await retried(shop, run_id=run["id"])
    assert (again["status"], await rows(shop)) == ("partial", 0)
    error = await shop.db.fetchval("SELECT error FROM failed_batches")
    assert "run the job again instead" in error


async def test_a_retry_that_is_begun_again_does_not_write_twice(database_url, redis_url, tmp_path):
    """What an earlier try of the same retry run has settled is not due any more."""
    async with workshop(database_url, redis_url, tmp_path / "project") as shop:
        await tables(shop)
        async with PagedApi([user(n, email=None) for n in range(3)]) as api:
            await declared(shop, job(api, step='batch_size = 1\non_error = "continue"'))
            async with working(shop):
                run = await shop.run("users")
        await shop.db.execute("ALTER TABLE public.users ALTER COLUMN email DROP NOT NULL")
        asked = batch_retry.Asked(triggered_by="user:ann", run_id=run["id"])
        made = await batch_retry.start(shop.db, shop.bell, asked)
        await shop.db.execute("UPDATE failed_batches SET status = 'done' WHERE batch = 2")
        async with working(shop, "worker-2"):
            again = await shop.end(made.run_ids[0])
    assert (made.batches, again["status"], again["rows_affected"]) == (3, "succeeded", 2)
