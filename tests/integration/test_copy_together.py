"""Copies into MariaDB and SQLite while others read the target, or copy into it too."""

import asyncio
import contextlib
import hashlib
import sqlite3
from urllib.parse import urlsplit

import asyncmy
import pytest
from copying import Pair

from nomaflow.errors import StepError

ROWS = 5000


@pytest.fixture(params=["mariadb", "sqlite"])
def new_target(request, tmp_path):
    if request.param == "mariadb":
        return request.getfixturevalue("new_mariadb_url")

    async def make():
        with contextlib.closing(sqlite3.connect(tmp_path / "target.db")) as file:
            file.execute("PRAGMA journal_mode = wal")
        return f"sqlite:///{tmp_path}/target.db"

    return make


@pytest.fixture
async def pair(new_pg_url, new_target):
    made = Pair(await new_pg_url(), await new_target())
    await made.script(
        "ops",
        "CREATE TABLE s (id int PRIMARY KEY, v text); "
        f"INSERT INTO s SELECT g, 'old' FROM generate_series(1, {ROWS}) g",
    )
    await made.copy("s", "s")
    yield made
    await made.close()


class Snapshot:
    """A transaction of a reader, begun before the copy."""

    def __init__(self, url):
        self.url = urlsplit(url)

    async def __aenter__(self):
        if self.url.scheme == "sqlite":
            self.connection = sqlite3.connect(self.url.path[1:], isolation_level=None)
            self.connection.execute("BEGIN")
        else:
            self.connection = await asyncmy.connect(
                host=self.url.hostname,
                port=self.url.port,
                user=self.url.username,
                password=self.url.password,
                db=self.url.path[1:],
            )
            await self.rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await self.rows("START TRANSACTION")
        assert await self.counts() == [("old", ROWS)]  # the snapshot is taken here
        return self

    async def rows(self, statement):
        if self.url.scheme == "sqlite":
            return self.connection.execute(statement).fetchall()
        async with self.connection.cursor() as cursor:
            await cursor.execute(statement)
            return list(await cursor.fetchall()) if cursor.description else []

    async def counts(self):
        return await self.rows("SELECT v, count(*) FROM s GROUP BY v ORDER BY v")

    async def __aexit__(self, *_failure):
        self.connection.close()


@pytest.mark.parametrize("keyless", [False, True])
async def test_an_old_snapshot_sees_the_old_rows_until_it_ends(pair, keyless):
    if keyless:
        await pair.reports.execute("DROP TABLE s")
        await pair.reports.execute("CREATE TABLE s (id int, v varchar(9))")
        await pair.copy("s", "s")
    async with Snapshot(pair.urls["reports"]) as old:
        await pair.script("ops", "UPDATE s SET v = 'new' WHERE id > 10; DELETE FROM s WHERE id = 1")
        for _ in range(2):
            await pair.copy("s", "s")
            assert await old.counts() == [("old", ROWS)]
        await pair.script("ops", "UPDATE s SET v = 'new'")
        await pair.copy("s", "s", mode="overwrite" if keyless else "upsert")
        assert await old.counts() == [("old", ROWS)]
    assert await pair.reports.scalar("SELECT count(*) AS n FROM s WHERE v = 'new'") == ROWS - 1


async def test_a_reader_sees_the_old_rows_or_the_new_and_never_less(pair):
    other = Pair(pair.urls["reports"], pair.urls["reports"])
    counts, ended = [], asyncio.Event()

    async def watch():
        while not ended.is_set():
            counts.append(await other.ops.scalar("SELECT count(*) AS n FROM s"))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await pair.script("ops", "UPDATE s SET v = 'new'; INSERT INTO s VALUES (5001, 'x')")
    result = await pair.copy("s", "s")
    ended.set()
    await watching
    await other.close()
    assert (result.output["inserted"], result.output["updated"]) == (1, ROWS)
    assert set(counts) <= {ROWS, ROWS + 1}
    assert len(counts) > 3


async def test_copies_into_one_table_take_turns_and_each_is_whole(pair):
    """Two that overwrite it with other rows, one that adds: whoever was last, nothing is mixed."""
    await pair.script("ops", "CREATE TABLE a AS SELECT id, 'a' AS v FROM s WHERE id <= 3000")
    await pair.script("ops", "CREATE TABLE b AS SELECT id, 'b' AS v FROM s WHERE id > 1000")
    others = [Pair(pair.urls["ops"], pair.urls["reports"]) for _ in range(2)]
    for _ in range(3):
        await asyncio.gather(
            others[0].copy("a", "s"), others[1].copy("b", "s"), return_exceptions=False
        )
        found = await pair.reports.all("SELECT v, count(*) AS n FROM s GROUP BY v")
        assert [tuple(row.values()) for row in found] in ([("a", 3000)], [("b", 4000)]), found
    for other in others:
        await other.close()


async def test_a_copy_that_waits_for_its_turn_says_so_and_ends_with_the_other(pair):
    if pair.reports.dialect == "sqlite":
        await _held_file(pair)
        return
    database = await pair.reports.scalar("SELECT DATABASE()")
    digest = hashlib.blake2b(f"{database}.s".encode(), digest_size=16).hexdigest()
    name = f"nomaflow copy {digest}"
    assert await pair.reports.scalar("SELECT GET_LOCK(:name, 0)", {"name": name}) == 1
    waiting = asyncio.create_task(pair.copy("s", "s"))
    async with asyncio.timeout(20):
        while not any("another copy is filling" in line for line in pair.context.log.at("INFO")):
            await asyncio.sleep(0.01)
    assert not waiting.done()
    await pair.reports.scalar("SELECT RELEASE_LOCK(:name)", {"name": name})
    await waiting


async def _held_file(pair):
    """A file that another writes is waited for, then named in a timeout; nothing has changed."""
    pair.connectors["reports"] = pair.connectors["reports"].model_copy(
        update={"connect_timeout_seconds": 0.2}
    )
    await pair.script("ops", "UPDATE s SET v = 'new'")
    holder = sqlite3.connect(urlsplit(pair.urls["reports"]).path[1:], isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StepError, match="database is locked") as caught:
        await pair.copy("s", "s")
    assert (caught.value.category, caught.value.retryable) == ("timeout", True)
    holder.execute("ROLLBACK")
    holder.close()
    assert await pair.reports.scalar("SELECT count(*) FROM s WHERE v = 'old'") == ROWS
    await pair.copy("s", "s")
    assert await pair.reports.scalar("SELECT count(*) FROM s WHERE v = 'new'") == ROWS


async def test_what_a_crash_left_is_taken_away_by_the_next_copy(pair):
    """MariaDB's CREATE TABLE commits by itself: a killed copy may leave the table it was making."""
    if pair.reports.dialect == "sqlite":
        pytest.skip("a file keeps nothing of a transaction that did not end")
    database = await pair.reports.scalar("SELECT DATABASE()")
    digest = hashlib.blake2b(f"{database}.fresh".encode(), digest_size=8).hexdigest()
    await pair.reports.execute(f"CREATE TABLE nomaflow_new_{digest} (half int)")
    await pair.copy("s", "fresh")
    tables = await pair.reports.all("SHOW TABLES")
    assert sorted(next(iter(row.values())) for row in tables) == ["fresh", "s"]
