import asyncio
import json
from datetime import UTC, datetime

import pytest
from loopback import as_json
from paged_api import PagedApi, user
from workshop import working, workshop

from nomaflow.store import watermarks

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
