import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from nomaflow.connectors import spec, sql
from nomaflow.errors import StepError


@pytest.fixture
async def connector(tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db"
    opened = sql.open("shop", spec.parse({"kind": "sql", "url": url}))
    yield opened
    await opened.close()


async def test_values_are_bound_never_spliced(connector):
    await connector.execute("CREATE TABLE t (id integer PRIMARY KEY, x, at, j)")
    hostile = "'; DROP TABLE t; -- \" \0 % ? :id é 🎉"
    done = await connector.execute(
        "INSERT INTO t VALUES (:id, :x, :at, :j)",
        {"id": 1, "x": hostile, "at": datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), "j": {"a": [1]}},
    )
    assert (done.rowcount, done.command) == (1, "INSERT")
    assert await connector.first("SELECT * FROM t WHERE x = :x", {"x": hostile}) == {
        "id": 1,
        "x": hostile,
        "at": "2024-05-06 07:08:09+00:00",
        "j": '{"a": [1]}',
    }


async def test_texts_are_read_as_sqlite_reads_them(connector):
    assert await connector.scalar("SELECT ':x' || :x -- :y", {"x": "a"}) == ":xa"
    await connector.execute('CREATE TABLE "a:b" ([c:d] int, `e:f` int)')
    await connector.execute('INSERT INTO "a:b" ([c:d], `e:f`) VALUES (:v, :v)', {"v": 3})
    assert await connector.first('SELECT * FROM "a:b"') == {"c:d": 3, "e:f": 3}
    for text, words in (
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT :x", "`:x`"),
        ("SELECT ?", "write parameters as `:name`"),
        ("SELECT @x", "write parameters as `:name`"),
    ):
        with pytest.raises(StepError, match=words):
            await connector.execute(text)


async def test_what_a_file_cannot_keep_is_refused(connector):
    for value, words in (
        (2**63, "64 bits"),
        ({"a": {1, 2}}, "a set has no JSON form"),
        ({"a": float("nan")}, "cannot be written as JSON"),
        ("\ud800", "surrogate"),
    ):
        with pytest.raises(StepError, match=words):
            await connector.execute("SELECT :x", {"x": value})
    row = await connector.first(
        "SELECT :i AS i, :f AS f, :n AS n, :d AS d, :t AS t, :b AS b, :z AS z, :raw AS raw",
        {
            "i": -(2**63),
            "f": 0.1,
            "n": Decimal("1E+3"),
            "d": date(2024, 5, 6),
            "t": True,
            "b": None,
            "z": "a\0b",
            "raw": b"\0\xff",
        },
    )
    assert list(row.values()) == [-(2**63), 0.1, "1000", "2024-05-06", 1, None, "a\0b", b"\0\xff"]


async def test_rows_counts_and_streams(connector):
    assert (await connector.execute("CREATE TABLE t (a int)")).rowcount == 0
    numbers = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 5000) "
    filled = await connector.execute(f"INSERT INTO t {numbers} SELECT a FROM n")
    assert (filled.rowcount, filled.command, filled.first()) == (5000, "INSERT", None)
    seen = [row["a"] async for row in connector.stream("SELECT a FROM t ORDER BY a", batch=100)]
    assert seen == list(range(1, 5001))
    async for columns, rows in connector.batches("SELECT a, a + 1 b FROM t", batch=3000):
        assert (columns, rows[0][1] - rows[0][0], len(rows) <= 3000) == (["a", "b"], 1, True)
    async for row in connector.stream("SELECT a FROM t WHERE a <= 3"):
        await connector.execute("UPDATE t SET a = a WHERE a = :a", row)
    assert (await connector.execute("UPDATE t SET a = a WHERE a <= :n", {"n": 10})).rowcount == 10
    returned = await connector.execute("INSERT INTO t VALUES (:a), (7) RETURNING a", {"a": 6})
    assert (returned.all(), returned.rowcount) == ([{"a": 6}, {"a": 7}], 2)
    assert await connector.scalar("SELECT a FROM t WHERE a < 0") is None


async def test_a_transaction_is_all_or_nothing_and_nests(connector):
    await connector.execute("CREATE TABLE t (a int)")
    with pytest.raises(ValueError, match="stop"):  # noqa: PT012  the block is the transaction
        async with connector.transaction():
            await connector.execute("INSERT INTO t VALUES (1)")
            await connector.execute("CREATE TABLE u (a int)")
            raise ValueError("stop")
    async with connector.transaction():
        await connector.execute("INSERT INTO t VALUES (2)")
        with pytest.raises(ValueError, match="stop"):  # noqa: PT012  the block is the transaction
            async with connector.transaction():
                await connector.execute("INSERT INTO t VALUES (3)")
                raise ValueError("stop")
        with pytest.raises(StepError, match="read-only"):
            async with connector.transaction(read_only=True):
                await connector.execute("INSERT INTO t VALUES (3)")
        await connector.execute("INSERT INTO t VALUES (4)")
    for statement in ("INSERT INTO t VALUES (5)", "CREATE TABLE u (a int)", "DROP TABLE t"):
        with pytest.raises(StepError, match="25006"):
            async with connector.transaction(read_only=True):
                await connector.execute(statement)
    # What only looks like reading is caught by the file itself.
    with pytest.raises(StepError, match="25006"):
        async with connector.transaction(read_only=True):
            await connector.execute("WITH x AS (SELECT 5 AS a) INSERT INTO t SELECT a FROM x")
    assert [row["a"] for row in await connector.all("SELECT a FROM t ORDER BY a")] == [2, 4]
    assert await connector.scalar("SELECT count(*) FROM sqlite_master") == 1


async def test_one_transaction_is_kept_only_by_commit(connector):
    await connector.execute("CREATE TABLE t (a int)")
    for keep in (False, True):
        one = sql.open("db", connector.spec, sql.Session(one_transaction=True))
        await one.execute("INSERT INTO t VALUES (1)")
        assert await connector.scalar("SELECT count(*) FROM t") == 0
        if keep:
            await one.commit()
        await one.close()
    assert await connector.scalar("SELECT count(*) FROM t") == 1


ENDLESS = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) SELECT count(*) FROM n"


async def test_a_cancelled_statement_stops(connector):
    task = asyncio.create_task(connector.execute(ENDLESS))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(2):
        await connector.close()


async def test_a_statement_has_a_time_and_the_connection_lives_on(tmp_path):
    table = {"kind": "sql", "driver": "sqlite", "database": f"{tmp_path}/a.db"}
    opened = sql.open("shop", spec.parse({**table, "statement_timeout_seconds": 0.2}))
    try:
        with pytest.raises(StepError, match="statement_timeout_seconds") as caught:
            await opened.execute(ENDLESS)
        assert caught.value.category == "timeout"
        assert await opened.scalar("SELECT 1") == 1
    finally:
        await opened.close()


async def test_a_file_that_another_writes_is_waited_for_and_then_a_timeout(tmp_path):
    table = {"kind": "sql", "url": f"sqlite:///{tmp_path}/a.db", "connect_timeout_seconds": 0.2}
    one, two = (sql.open("shop", spec.parse(table)) for _ in range(2))
    try:
        await one.execute("CREATE TABLE t (a int)")
        async with one.transaction():
            await one.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(StepError, match="database is locked") as caught:
                await two.execute("INSERT INTO t VALUES (2)")
        assert caught.value.category == "timeout"
        assert (await two.execute("INSERT INTO t VALUES (2)")).rowcount == 1
    finally:
        await one.close()
        await two.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///{}/nowhere/a.db", "there is no folder"),
        ("sqlite:///{}/not_one.db", "file is not a database"),
        ("sqlite:///{}", "unable to open"),
        ("sqlite:///", "names no file"),
        ("sqlite://host/a.db", "sqlite:////absolute/path"),
        ("sqlite:///a.db?mode=ro", "sqlite:////absolute/path"),
    ],
)
async def test_a_file_that_cannot_be_used_says_why(tmp_path, url, words):
    (tmp_path / "not_one.db").write_text("jobs = []\n" * 200)
    opened = sql.open("shop", spec.parse({"kind": "sql", "url": url.format(tmp_path)}))
    with pytest.raises(StepError, match=words):
        await opened.scalar("SELECT 1")
    await opened.close()


async def test_trailing_blanks_go_where_the_connector_says_so():
    opened = sql.open(
        "db", spec.parse({"kind": "sql", "url": "sqlite:///:memory:", "trim_strings": True})
    )
    try:
        assert await opened.first("SELECT 'a  ' AS a, 1 AS b") == {"a": "a", "b": 1}
        assert [row async for row in opened.stream("SELECT 'a  ' AS a")] == [{"a": "a"}]
    finally:
        await opened.close()
