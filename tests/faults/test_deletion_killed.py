"""A worker is killed while it deletes who left the directory: nothing is half deleted."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import asyncmy
import asyncpg
import pytest
import size
from house import House
from ldap_stub import Search, done, entry, serving

LEFT, STAYED = 150, 50
JOB = """
[[jobs]]
name = "mirror"
[[jobs.steps]]
name = "people"
type = "ldap_sync"
server = "URL"
search_base = "dc=corp"
mapping = { uid = "id", cn = "name" }
target_connector = "target"
table = "people"
key = ["id"]
deletion = "hard"
max_delete = "90%"
"""
# What makes each deleted row take its time, so that there is a middle to be killed in.
POSTGRES = (
    "CREATE TABLE people (id text PRIMARY KEY, name text NOT NULL)",
    "INSERT INTO people SELECT 'left-' || n, 'x' FROM generate_series(1, 150) n",
    "INSERT INTO people SELECT 'u' || n, 'old' FROM generate_series(0, 49) n",
    """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN PERFORM pg_sleep(0.015); RETURN OLD; END $$""",
    "CREATE TRIGGER slow BEFORE DELETE ON people FOR EACH ROW EXECUTE FUNCTION slow()",
)
MARIADB = (
    "CREATE TABLE people (id varchar(50) PRIMARY KEY, name varchar(50) NOT NULL)",
    "INSERT INTO people SELECT concat('left-', seq), 'x' FROM seq_1_to_150",
    "INSERT INTO people SELECT concat('u', seq), 'old' FROM seq_0_to_49",
    "CREATE TRIGGER slow BEFORE DELETE ON people FOR EACH ROW SET @slept = SLEEP(0.015)",
)
NUMBERS = "WITH RECURSIVE c (n) AS (SELECT {0} UNION ALL SELECT n + 1 FROM c WHERE n < {1})"
SQLITE = (
    "CREATE TABLE people (id text PRIMARY KEY, name text NOT NULL)",
    f"INSERT INTO people {NUMBERS.format(1, 150)} SELECT 'left-' || n, 'x' FROM c",
    f"INSERT INTO people {NUMBERS.format(0, 49)} SELECT 'u' || n, 'old' FROM c",
    f"""CREATE TRIGGER slow BEFORE DELETE ON people BEGIN
        SELECT ({NUMBERS.format(1, 60_000)} SELECT count(*) FROM c); END""",
)


def answer(search: Search) -> list:
    if search.base == "":
        return [(done(50),)]  # no schema for us
    people = [(entry(f"uid=u{n},dc=corp", uid=[f"u{n}"], cn=["new"]),) for n in range(STAYED)]
    return [*people, (done(),)]


class OfPostgres:
    """The database of the installation's own server, in a database beside it."""

    def __init__(self, home: House) -> None:
        self.home = home

    async def made(self) -> str:
        await self.home.db.execute("CREATE DATABASE people")
        self.url = urlsplit(self.home.database_url)._replace(path="/people").geturl()
        for statement in POSTGRES:
            await self.ask(statement)
        return self.url

    async def ask(self, statement: str) -> list:
        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def is_deleting(self) -> bool:
        words = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'"
        return bool(await self.ask(words))


class OfMariaDb:
    """A database of the MariaDB of the tests."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def made(self) -> str:
        for statement in MARIADB:
            await self.ask(statement)
        return self.url

    async def ask(self, statement: str) -> list:
        url = urlsplit(self.url)
        connection = await asyncmy.connect(
            host=url.hostname,
            port=url.port,
            user=url.username,
            password=url.password,
            db=url.path[1:],
            autocommit=True,
        )
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(statement)
                return list(await cursor.fetchall()) if cursor.description else []
        finally:
            await connection.ensure_closed()

    async def is_deleting(self) -> bool:
        words = "SELECT 1 FROM information_schema.processlist WHERE info LIKE '%SLEEP(0.015)%'"
        return bool([1 for _ in await self.ask(f"{words} AND id <> connection_id()")])


class OfSqlite:
    """A file of the project."""

    def __init__(self, home: House) -> None:
        self.path = home.project / "people.db"

    async def made(self) -> str:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in SQLITE:
                connection.execute(statement)
        return "sqlite:///people.db"

    async def ask(self, statement: str) -> list:
        with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as connection:
            return list(connection.execute(statement))

    async def is_deleting(self) -> bool:
        return Path(f"{self.path}-journal").exists()


@pytest.fixture
def target(request: pytest.FixtureRequest, home: House):
    match request.param:
        case "postgresql":
            return OfPostgres(home)
        case "mariadb":
            return OfMariaDb(request.getfixturevalue("mariadb_url"))
        case _:
            return OfSqlite(home)


TARGETS = size.pick(["postgresql"], ["postgresql", "mariadb", "sqlite"])


@pytest.mark.parametrize("target", TARGETS, indirect=True)
async def test_killed_in_the_middle_of_a_deletion(home: House, target, figures):
    home.settings["NOMAFLOW_LEASE_SECONDS"] = "3"
    url = await target.made()
    (home.project / "connectors.toml").write_text(
        f"[connectors.target]\nkind = 'sql'\nurl = '{url}'\n"
    )
    before = sorted(await target.ask("SELECT id, name FROM people"))
    assert len(before) == LEFT + STAYED
    async with serving(search=answer) as stub:
        await home.declare(JOB.replace("URL", stub.url))
        await home.start("worker")
        run_id = await home.trigger("mirror")
        async with asyncio.timeout(30):
            while not await target.is_deleting():
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # some rows are deleted, none of it is committed
        victim = await home.owner(run_id)
        await victim.kill()
        assert sorted(await target.ask("SELECT id, name FROM people")) == before
        home.begin("worker")
        run = await home.end(run_id, 60)

    output = await home.db.fetchval("SELECT output FROM step_runs WHERE run_id = $1", run_id)
    assert (run["status"], run["interruptions"]) == ("succeeded", 1), run["reason"]
    assert [output[k] for k in ("inserted", "updated", "deleted")] == [0, STAYED, LEFT]
    now = sorted(await target.ask("SELECT id, name FROM people"))
    assert now == sorted((f"u{n}", "new") for n in range(STAYED))
    figures(deleted=LEFT, rows=STAYED)
