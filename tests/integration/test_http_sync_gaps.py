"""http_sync and pages that cannot be fetched: left out, kept with their request, read again."""

from collections import Counter
from itertools import pairwise

import pytest
from loopback import as_json
from paged_api import PagedApi, user
from syncing import BY_PAGE, WATERMARK, declared, job, place, rows, synced

from nomaflow import batch_retry
from nomaflow.store import watermarks

PATIENT = 'batch_size = 10\non_error = "continue"'
BY_TWENTY = 'type = "page"\nsize = 20\ntotal = "total"'
SINCE = 'query = { updated_since = "${state.last_sync:-2024-01-01}" }'


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with place(database_url, redis_url, tmp_path) as made:
        yield made


def broken(pages, status=500, **headers):
    """An API that answers these pages with an error as long as they are in the list."""
    return lambda query: as_json({}, status, **headers) if query["page"] in pages else None


async def retried(shop, **asked):
    made = await batch_retry.start(
        shop.db, shop.bell, batch_retry.Asked(triggered_by="user:ann", **asked)
    )
    return made, [await shop.end(run_id) for run_id in made.run_ids]


async def test_a_page_that_cannot_be_fetched_is_kept_and_fetched_later(shop):
    bad = ["2"]
    async with PagedApi([user(n) for n in range(250)], before=broken(bad)) as api:
        request = f"{SINCE}\nretry_count = 1\nretry_delay_seconds = 0"
        log = '[jobs.steps.log_table]\ntable = "sync_logs"'
        text = job(api, step=PATIENT, request=request, rest=f"{WATERMARK}\n{log}")
        await declared(shop, text)
        run, step = await synced(shop)
        assert (run["status"], await rows(shop)) == ("partial", 150)
        assert run["reason"] == "partial: step `sync`: 1 page failed and can be retried"
        assert api.pages == ["1", "2", "2", "3"]
        output = step["output"]
        assert (output["records"], output["pages"], output["failed_batches"]) == (150, 2, 1)
        (error,) = output["errors"]
        assert (error["page"], error["batch"]) == (2, 11)
        assert error["error"].startswith("page 2: GET ")
        kept = await shop.db.fetchrow("SELECT * FROM failed_batches")
        assert (kept["page"], kept["items"], kept["payload"], kept["status"]) == (
            *(2, 0, []),
            "pending",
        )
        query = {"updated_since": "2024-01-01", "limit": 100, "page": 2}
        assert kept["request"] == {"method": "GET", "url": api.url, "query": query, "body": None}
        assert await watermarks.of_job(shop.db, "users") == {}
        log = await shop.db.fetchrow("SELECT * FROM public.sync_logs")
        assert (log["status"], log["records_processed"]) == ("partial", 150)

        _, (again,) = await retried(shop, job="users")
        assert (again["status"], await rows(shop)) == ("partial", 150)
        row = await shop.db.fetchrow("SELECT status, attempts, request FROM failed_batches")
        assert (row["status"], row["attempts"], row["request"]) == ("failed", 2, kept["request"])

        # The same page is asked for, though the watermark has moved meanwhile.
        await watermarks.set(shop.db, "users", "last_sync", "2026-05-05")
        bad.clear()
        made, (done,) = await retried(shop, job="users")
        assert (made.batches, done["status"], await rows(shop)) == (1, "succeeded", 250)
        assert api.asked[-1] == {"updated_since": "2024-01-01", "limit": "100", "page": "2"}
        assert (await shop.db.fetchval("SELECT status FROM failed_batches")) == "done"
    (sync,) = await shop.steps(done["id"])
    assert (sync["output"]["records"], sync["output"]["pages"]) == (100, 1)
    assert sync["output"]["inserted"] == 100
    assert (await watermarks.of_job(shop.db, "users"))["last_sync"] == "2026-05-05"


async def test_of_a_page_fetched_later_only_what_does_not_fit_stays(shop):
    people = [user(n) for n in range(60)]
    people[25]["email"] = None
    bad = ["2"]
    async with PagedApi(people, before=broken(bad)) as api:
        await declared(shop, job(api, step=PATIENT, paginate=BY_TWENTY))
        await synced(shop)
        bad.clear()
        _, (again,) = await retried(shop, job="users")
        assert (again["status"], await rows(shop)) == ("partial", 50)
        kept = await shop.db.fetchrow("SELECT * FROM failed_batches")
        assert (kept["items"], kept["payload"], kept["request"]) == (10, people[20:30], None)
        assert "null value" in kept["error"]
        await shop.db.execute("ALTER TABLE public.users ALTER COLUMN email DROP NOT NULL")
        asked = len(api.asked)
        _, (done,) = await retried(shop, job="users")
        assert (done["status"], await rows(shop), len(api.asked)) == ("succeeded", 60, asked)


ENDS = {
    "its total": (BY_TWENTY, ["3"], 40, 3),
    "a short page": ('type = "page"\nsize = 20', ["2"], 30, 3),
    "an empty page": ('type = "page"\nsize = 20', ["3"], 40, 4),
    "more": ('type = "page"\nsize = 20\nhas_more = "more"', ["2"], 30, 3),
    "offsets": ('type = "offset"\nsize = 20\ntotal = "total"', ["20"], 30, 3),
    "pages at once": (BY_TWENTY + "\nconcurrency = 3", ["2"], 30, 3),
    "the last page allowed": (BY_TWENTY + "\nmax_pages = 2", ["2"], 20, 2),
}


@pytest.mark.parametrize("how", ENDS)
async def test_the_end_is_found_though_a_page_is_missing(shop, how):
    paginate, bad, written, requests = ENDS[how]
    style = paginate.split('"')[1]

    def fails(query):
        return as_json({}, 500) if query.get(style) in bad else None

    async with PagedApi([user(n) for n in range(50)], style=style, before=fails) as api:
        await declared(shop, job(api, step=PATIENT, paginate=paginate, rest=WATERMARK))
        run, step = await synced(shop)
        assert (run["status"], await rows(shop)) == ("partial", written), (run, api.asked)
        assert step["output"]["failed_batches"] == 1
        assert len(api.asked) == requests
        bad.clear()
        _, (done,) = await retried(shop, job="users")
        assert done["status"] == "succeeded"
    whole = 40 if "allowed" in how else 50
    assert await rows(shop) == whole


STOPS = [
    # of the list itself, of us, of an API that is down, of an API that asks to wait
    (["1"], 500, {}, BY_TWENTY, "page 1: GET", 0),
    (["2"], 401, {}, BY_TWENTY, "page 2: GET", 20),
    (["2"], 429, {}, BY_TWENTY, "page 2: GET", 20),
    (["2", "3", "4"], 500, {}, BY_TWENTY, "nor could pages 3 and 4 be fetched", 20),
    (["2"], 503, {"Retry_After": "86400"}, BY_TWENTY, "answered 503", 20),
]


async def test_some_pages_cannot_be_left_out(shop):
    for bad, status, headers, paginate, words, written in STOPS:
        people = [user(n) for n in range(100)]
        async with PagedApi(people, before=broken(bad, status, **headers)) as api:
            await declared(shop, job(api, step=PATIENT, paginate=paginate))
            await shop.db.execute("TRUNCATE public.users")
            run, step = await synced(shop)
        assert (run["status"], await rows(shop)) == ("failed", written), (bad, status)
        assert words in step["error"]["message"]
    assert await shop.db.fetchval("SELECT count(*) FROM failed_batches") == 0


async def test_a_page_that_names_the_next_one_cannot_be_left_out(shop):
    def fails(query):
        return as_json({}, 500) if query.get("cursor") == "c20" else None

    async with PagedApi([user(n) for n in range(60)], style="cursor", before=fails) as api:
        paginate = 'type = "cursor"\nsize = 20\nnext = "next"'
        await declared(shop, job(api, step=PATIENT, paginate=paginate))
        run, step = await synced(shop)
    assert (run["status"], await rows(shop)) == ("failed", 20)
    assert step["error"]["message"].startswith("page 2: GET ")


async def test_an_api_that_was_down_goes_on_at_its_first_missing_page(shop):
    """Three pages in a row are no bad pages: the step is tried again, and has lost none of them."""
    down = Counter()

    def fails(query):
        if query["page"] in {"3", "4"} and not down[query["page"]]:
            down[query["page"]] += 1
            return as_json({}, 502)
        return as_json({}, 500) if query["page"] == "2" else None

    async with PagedApi([user(n) for n in range(160)], before=fails) as api:
        text = job(api, step=PATIENT, paginate=BY_TWENTY)
        retry = "[jobs.retry]\nattempts = 2\nbase_seconds = 0\n[[jobs.steps]]"
        await declared(shop, text.replace("[[jobs.steps]]", retry, 1))
        run, step = await synced(shop)
    # 2 fails with 3 and 4; the next try begins there, and 2 is left out when 3 has come.
    assert run["status"] == "partial", run["reason"]
    assert api.pages[:4] == ["1", "2", "3", "4"]
    assert api.pages[4] == "2"
    assert step["attempt"] == 2
    assert await rows(shop) == 140
    assert [e["page"] for e in step["output"]["errors"]] == [2]


async def test_a_missing_page_survives_another_try(shop):
    refused = iter([401])

    def fails(query):
        page = query["page"]
        status = 500 if page == "2" else next(refused, None) if page == "5" else None
        return as_json({}, status) if status else None

    async with PagedApi([user(n) for n in range(160)], before=fails) as api:
        retry = "[jobs.retry]\nattempts = 2\nbase_seconds = 0\n[[jobs.steps]]"
        text = job(api, step=PATIENT, paginate=BY_TWENTY).replace("[[jobs.steps]]", retry, 1)
        await declared(shop, text)
        run, step = await synced(shop)
    assert (run["status"], await rows(shop)) == ("partial", 140), (run["reason"], api.pages)
    assert (step["attempt"], step["output"]["failed_batches"]) == (2, 1)
    assert "goes on at page 5, after 60 records" in await shop.lines(run["id"])


async def test_a_request_that_holds_a_secret_is_not_kept_nor_sent_again(shop):
    (shop.root / ".env").write_text("API_KEY=key_0123456789abcdef\n")
    async with PagedApi([user(n) for n in range(60)], before=broken(["2"])) as api:
        request = 'query = { key = "${env:API_KEY}" }'
        await declared(shop, job(api, step=PATIENT, request=request, paginate=BY_TWENTY))
        await synced(shop)
        kept = await shop.db.fetchrow("SELECT * FROM failed_batches")
        assert (kept["masked"], kept["request"]["query"]["key"]) == (True, "***")
        asked = len(api.asked)
        _, (again,) = await retried(shop, job="users")
        assert (again["status"], len(api.asked)) == ("partial", asked)
    error = await shop.db.fetchval("SELECT error FROM failed_batches")
    assert error.startswith("its request was kept without a secret")


async def test_one_retry_takes_the_batches_of_several_runs(shop):
    people = [user(n) for n in range(40)]
    people[5]["email"] = people[35]["email"] = None
    async with PagedApi(people) as api:
        await declared(shop, job(api, step=PATIENT, paginate=BY_PAGE))
        runs = [(await synced(shop))[0]["id"] for _ in range(3)]
        await shop.db.execute("ALTER TABLE public.users ALTER COLUMN email DROP NOT NULL")
        made, ends = await retried(shop, job="users", limit=5)
    assert made.batches == 5
    assert [end["status"] for end in ends] == ["succeeded"] * 3
    assert [end["replay_of"] for end in ends] == runs  # each by the definition of its own run
    assert [end["rows_affected"] for end in ends] == [20, 20, 10]
    waited = [end["queued_at"] for end in ends]
    assert all(before < after for before, after in pairwise(waited))
    starts = [(end["started_at"], end["finished_at"]) for end in ends]
    assert starts == sorted(starts)
    assert all(before[1] <= after[0] for before, after in pairwise(starts))
    left, ends = await retried(shop, job="users")
    assert (left.batches, len(ends), await rows(shop)) == (1, 1, 40)
    nothing, _ = await retried(shop, job="users")
    assert nothing.run_ids == ()
