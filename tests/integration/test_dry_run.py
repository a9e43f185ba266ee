"""The dry run of every step type there is (X31): it says what it would do and changes nothing."""

import json
import shutil
from textwrap import dedent

import asyncpg
import pytest
from loopback import Loopback
from workshop import working, workshop

from nomaflow.steps import registry

PEOPLE = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}]
# For each type of ours: its settings, and what its output says of a dry run.
RUNS = {
    "sql_query": (
        """
        connector = "default"
        query = "DELETE FROM target"
        """,
        {"dry_run": True},
    ),
    "sql_copy": (
        """
        source = { table = "source" }
        target = { table = "target" }
        """,
        {"dry_run": True},
    ),
    "http": (
        """
        url = "{api}/write"
        method = "POST"
        body = { a = 1 }
        """,
        {"dry_run": True},
    ),
    "http_sync": (
        """
        request = { url = "{api}/people" }
        map = { id = "id", name = "name" }
        target = { connector = "default", table = "target", key = ["id"] }
        """,
        {"dry_run": True},
    ),
    "python": (
        """
        callable = "dry:write"
        kwargs = { dry_run = false }
        """,
        {"deleted": 0, "skipped": True, "reason": "dry_run"},
    ),
    "ldap_sync": (
        """
        connector = "directory"
        search_base = "ou=people,dc=corp,dc=local"
        search_filter = "(uid=*)"
        attributes = ["uid"]
        mapping = { uid = "name" }
        target_connector = "default"
        table = "target"
        key = ["name"]
        """,
        {"dry_run": True},
    ),
    "call_job": (
        """
        job = "child"
        """,
        {"job": "child", "status": "succeeded"},
    ),
}
CHILD = """
[[jobs]]
name = "child"
[[jobs.steps]]
name = "write"
type = "sql_query"
connector = "default"
query = "DELETE FROM target"
"""
FUNCTION = """
async def write(ctx, *, dry_run: bool):
    assert ctx.dry_run and dry_run
    if not dry_run:
        await ctx.get_connector("default").execute("DELETE FROM target")
    return {"deleted": 0, "skipped": True, "reason": "dry_run"}
"""


def test_every_type_of_ours_honours_the_flag():
    assert [step.type_name for step in registry.OURS if not step.dry_runs] == []
    assert RUNS.keys() == {step.type_name for step in registry.OURS}


@pytest.fixture
async def api():
    server = Loopback()
    server.answer = lambda _: (
        200,
        {"Content-Type": "application/json"},
        json.dumps(PEOPLE).encode(),
    )
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as made:
        (made.root / "plugins" / "dry.py").write_text(FUNCTION)
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            """CREATE TABLE public.source (id int PRIMARY KEY, name text);
               CREATE TABLE public.target (id int PRIMARY KEY, name text UNIQUE);
               INSERT INTO public.source VALUES (1, 'a'), (2, 'b');
               INSERT INTO public.target VALUES (9, 'kept');
               GRANT ALL ON public.source, public.target TO PUBLIC"""
        )
        await connection.close()
        yield made


async def tables(shop) -> list[tuple[int, str]]:
    rows = await shop.db.fetch("SELECT id, name FROM public.target ORDER BY id")
    return [tuple(row) for row in rows]


async def run_dry(shop, type_name: str, settings: str) -> dict:
    step = f'[[jobs]]\nname = "dry"\n[[jobs.steps]]\nname = "it"\ntype = "{type_name}"\n'
    synced = await shop.declare(step + dedent(settings) + CHILD)
    problems = [r["message"] for r in await shop.db.fetch("SELECT message FROM catalog_problems")]
    assert synced.problems == 0, problems
    async with working(shop):
        return await shop.run("dry", dry_run=True)


@pytest.mark.parametrize("type_name", [name for name in RUNS if name != "ldap_sync"])
async def test_it_changes_nothing(shop, api, type_name):
    settings, says = RUNS[type_name]
    run = await run_dry(shop, type_name, settings.replace("{api}", api.url))
    assert (run["status"], run["dry_run"]) == ("succeeded", True), run["reason"]
    (step,) = await shop.steps(run["id"])
    assert says.items() <= step["output"].items(), step["output"]
    assert await tables(shop) == [(9, "kept")]
    assert [r.method for r in api.received if r.method != "GET"] == []
    assert await shop.db.fetchval("SELECT count(*) FROM watermarks") == 0


@pytest.mark.skipif(shutil.which("slapd") is None, reason="needs slapd: apt-get install slapd")
async def test_a_directory_is_only_read(shop, directory):
    settings, says = RUNS["ldap_sync"]
    (shop.root / "connectors.toml").write_text(directory_connector(directory))
    run = await run_dry(shop, "ldap_sync", settings)
    assert run["status"] == "succeeded", run["reason"]
    (step,) = await shop.steps(run["id"])
    assert says.items() <= step["output"].items(), step["output"]
    assert await tables(shop) == [(9, "kept")]


def directory_connector(directory) -> str:
    return dedent(
        f"""
        [connectors.directory]
        kind = "ldap"
        url = "{directory.url}"
        bind_dn = "cn=reader,ou=services,dc=corp,dc=local"
        bind_password = "reader-secret-of-the-test"
        """
    )
