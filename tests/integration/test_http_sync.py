import asyncio
import itertools
import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from loopback import as_json
from paged_api import PagedApi, user
from workshop import working, workshop

from nomaflow import batch_retry, replay
from nomaflow.errors import NomaflowError
from nomaflow.replay import Again
from nomaflow.store import history, watermarks

TABLES = """
CREATE TABLE users (
  external_id text PRIMARY KEY, email text NOT NULL, name text, status text,
  metadata jsonb, updated_at timestamptz);
CREATE TABLE sync_logs (
  id serial PRIMARY KEY, sync_id bigint NOT NULL, status varchar(20) NOT NULL,
  records_processed int NOT NULL, pages int NOT NULL, duration_seconds decimal(10,2),
  errors jsonb, completed_at timestamptz, created_at timestamptz DEFAULT now())
"""

JOB = """
[[jobs]]
name = "users"
[[jobs.steps]]
name = "sync"
type = "http_sync"
items = "data"
{step}
[jobs.steps.request]
url = "{url}"
{request}
[jobs.steps.paginate]
{paginate}
[jobs.steps.map]
external_id = "id"
email = "lower(email)"
name = "join(' ', [first_name, last_name])"
status = "active && 'active' || 'inactive'"
metadata = "json({{source: 'external-system', original_id: id, synced_at: now()}})"
updated_at = "updated_at"
[jobs.steps.target]
table = "users"
key = ["external_id"]
{rest}
"""
BY_PAGE = 'type = "page"\nsize = 100\ntotal = "total"'
WATERMARK = '[jobs.steps.watermark]\nname = "last_sync"'


def job(api, *, step="", request="", paginate=BY_PAGE, rest="", **replaced):
    text = JOB.format(url=api.url, step=step, request=request, paginate=paginate, rest=rest)
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as made, working(made):
        for statement in TABLES.split(";"):
            await made.db.execute(statement.replace("TABLE ", "TABLE public."))
        await made.db.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO nomaflow_jobs")
        await made.db.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO nomaflow_jobs")
        yield made


async def declared(shop, text):
    synced = await shop.declare(text)
    assert not synced.problems, [p.message for p in synced.problems]


async def synced(shop, **facts):
    """Run the job; the run's row and the sync step's."""
    run = await shop.run("users", **facts)
    (step,) = await shop.steps(run["id"])
    return run, step


async def rows(shop, what="count(*)"):
    return await shop.db.fetchval(f"SELECT {what} FROM public.users")


async def test_three_pages_into_a_table_and_nothing_new_the_second_time(shop):
    async with PagedApi([user(n) for n in range(250)]) as api:
        await declared(shop, job(api, step="batch_size = 10"))
        run, step = await synced(shop)
        assert run["status"] == "succeeded", (run["reason"], step["error"])
        assert api.pages == ["1", "2", "3"]
        assert all(query["limit"] == "100" for query in api.asked)
        output = step["output"]
        assert {k: output[k] for k in ("records", "pages", "batches", "inserted", "updated")} == {
            "records": 250,
            "pages": 3,
            "batches": 25,
            "inserted": 250,
            "updated": 0,
        }
        assert output["failed_batches"] == 0
        assert output["errors"] == []
        assert 0 < output["duration_seconds"] < 10
        assert run["rows_affected"] == 250
        assert step["summary"] == "250 records · 3 pages · 250 new · 0 changed"
        progress = step["progress"]
        assert (progress["batch"], progress["batches"]) == (25, 25)
        assert (progress["percent"], progress["last"]) == (100, True)
        assert (progress["done"], progress["total"]) == (250, 250)
        _, step = await synced(shop)
        assert (step["output"]["inserted"], step["output"]["updated"]) == (0, 250)
    row = await shop.db.fetchrow("SELECT * FROM public.users WHERE external_id = 'u0003'")
    assert (row["email"], row["name"], row["status"]) == (
        "user3@example.com",
        "First3 Last3",
        "inactive",
    )
    assert row["metadata"]["original_id"] == "u0003"
    assert row["updated_at"] == datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)


async def test_no_request_more_than_the_total_asks_for(shop):
    async with PagedApi([]) as api:
        await declared(shop, job(api))
        for count, requests in [(0, 1), (1, 1), (100, 1), (200, 2), (201, 3)]:
            api.items = [user(n) for n in range(count)]
            api.asked.clear()
            run, step = await synced(shop)
            assert (run["status"], len(api.asked)) == ("succeeded", requests)
            assert (step["output"]["records"], await rows(shop)) == (count, count)
            assert step["output"]["pages"] == requests


STYLES = {
    "page": 'type = "page"\nsize = 100',
    "has_more": 'type = "page"\nsize = 100\nhas_more = "more"',
    "offset": 'type = "offset"\nsize = 100\ntotal = "total"',
    "cursor": 'type = "cursor"\nsize = 100\nnext = "next"',
    "next_link": 'type = "next_link"\nsize = 100\nnext = "links.next"',
    "link_header": 'type = "link_header"\nsize = 100',
    "three at once": 'type = "page"\nsize = 20\ntotal = "total"\nconcurrency = 3',
    "three at once, no total": 'type = "page"\nsize = 20\nconcurrency = 3',
    "offsets at once": 'type = "offset"\nsize = 20\nconcurrency = 4\nhas_more = "more"',
    "slowly": 'type = "page"\nsize = 100\ndelay_seconds = 0.1',
}


@pytest.mark.parametrize("style", STYLES)
async def test_every_style_reads_the_same_rows(shop, style):
    kind = STYLES[style].split('"')[1]
    async with PagedApi([], style=kind) as api:
        await declared(shop, job(api, paginate=STYLES[style], step="batch_size = 30"))
        for count in (0, 200, 250):
            api.items = [user(n) for n in range(count)]
            run, step = await synced(shop)
            assert run["status"] == "succeeded", (run["reason"], api.asked)
            assert (step["output"]["records"], await rows(shop)) == (count, count)


async def test_pages_are_fetched_at_once_and_written_in_order(shop):
    release = asyncio.Event()

    async def slow_second(query):
        if query["page"] in {"2", "3"}:
            await release.wait()
        elif query["page"] == "4":
            release.set()

    paginate = 'type = "page"\nsize = 20\ntotal = "total"\nconcurrency = 3'
    async with PagedApi([user(n) for n in range(200)], before=slow_second) as api:
        await declared(shop, job(api, paginate=paginate))
        run, step = await synced(shop)
    assert run["status"] == "succeeded"
    assert api.at_once == 3
    assert sorted(map(int, api.pages)) == list(range(1, 11))
    assert step["output"]["inserted"] == 200
    order = await shop.db.fetch("SELECT external_id FROM public.users ORDER BY ctid")
    assert [row[0] for row in order] == [f"u{n:04}" for n in range(200)]


@pytest.mark.parametrize(
    ("api", "paginate", "words", "written"),
    [
        (
            {"total": 500},
            BY_PAGE,
            "says that there are 500 items, and page 4 is empty after 2",
            250,
        ),
        ({"total": 120}, BY_PAGE, "there are 120 items, and with page 2 it has given 200", 100),
        (
            {"before": lambda q: as_json({"data": [user(1)] * 100, "total": 10_000})},
            BY_PAGE,
            "page 2 holds the same items as an earlier page",
            1,
        ),
        (
            {"style": "cursor", "before": lambda q: as_json({"data": [user(len(q))], "next": "x"})},
            'type = "cursor"\nnext = "next"',
            "the API leads back",
            1,
        ),
        (
            {"before": lambda q: as_json({"data": [], "more": True})},
            'type = "page"\nhas_more = "more"',
            "page 1 is empty, though the API says that there is more",
            0,
        ),
        (
            {"style": "cursor", "total": 900},
            'type = "cursor"\nnext = "next"\ntotal = "total"',
            "there are 900 items, and names no page after 250",
            200,
        ),
    ],
)
async def test_an_api_that_lies_is_stopped(shop, api, paginate, words, written):
    async with PagedApi([user(n) for n in range(250)], **api) as served:
        await declared(shop, job(served, paginate=paginate, rest=WATERMARK))
        run, step = await synced(shop)
        assert run["status"] == "failed"
        assert words in step["error"]["message"]
        assert len(served.asked) < 6
    assert await rows(shop) == written
    assert step["output"]["inserted"] + step["output"]["updated"] >= written
    assert await watermarks.of_job(shop.db, "users") == {}


async def test_a_429_with_retry_after_is_obeyed(shop):
    loop = asyncio.get_running_loop()
    told = []

    def busy(query):
        if query["page"] == "2" and not told:
            told.append(loop.time())
            return as_json({}, 429, Retry_After="1")
        if query["page"] == "2":
            told.append(loop.time())
        return None

    async with PagedApi([user(n) for n in range(250)], before=busy) as api:
        await declared(shop, job(api))
        run, _ = await synced(shop)
    assert run["status"] == "succeeded"
    assert api.pages == ["1", "2", "2", "3"]
    assert told[1] - told[0] >= 1
    assert any("trying again in 1 s" in line for line in await shop.lines(run["id"]))


async def test_a_page_that_fails_is_asked_for_again_as_the_request_says(shop):
    failures = iter([503, 500])

    def broken(query):
        status = next(failures, None) if query["page"] == "2" else None
        return as_json({}, status) if status else None

    async with PagedApi([user(n) for n in range(250)], before=broken) as api:
        request = "retry_count = 2\nretry_delay_seconds = 0.01"
        await declared(shop, job(api, request=request))
        run, _ = await synced(shop)
    assert (run["status"], len(api.asked)) == ("succeeded", 5)


async def test_the_gap_between_requests_is_kept(shop):
    loop = asyncio.get_running_loop()
    times = []
    paginate = BY_PAGE + "\ndelay_seconds = 0.2\nconcurrency = 3"
    note = lambda _query: times.append(loop.time())  # noqa: E731
    async with PagedApi([user(n) for n in range(400)], before=note) as api:
        await declared(shop, job(api, paginate=paginate))
        run, _ = await synced(shop)
    assert run["status"] == "succeeded"
    assert all(b - a > 0.19 for a, b in itertools.pairwise(times))


async def test_one_bad_batch_leaves_the_others_and_the_run_partial(shop):
    people = [user(n) for n in range(250)]
    people[65]["email"] = None
    async with PagedApi(people) as api:
        step_words = 'batch_size = 10\non_error = "continue"'
        log = '[jobs.steps.log_table]\ntable = "sync_logs"'
        await declared(shop, job(api, step=step_words, rest=f"{WATERMARK}\n{log}"))
        run, step = await synced(shop)
    assert (run["status"], await rows(shop)) == ("partial", 240)
    assert run["reason"] == "partial: step `sync` 1 batch failed and can be retried"
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


async def test_one_log_row_for_a_run(shop):
    log = '[jobs.steps.log_table]\ntable = "sync_logs"'
    async with PagedApi([user(n) for n in range(250)]) as api:
        await declared(shop, job(api, step="batch_size = 10", rest=log))
        run, step = await synced(shop)
        again, _ = await synced(shop)
    assert (run["status"], again["status"]) == ("succeeded", "succeeded")
    first, second = await shop.db.fetch(
        "SELECT *, jsonb_array_length(errors) AS error_count FROM public.sync_logs ORDER BY sync_id"
    )
    assert (first["status"], first["records_processed"], first["pages"]) == ("completed", 250, 3)
    assert (first["error_count"], second["id"]) == (0, first["id"] + 1)
    assert float(first["duration_seconds"]) == round(step["output"]["duration_seconds"], 2)
    assert first["completed_at"] == datetime.fromisoformat(step["output"]["completed_at"])


async def test_the_watermark_is_the_start_of_the_newest_run_that_succeeded(shop):
    request = 'query = { updated_since = "${state.last_sync:-2024-01-01T00:00:00Z}" }'
    broken = []
    async with PagedApi([user(n) for n in range(3)], before=lambda _q: broken[0]) as api:
        api.before = lambda _q: broken[0] if broken else None
        await declared(shop, job(api, request=request, rest=WATERMARK))
        run, _ = await synced(shop)
        assert api.asked[-1]["updated_since"] == "2024-01-01T00:00:00Z"
        mark = await watermarks.get(shop.db, "users", "last_sync")
        start = run["started_at"]
        assert mark.value == start.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert mark.run_id == run["id"]
        broken.append(as_json({}, 500))
        failed, _ = await synced(shop)
        assert api.asked[-1]["updated_since"] == mark.value
        assert failed["status"] == "failed"
        assert (await watermarks.get(shop.db, "users", "last_sync")) == mark
        broken.clear()
        again, _ = await synced(shop)
        assert api.asked[-1]["updated_since"] == mark.value
        moved = await watermarks.get(shop.db, "users", "last_sync")
        assert (moved.run_id, moved.value > mark.value) == (again["id"], True)


async def test_a_later_step_that_fails_holds_the_watermark(shop):
    last = """
[[jobs.steps]]
name = "check"
type = "sql_query"
connector = "default"
query = "SELECT 1 / :n"
params = { n = "${kw:n}" }
"""
    async with PagedApi([user(1)]) as api:
        text = job(api, rest=WATERMARK + last).replace(
            '"users"\n[[', '"users"\nparams = { n = 0 }\n[[', 1
        )
        await declared(shop, text)
        run = await shop.run("users")
        assert run["status"] == "failed"
        assert await watermarks.of_job(shop.db, "users") == {}
        run = await shop.run("users", params={"n": 1})
        assert run["status"] == "succeeded"
        assert list(await watermarks.of_job(shop.db, "users")) == ["last_sync"]


async def test_the_largest_value_of_a_column_never_goes_back(shop):
    rest = '[jobs.steps.watermark]\nname = "newest"\nvalue = "max:updated_at"'
    people = [
        user(1, updated_at="2026-03-01T10:00:00+02:00"),
        user(2, updated_at="2026-03-01T09:00:00Z"),
    ]
    async with PagedApi(people) as api:
        await declared(shop, job(api, rest=rest))
        await synced(shop)
        assert await watermarks.of_job(shop.db, "users") == {"newest": "2026-03-01T09:00:00Z"}
        api.items = [user(1, updated_at="2026-02-01T10:00:00Z")]
        await synced(shop)
        assert await watermarks.of_job(shop.db, "users") == {"newest": "2026-03-01T09:00:00Z"}
        api.items = []
        run, _ = await synced(shop)
        assert run["status"] == "succeeded"
        assert await watermarks.of_job(shop.db, "users") == {"newest": "2026-03-01T09:00:00Z"}


async def test_of_rows_with_one_key_in_a_batch_the_last_counts(shop):
    people = [user(1, email="a@x"), user(2), user(1, email="b@x"), user(1, email="C@x")]
    async with PagedApi(people) as api:
        await declared(shop, job(api))
        run, step = await synced(shop)
    assert run["status"] == "succeeded"
    assert (step["output"]["records"], step["output"]["inserted"]) == (4, 2)
    assert await rows(shop, "email") in {"c@x", "user2@example.com"}
    assert await shop.db.fetchval("SELECT email FROM public.users WHERE external_id = 'u0001'") == (
        "c@x"
    )


async def test_a_dry_run_shows_and_writes_nothing(shop):
    async with PagedApi([user(n) for n in range(250)]) as api:
        await declared(shop, job(api, rest=WATERMARK))
        run, step = await synced(shop, dry_run=True)
    assert (run["status"], await rows(shop), len(api.asked)) == ("succeeded", 0, 1)
    output = step["output"]
    assert (output["dry_run"], output["records"], output["total"]) == (True, 100, 250)
    assert output["rows"][0]["email"] == "user0@example.com"
    assert len(output["rows"]) == 5
    assert "public.users" in output["would"]
    assert await watermarks.of_job(shop.db, "users") == {}


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
    return made, await shop.end(made.run_id) if made.run_id else None


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
        assert failed["reason"] == "partial: step `sync` 1 batch failed again"
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
    assert await history.newest(shop.db, [done["job_id"]], "succeeded") == {}
    nothing, _ = await retried(shop, job="users")
    assert (nothing.run_id, nothing.batches) == (None, 0)
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


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "name a run or a job"),
        ({"job": "users", "limit": 0}, "between 1 and 1000"),
        ({"job": "nobody"}, "there is no job `nobody`"),
        ({"run_id": uuid4()}, "there is no run"),
    ],
)
async def test_a_retry_that_makes_no_sense_is_refused(shop, asked, words):
    async with PagedApi([]) as api:
        await declared(shop, job(api))
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


REFUSED = {
    "items path missing": (
        {'items = "data"': 'items = "people"'},
        "`items` = `people` finds nothing in the body, which is a table with `data`, `total`",
    ),
    "mapping to a missing column": (
        {'email = "lower(email)"': 'e_mail = "lower(email)"'},
        "fills the column `e_mail`, which public.users does not have; did you mean `email`?",
    ),
    "a needed column without a mapping": (
        {'email = "lower(email)"': ""},
        "public.users needs a value for the column `email` (NOT NULL, no default)",
    ),
    "key without unique index": (
        {'key = ["external_id"]': 'key = ["name"]'},
        "public.users has no unique index on (name)",
    ),
    "no such table": ({'table = "users"': 'table = "people"'}, "there is no table `people`"),
    "body not JSON": ({"/users": "/html"}, "answered text/html, which is not JSON: <p>Sorry</p>"),
    "no answer": ({"/users": "/gone"}, "page 1: GET"),
    "a total that is none": (
        {'total = "total"': 'total = "data"'},
        "page 1: `total` = `data` gives",
    ),
    "log table without its columns": (
        {'key = ["external_id"]': 'key = ["external_id"]\n[jobs.steps.log_table]\ntable = "users"'},
        "the log table `users` needs the columns sync_id, status",
    ),
    "an item that does not map": (
        {'email = "lower(email)"': 'email = "lower(id_number)"'},
        "item 1 of the page: column `email`: expression `lower(id_number)`: lower() takes string",
    ),
}


async def test_bad_input_is_a_sentence_and_writes_nothing(shop):
    def other(_query):
        target = api.server.received[-1].target
        if target.startswith("/html"):
            return 200, {"Content-Type": "text/html"}, b"<p>Sorry</p>"
        return as_json({"message": "no"}, 404) if target.startswith("/gone") else None

    async with PagedApi([user(n, id_number=n) for n in range(5)], before=other) as api:
        for changes, words in REFUSED.values():
            text = job(api)
            for old, new in changes.items():
                assert old in text
                text = text.replace(old, new)
            await declared(shop, text)
            run, step = await synced(shop)
            assert run["status"] == "failed", words
            assert words in step["error"]["message"]
            assert await rows(shop) == 0


async def test_values_are_read_as_the_types_of_their_columns(shop):
    await shop.db.execute("""
        CREATE DOMAIN public.percent AS numeric CHECK (value BETWEEN 0 AND 100)""")
    await shop.db.execute("""
        CREATE TABLE public.things (
          id uuid PRIMARY KEY, amount numeric(12,2), many bigint, ratio double precision,
          at timestamptz, day date, ok boolean, data jsonb, tags text[], numbers int[],
          code varchar(3), share public.percent, flag bit(3), note text, made int GENERATED ALWAYS
          AS (1) STORED)""")
    await shop.db.execute("GRANT ALL ON public.things TO nomaflow_jobs")
    thing = {
        "id": "0190a6f0-0000-7000-8000-000000000001",
        "amount": 12.345,
        "many": 5.0,
        "ratio": 1e-7,
        "at": "2026-01-01T12:00:00+02:00",
        "day": "2026-02-03",
        "ok": True,
        "data": {"a": [1, None, "x"]},
        "tags": ["a,b", 'say "hi"', None, "back\\slash"],
        "numbers": [1, 2],
        "code": "abc",
        "share": "99.5",
        "flag": "101",
        "note": {"as": "text"},
    }
    text = f"""
[[jobs]]
name = "users"
[[jobs.steps]]
name = "sync"
type = "http_sync"
on_error = "continue"
batch_size = 1
request = {{ url = "URL" }}
items = "data"
map = {{ {", ".join(f'{name} = "{name}"' for name in thing)} }}
target = {{ table = "things", key = ["id"] }}
"""
    wrong = [{**thing, "code": "abcd"}, {**thing, "share": 101}, {**thing, "tags": "a\x00"}]
    wrong += [{**thing, "id": None}, {**thing, "many": 1.5}, {**thing, "many": "many"}]
    async with PagedApi([thing, *wrong]) as api:
        await declared(shop, text.replace("URL", api.url))
        run, step = await synced(shop)
    assert run["status"] == "partial"
    errors = [error["error"] for error in step["output"]["errors"]]
    for error, words in zip(
        errors,
        ["too long", "percent", "0x00", "no value for the key", "1.5", '"many"'],
        strict=True,
    ):
        assert words in error
    row = dict(await shop.db.fetchrow("SELECT *, amount::text AS money FROM public.things"))
    assert (row["money"], row["many"], row["ratio"], row["day"].isoformat()) == (
        "12.35",
        5,
        1e-7,
        "2026-02-03",
    )
    assert row["at"] == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert (row["ok"], row["data"], row["numbers"]) == (True, {"a": [1, None, "x"]}, [1, 2])
    assert row["tags"] == ["a,b", 'say "hi"', None, "back\\slash"]
    assert (row["code"], row["note"], str(row["share"])) == ("abc", '{"as": "text"}', "99.5")


async def test_partitioned_tables_and_keys_of_several_columns(shop):
    await shop.db.execute("""CREATE TABLE public.parts (area text, id int, name text,
        PRIMARY KEY (area, id)) PARTITION BY LIST (area)""")
    for area in "ab":
        await shop.db.execute(f"""CREATE TABLE public.parts_{area} PARTITION OF public.parts
            FOR VALUES IN ('{area}')""")
    await shop.db.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO nomaflow_jobs")
    text = """
[[jobs]]
name = "users"
[[jobs.steps]]
name = "sync"
type = "http_sync"
request = { url = "URL" }
items = "data"
map = { area = "area", id = "id", name = "name" }
target = { table = "parts", schema = "public", key = ["area", "id"] }
"""
    items = [{"area": "ab"[n % 2], "id": n // 2, "name": str(n)} for n in range(10)]
    async with PagedApi(items) as api:
        await declared(shop, text.replace("URL", api.url))
        for new, inserted, updated in (([], 10, 0), ([{"area": "a", "id": 99}] * 2, 1, 10)):
            api.items = items + new
            run, step = await synced(shop)
            assert run["status"] == "succeeded", step["error"]
            output = step["output"]
            assert (output["inserted"], output["updated"]) == (inserted, updated)
    assert await shop.db.fetchval("SELECT count(*) FROM public.parts") == 11


async def test_without_a_key_every_row_is_added(shop):
    async with PagedApi([user(n) for n in range(3)]) as api:
        await shop.db.execute("ALTER TABLE public.users DROP CONSTRAINT users_pkey")
        await declared(shop, job(api).replace('key = ["external_id"]', ""))
        await synced(shop)
        _, step = await synced(shop)
    assert (step["output"]["inserted"], await rows(shop)) == (3, 6)


QUERIES = """
[connectors.store]
kind = "sql"
url = "${env:STORE_URL}"
[connectors.store.queries.one]
operation = "write"
sql = '''INSERT INTO public.users (external_id, email) VALUES (:external_id, :email)
  ON CONFLICT (external_id) DO UPDATE SET email = excluded.email
  RETURNING (xmax = 0) AS inserted'''
[connectors.store.queries.all]
operation = "write"
sql = '''INSERT INTO public.users (external_id, email)
  SELECT * FROM unnest(:external_id::text[], :email::text[])
  ON CONFLICT (external_id) DO UPDATE SET email = excluded.email'''
"""


async def test_a_named_query_writes_row_by_row_or_whole_batches(shop):
    (shop.root / ".env").write_text(f"STORE_URL={shop.database_url}\n")
    (shop.root / "connectors.toml").write_text(QUERIES)
    text = """
[[jobs]]
name = "users"
[[jobs.steps]]
name = "sync"
type = "http_sync"
on_error = "continue"
batch_size = 10
request = { url = "URL" }
items = "data"
map = { external_id = "id", email = "email" }
target = { connector = "store", query = "QUERY" }
"""
    async with PagedApi([user(n) for n in range(25)]) as api:
        text = text.replace("URL", api.url)
        await declared(shop, text.replace("QUERY", "one:write"))
        run, step = await synced(shop)
        assert run["status"] == "succeeded", step["error"]
        assert (step["output"]["inserted"], step["output"]["updated"]) == (25, 0)
        await declared(shop, text.replace("QUERY", "all:write"))
        run, step = await synced(shop)
        assert (run["status"], step["output"]["updated"]) == ("succeeded", 25)
        api.items[12]["email"] = None
        await declared(shop, text.replace("QUERY", "one:write"))
        run, step = await synced(shop)
        assert (run["status"], step["output"]["updated"]) == ("partial", 15)
        for query, words in (("two:write", "no query named 'two'"), ("one", "changes data")):
            await declared(shop, text.replace("QUERY", query))
            run, step = await synced(shop)
            assert (run["status"], words in step["error"]["message"]) == ("failed", True)
        await declared(shop, text.replace("QUERY", "all:write").replace("external_id", "identity"))
        run, step = await synced(shop)
        assert "has no such parameter; it has `:external_id`, `:email`" in step["error"]["message"]
