"""Syncs that go on, follow links, and write to other databases than PostgreSQL."""

import asyncio
import sqlite3
from urllib.parse import unquote, urlsplit

import pytest
from loopback import Loopback, as_json
from paged_api import PagedApi, user
from syncing import BY_PAGE, WATERMARK, declared, job, place, rows, synced

from nomaflow import dispatch
from nomaflow.store import sync_results, watermarks

RETRY = "[jobs.retry]\nattempts = 3\nbase_seconds = 0\n[[jobs.steps]]"


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with place(database_url, redis_url, tmp_path) as made:
        yield made


async def test_another_try_goes_on_at_the_page_that_failed(shop):
    broken = iter([500, 500])

    def fails(query):
        if query["page"] == "3" and (status := next(broken, None)):
            return as_json({}, status)
        return None

    async with PagedApi([user(n) for n in range(450)], before=fails) as api:
        log = '[jobs.steps.log_table]\ntable = "sync_logs"'
        text = job(api, rest=f"{WATERMARK}\n{log}").replace("[[jobs.steps]]", RETRY, 1)
        await declared(shop, text)
        run, step = await synced(shop)
    assert run["status"] == "succeeded", run["reason"]
    assert api.pages == ["1", "2", "3", "3", "3", "4", "5"]
    output = step["output"]
    assert (output["records"], output["pages"], output["inserted"]) == (450, 5, 450)
    assert (step["attempt"], await rows(shop)) == (3, 450)
    lines = await shop.lines(run["id"])
    assert "goes on at page 3, after 200 records" in lines
    (row,) = await shop.db.fetch("SELECT * FROM public.sync_logs")
    assert (row["status"], row["records_processed"]) == ("completed", 450)
    mark = await watermarks.get(shop.db, "users", "last_sync")
    assert mark.value[:19] == run["started_at"].isoformat()[:19]


async def test_a_moved_watermark_or_a_dead_cursor_begins_anew(shop):
    failures = [1]

    def fails(query):
        if query.get("cursor") == "c200" and failures:
            failures.pop()
            return as_json({}, 500)
        if query.get("cursor") == "c200" and not failures and len(api.asked) == 4:
            return as_json({"message": "the cursor has expired"}, 410)
        return None

    async with PagedApi([user(n) for n in range(350)], style="cursor", before=fails) as api:
        paginate = 'type = "cursor"\nsize = 100\nnext = "next"'
        text = job(api, paginate=paginate).replace("[[jobs.steps]]", RETRY, 1)
        await declared(shop, text)
        run, step = await synced(shop)
    assert run["status"] == "succeeded", run["reason"]
    assert api.pages == ["-", "c100", "c200", "c200", "-", "c100", "c200", "c300"]
    assert any("begins anew" in line for line in await shop.lines(run["id"]))
    assert (step["output"]["records"], step["output"]["pages"], await rows(shop)) == (350, 4, 350)


async def test_an_abort_leaves_whole_batches(shop):
    async def hangs(query):
        if query["page"] == "3":
            await asyncio.sleep(60)

    async with PagedApi([user(n) for n in range(300)], before=hangs) as api:
        await declared(shop, job(api, rest=WATERMARK))
        run_id = await shop.trigger("users")
        async with asyncio.timeout(10):
            while await rows(shop) < 200:
                await asyncio.sleep(0.02)
        await dispatch.abort(shop.db, shop.bell, run_id, by="user:ann")
        run = await shop.end(run_id, 4)
    assert (run["status"], await rows(shop)) == ("aborted", 200)
    figures = (await sync_results.of_runs(shop.db, [run["id"]]))[run["id"]]
    assert (figures["records"], figures["pages"]) in {(100, 1), (200, 2)}  # whole pages
    assert figures["completed_at"] is None
    assert await watermarks.of_job(shop.db, "users") == {}


async def test_a_total_that_only_the_first_page_tells(shop):
    def later(query):
        start = (int(query["page"]) - 1) * 100
        if start == 0:
            return None
        return as_json({"data": api.items[start : start + 100]})

    async with PagedApi([user(n) for n in range(200)], before=later) as api:
        await declared(shop, job(api))
        run, _ = await synced(shop)
    assert (run["status"], len(api.asked), await rows(shop)) == ("succeeded", 2, 200)


async def test_at_most_so_many_pages_and_the_watermark_stays(shop):
    async with PagedApi([user(n) for n in range(500)]) as api:
        paginate = BY_PAGE + "\nmax_pages = 2\nconcurrency = 3"
        await declared(shop, job(api, paginate=paginate, rest=WATERMARK))
        run, step = await synced(shop)
    assert (run["status"], api.pages, await rows(shop)) == ("succeeded", ["1", "2"], 200)
    assert step["output"]["truncated"] is True
    assert await watermarks.of_job(shop.db, "users") == {}


async def test_one_answer_without_pages(shop):
    async with PagedApi([user(n) for n in range(5)], style="link_header") as api:
        text = job(api, paginate="").replace("[jobs.steps.paginate]\n", "")
        await declared(shop, text)
        run, step = await synced(shop)
    assert (run["status"], len(api.asked), await rows(shop)) == ("succeeded", 1, 5)
    assert (step["output"]["pages"], step["progress"]["last"]) == (1, True)
    assert "truncated" not in step["output"]


async def test_links_are_followed_to_the_same_host_only(shop):
    other = Loopback()
    await other.start()
    other.answer = lambda _request: as_json({"data": []})

    def elsewhere(query):
        if "cursor" in query:
            return None
        links = {"next": f"{other.url}/users?token=1"}
        return as_json({"data": [user(1)], "links": links})

    async with PagedApi([user(n) for n in range(3)], style="next_link", before=elsewhere) as api:
        request = 'headers = { Authorization = "Bearer abc" }'
        paginate = 'type = "next_link"\nnext = "links.next"'
        await declared(shop, job(api, request=request, paginate=paginate))
        run, step = await synced(shop)
        assert run["status"] == "failed"
        assert "another host" in step["error"]["message"]
        assert other.received == []
        # A link without a host is one below the page that gave it.
        relative = {"next": "?cursor=c1&limit=1"}
        api.before = lambda q: (
            None if "cursor" in q else as_json({"data": [user(0)], "links": relative})
        )
        api.asked.clear()
        run, _ = await synced(shop)
        assert run["status"] == "succeeded"
        assert api.pages == ["-", "c1", "c2"]
    await other.stop()


async def test_the_largest_value_survives_a_new_try(shop):
    broken = iter([500])

    def fails(query):
        status = next(broken, None) if query["page"] == "2" else None
        return as_json({}, status) if status else None

    people = [user(n, updated_at=f"2026-05-{31 - n // 10:02}T00:00:00Z") for n in range(150)]
    async with PagedApi(people, before=fails) as api:
        rest = '[jobs.steps.watermark]\nname = "newest"\nvalue = "max:updated_at"'
        text = job(api, rest=rest).replace("[[jobs.steps]]", RETRY, 1)
        await declared(shop, text)
        await synced(shop)
    assert await watermarks.of_job(shop.db, "users") == {"newest": "2026-05-31T00:00:00Z"}


async def test_a_pool_of_one_connection_is_enough(shop):
    (shop.root / ".env").write_text(f"STORE_URL={shop.database_url}\n")
    (shop.root / "connectors.toml").write_text(
        '[connectors.store]\nkind = "sql"\nurl = "${env:STORE_URL}"\npool_size = 1\n'
    )
    async with PagedApi([user(n) for n in range(3)]) as api:
        log = '[jobs.steps.log_table]\nconnector = "store"\ntable = "sync_logs"'
        text = job(api, rest=log).replace(
            'table = "users"', 'connector = "store"\ntable = "users"', 1
        )
        await declared(shop, text)
        run, _ = await synced(shop)
    assert run["status"] == "succeeded"


PLAIN = """
[[jobs]]
name = "users"
[[jobs.steps]]
name = "sync"
type = "http_sync"
on_error = "continue"
batch_size = 10
request = { url = "URL" }
items = "data"
map = { area = "active && 'a' || 'b'", id = "id", email = "email", data = "@", at = "updated_at" }
target = { connector = "store", table = "people", key = ["area", "id"] }
log_table = { connector = "store", table = "sync_logs" }
"""
LOG = """CREATE TABLE sync_logs (sync_id bigint, status varchar(20), records_processed int,
  pages int, duration_seconds decimal(10,2), errors text, completed_at TIME)"""


async def plain(shop, api, url):
    (shop.root / ".env").write_text(f"STORE_URL={url}\n")
    (shop.root / "connectors.toml").write_text(
        '[connectors.store]\nkind = "sql"\nurl = "${env:STORE_URL}"\n'
    )
    await declared(shop, PLAIN.replace("URL", api.url))
    run, step = await synced(shop)
    assert run["status"] == "succeeded", (run["reason"], step["error"], step["output"])
    assert (step["output"]["inserted"], step["output"]["updated"]) == (25, 0)
    api.items += [user(3, email="first"), user(3, email="last")]
    api.items[13]["email"] = None
    run, step = await synced(shop)
    assert run["status"] == "partial"
    (error,) = step["output"]["errors"]
    assert error["batch"] == 2
    assert "email" in error["error"]
    # The third batch: five known rows and one of two with the same key, which is known as well.
    assert (step["output"]["inserted"], step["output"]["updated"]) == (0, 16)
    for old, new, words in (
        ('"people"', '"peoples"', "there is no table `peoples`"),
        ('["area", "id"]', '["id"]', "no unique index on (id)"),
        ('email = "email"', 'mail = "email"', "did you mean `email`?"),
    ):
        await declared(shop, PLAIN.replace("URL", api.url).replace(old, new))
        _, step = await synced(shop)
        assert words in step["error"]["message"]


async def test_into_sqlite(shop, tmp_path):
    path = tmp_path / "people.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE people (area text, id text, email text NOT NULL, data text, at text, "
            "PRIMARY KEY (area, id)) STRICT"
        )
        database.execute(LOG.replace("TIME", "text"))
    async with PagedApi([user(n) for n in range(25)]) as api:
        await plain(shop, api, f"sqlite:///{path}")
    with sqlite3.connect(path) as database:
        count, email = database.execute(
            "SELECT count(*), max(email) FILTER (WHERE id = 'u0003') FROM people"
        ).fetchone()
        logs = database.execute("SELECT status, records_processed FROM sync_logs").fetchall()
    assert (count, email) == (25, "last")
    assert logs[:2] == [("completed", 25), ("partial", 27)]


async def test_into_mariadb(shop, mariadb_url):
    import asyncmy

    parts = urlsplit(mariadb_url)
    connection = await asyncmy.connect(
        host=parts.hostname,
        port=parts.port,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        db=parts.path.lstrip("/"),
        autocommit=True,
    )
    async with connection.cursor() as cursor:
        await cursor.execute(
            "CREATE TABLE people (area varchar(9), id varchar(9), email text NOT NULL, data json, "
            "at datetime, PRIMARY KEY (area, id))"
        )
        await cursor.execute(LOG.replace("TIME", "datetime(3)"))
        async with PagedApi([user(n) for n in range(25)]) as api:
            await plain(shop, api, mariadb_url)
        await cursor.execute("SELECT count(*), max(at), max(if(id='u0003', email, '')) FROM people")
        count, at, email = await cursor.fetchone()
        await cursor.execute("SELECT status, records_processed FROM sync_logs ORDER BY sync_id")
        logs = await cursor.fetchall()
    connection.close()
    assert (count, email, at.isoformat()) == (25, "last", "2026-01-01T00:00:24")
    assert list(logs)[:2] == [("completed", 25), ("partial", 27)]
