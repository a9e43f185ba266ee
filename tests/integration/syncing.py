"""What tests of http_sync share: tables, a job that reads an API into them, and a worker."""

import contextlib

from workshop import working, workshop

from nomaflow.store import problems

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


@contextlib.asynccontextmanager
async def place(database_url, redis_url, tmp_path):
    """A worker, and the tables of seed 003 in its default connector's database."""
    async with workshop(database_url, redis_url, tmp_path / "project") as made, working(made):
        await tables(made)
        yield made


async def tables(shop):
    for statement in TABLES.split(";"):
        await shop.db.execute(statement.replace("TABLE ", "TABLE public."))
    await shop.db.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO nomaflow_jobs")
    await shop.db.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO nomaflow_jobs")


def job(api, *, step="", request="", paginate=BY_PAGE, rest="", **replaced):
    text = JOB.format(url=api.url, step=step, request=request, paginate=paginate, rest=rest)
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return text


async def declared(shop, text):
    synced = await shop.declare(text)
    assert not synced.problems, [p.message for p in await problems.all_of_them(shop.db)]


async def synced(shop, **facts):
    """Run the job; the run's row and the sync step's."""
    run = await shop.run("users", **facts)
    (step,) = await shop.steps(run["id"])
    return run, step


async def rows(shop, what="count(*)"):
    return await shop.db.fetchval(f"SELECT {what} FROM public.users")
