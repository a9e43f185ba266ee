"""http_sync reads: pages of every kind, limits, lies, watermarks."""

import asyncio
from datetime import UTC, datetime

import pytest
from loopback import as_json
from paged_api import PagedApi, user
from syncing import BY_PAGE, WATERMARK, declared, job, place, rows, synced

from nomaflow.store import watermarks


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with place(database_url, redis_url, tmp_path) as made:
        yield made


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


async def test_every_style_reads_the_same_rows(shop):
    for style, paginate in STYLES.items():
        async with PagedApi([], style=paginate.split('"')[1]) as api:
            await declared(shop, job(api, paginate=paginate, step="batch_size = 30"))
            await shop.db.execute("TRUNCATE public.users")
            for count in (0, 200, 250):
                api.items = [user(n) for n in range(count)]
                run, step = await synced(shop)
                assert run["status"] == "succeeded", (style, run["reason"], api.asked)
                assert (step["output"]["records"], await rows(shop)) == (count, count), style


async def test_pages_are_fetched_at_once_and_written_in_order(shop):
    release = asyncio.Event()
    together = {"2", "3", "4"}

    async def wait_for_each_other(query):
        if query["page"] in together:
            if together <= {one["page"] for one in api.asked}:
                release.set()
            await release.wait()

    paginate = 'type = "page"\nsize = 20\ntotal = "total"\nconcurrency = 3'
    async with PagedApi([user(n) for n in range(200)], before=wait_for_each_other) as api:
        await declared(shop, job(api, paginate=paginate))
        run, step = await synced(shop)
    assert run["status"] == "succeeded"
    assert api.at_once == 3
    assert sorted(map(int, api.pages)) == list(range(1, 11))
    assert step["output"]["inserted"] == 200
    order = await shop.db.fetch("SELECT external_id FROM public.users ORDER BY ctid")
    assert [row[0] for row in order] == [f"u{n:04}" for n in range(200)]


LIES = [
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
]


async def test_an_api_that_lies_is_stopped(shop):
    for api, paginate, words, written in LIES:
        async with PagedApi([user(n) for n in range(250)], **api) as served:
            await declared(shop, job(served, paginate=paginate, rest=WATERMARK))
            await shop.db.execute("TRUNCATE public.users")
            run, step = await synced(shop)
            assert run["status"] == "failed", words
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
    assert told[1] - told[0] > 0.98
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
    assert len(times) == 4
    assert times[-1] - times[0] > 0.5  # three gaps; one may look shorter on a busy machine


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
