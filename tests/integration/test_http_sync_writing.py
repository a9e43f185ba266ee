"""http_sync writes: types, keys, named queries, and what is refused before anything is."""

from datetime import UTC, datetime

import pytest
from loopback import as_json
from paged_api import PagedApi, user
from syncing import WATERMARK, declared, job, place, rows, synced

from nomaflow.store import problems, watermarks


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with place(database_url, redis_url, tmp_path) as made:
        yield made


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
    lines = await shop.db.fetch("SELECT message FROM log_lines WHERE message LIKE 'dry run: row %'")
    assert len(lines) == 5
    assert '"email": "user0@example.com"' in lines[0]["message"]
    assert await watermarks.of_job(shop.db, "users") == {}


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
        for query, words in (("two:write", "no query named `two`"), ("one", "changes data")):
            assert (await shop.declare(text.replace("QUERY", query))).problems == 1
            (problem,) = await problems.all_of_them(shop.db)
            assert words in problem.message
        await declared(shop, text.replace("QUERY", "all:write").replace("external_id", "identity"))
        run, step = await synced(shop)
        assert "has no such parameter; it has `:external_id`, `:email`" in step["error"]["message"]
