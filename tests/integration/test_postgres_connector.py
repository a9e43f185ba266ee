import asyncio
import re
import socket
import time
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest

from nomaflow.connectors import check, spec, sql
from nomaflow.errors import StepError

TYPES = """
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN price AS numeric(10, 2) CHECK (VALUE >= 0);
    CREATE TABLE things (
        id bigint PRIMARY KEY, at timestamptz, u uuid, n numeric, p price, j jsonb, b bit(4),
        m mood, ms mood[], ints int[], days daterange, ip inet, raw bytea, txt text
    );
"""


@pytest.fixture
async def connector(pg_url):
    opened = sql.open("db", spec.parse({"kind": "sql", "url": pg_url}))
    yield opened
    await opened.close()


async def test_text_binds_as_postgresql_reads_it(connector):
    for statement in TYPES.strip().split(";\n")[:-1]:
        await connector.execute(statement)
    await connector.execute(TYPES.strip().split(";\n")[-1].rstrip(";"))
    result = await connector.execute(
        """
        INSERT INTO things VALUES
            (:id, :at, :u, :n, :p, :j, :b, :m, :ms, :ints, :days, :ip, :raw, :txt)
        RETURNING *, (xmax = 0) AS inserted
        """,
        {
            "id": "7",
            "at": "2024-05-06T07:08:09Z",
            "u": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
            "n": "1.50",
            "p": 0.1,
            "j": {"a": [1, None, "x"]},
            "b": "1010",
            "m": "ok",
            "ms": ["sad", None],
            "ints": ["1", 2],
            "days": "[2024-01-01,2024-02-01)",
            "ip": "10.0.0.0/8",
            "raw": b"\x00\xff",
            "txt": 5,
        },
    )
    row = result.first()
    assert row["at"].isoformat() == "2024-05-06T07:08:09+00:00"
    assert row["u"] == UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")
    assert (row["n"], row["p"]) == (Decimal("1.50"), Decimal("0.10"))
    assert row["j"] == {"a": [1, None, "x"]}
    assert (row["b"].as_string(), row["m"], row["ms"], row["ints"]) == (
        "1010",
        "ok",
        ["sad", None],
        [1, 2],
    )
    assert (row["raw"], row["txt"], row["inserted"], result.rowcount) == (b"\x00\xff", "5", True, 1)


async def test_values_are_bound_and_never_become_sql(connector):
    nasty = "'; DROP TABLE x; -- %s :y $1"
    assert await connector.scalar("SELECT :x::text", {"x": nasty}) == nasty
    with pytest.raises(StepError, match="multiple commands"):
        await connector.execute("SELECT 1; SELECT 2")
    with pytest.raises(StepError, match="`:x`"):
        await connector.execute("SELECT :x")


async def test_a_parameter_may_be_null_in_one_place_and_typed_in_another(connector):
    text = "SELECT count(*) FROM generate_series(1, 3) g WHERE (:low IS NULL OR g >= :low)"
    assert await connector.scalar(text, {"low": None}) == 3
    assert await connector.scalar(text, {"low": 2}) == 2
    async with connector.transaction():
        assert await connector.scalar(text + " AND :x IS NULL", {"low": "3", "x": None}) == 1


async def test_rows_counts_and_streams(connector):
    assert (await connector.execute("CREATE TABLE t (a int)")).rowcount == 0
    filled = await connector.execute("INSERT INTO t SELECT generate_series(1, 5000)")
    assert (filled.rowcount, filled.command, filled.first()) == (5000, "INSERT", None)
    seen = [row["a"] async for row in connector.stream("SELECT a FROM t ORDER BY a", batch=100)]
    assert seen == list(range(1, 5001))
    assert (await connector.execute("UPDATE t SET a = a WHERE a <= :n", {"n": 10})).rowcount == 10
    assert await connector.first("SELECT a FROM t WHERE a < 0") is None
    assert await connector.scalar("SELECT a FROM t WHERE a < 0") is None


async def test_a_changed_table_does_not_spoil_a_statement_asked_before(connector):
    await connector.execute("CREATE TABLE t (a int)")
    await connector.execute("INSERT INTO t VALUES (1)")
    assert await connector.first("SELECT * FROM t") == {"a": 1}
    await connector.execute("ALTER TABLE t ADD COLUMN b text DEFAULT 'x'")
    assert await connector.first("SELECT * FROM t") == {"a": 1, "b": "x"}


async def test_a_transaction_is_all_or_nothing_and_nests(connector):
    await connector.execute("CREATE TABLE t (a int)")
    with pytest.raises(ValueError, match="stop"):  # noqa: PT012  the block is the transaction
        async with connector.transaction():
            await connector.execute("INSERT INTO t VALUES (1)")
            raise ValueError("stop")
    async with connector.transaction():
        await connector.execute("INSERT INTO t VALUES (2)")
        with pytest.raises(StepError, match="read-only"):
            async with connector.transaction(read_only=True):
                await connector.execute("INSERT INTO t VALUES (3)")
        await connector.execute("INSERT INTO t VALUES (4)")
    assert [row["a"] for row in await connector.all("SELECT a FROM t ORDER BY a")] == [2, 4]


async def test_one_transaction_is_kept_only_by_commit(pg_url, connector):
    await connector.execute("CREATE TABLE t (a int)")
    parsed = spec.parse({"kind": "sql", "url": pg_url})
    for keep in (False, True):
        one = sql.open("db", parsed, sql.Session(one_transaction=True))
        await one.execute("INSERT INTO t VALUES (1)")
        assert await connector.scalar("SELECT count(*) FROM t") == 0
        if keep:
            await one.commit()
        await one.close()
    assert await connector.scalar("SELECT count(*) FROM t") == 1


QUERIES = {
    "count": {
        "sql": "SELECT count(*) FROM t WHERE a > :least",
        "params": {"least": {"default": 0}},
    },
    "add": {"operation": "write", "sql": "INSERT INTO t VALUES (:a)"},
    "strict": {"sql": "SELECT :a::int", "params": {"a": {"type": "int", "required": True}}},
    "sneaky": {"operation": "read", "sql": "INSERT INTO t VALUES (9)"},
}


async def test_named_queries_keep_to_their_operation(pg_url):
    parsed = spec.parse({"kind": "sql", "url": pg_url, "queries": QUERIES})
    opened = sql.open("db", parsed)
    try:
        await opened.execute("CREATE TABLE t (a int)")
        await opened.run("add:write", a=3)
        assert (await opened.run("count")).first() == {"count": 1}
        assert (await opened.run("count", least=5)).first() == {"count": 0}
        for reference, params, words in (
            ("nothing", {}, "no query named 'nothing'"),
            ("count:write", {}, "only reads"),
            ("add", {"a": 1}, "add:write"),
            ("strict", {}, "needs the parameter `a`"),
            ("sneaky", {}, "read-only"),
        ):
            with pytest.raises(StepError, match=re.escape(words)):
                await opened.run(reference, **params)
        assert await opened.scalar("SELECT count(*) FROM t") == 1
    finally:
        await opened.close()


async def test_the_server_shows_who_works_and_notices_a_dead_client(pg_url, connector):
    pids = []
    session = sql.Session("nomaflow:run:step'; x", pids.append)
    opened = sql.open("db", spec.parse({"kind": "sql", "url": pg_url}), session)
    shown = await opened.first(
        "SELECT application_name, current_setting('client_connection_check_interval') AS every, "
        "pid FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    )
    assert shown["application_name"] == "nomaflow:run:step?? x"
    assert (shown["every"], [shown["pid"]]) == ("1s", pids)
    await opened.close()
    assert not await connector.all("SELECT FROM pg_stat_activity WHERE pid = :p", {"p": pids[0]})


async def test_a_cancelled_statement_ends_on_the_server(pg_url, connector):
    opened = sql.open("db", spec.parse({"kind": "sql", "url": pg_url}), sql.Session("nomaflow:x"))
    task = asyncio.create_task(opened.execute("SELECT pg_sleep(100)"))
    running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(100)'"
    async with asyncio.timeout(5):
        while not await connector.scalar(running):
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await opened.close()
    async with asyncio.timeout(2):
        while await connector.scalar(running):
            await asyncio.sleep(0.01)


async def test_a_pool_is_bounded_and_gives_connections_back_clean(pg_url):
    pool = sql.pool("db", spec.parse({"kind": "sql", "url": pg_url, "pool_size": 2}))
    try:
        first, second, third = (pool.connector(sql.Session(f"user {n}")) for n in range(3))
        await first.execute("CREATE TEMPORARY TABLE mine (a int)")
        await first.execute("SET search_path = nowhere")
        await second.execute("SELECT 1")
        waiting = asyncio.create_task(third.scalar("SELECT to_regclass('pg_temp.mine')"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await first.close()
        assert await waiting is None
        assert await third.scalar("SHOW search_path") == '"$user", public'
        assert await third.scalar("SHOW application_name") == "user 2"
        await second.close()
        await third.close()
    finally:
        await pool.close()


async def test_a_pool_forgets_connections_the_server_has_closed(pg_url, connector):
    pool = sql.pool("db", spec.parse({"kind": "sql", "url": pg_url}))
    try:
        one = pool.connector(sql.Session())
        pid = await one.scalar("SELECT pg_backend_pid()")
        await one.close()
        await connector.execute("SELECT pg_terminate_backend(:pid, 1000)", {"pid": pid})
        two = pool.connector(sql.Session())
        assert await two.scalar("SELECT 1") == 1
        with pytest.raises(StepError) as caught:
            await two.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert caught.value.category == "connection"
        await two.close()
    finally:
        await pool.close()


async def test_parts_reach_what_a_url_reaches(pg_url):
    parts = urlsplit(pg_url)
    query = dict(parse_qsl(parts.query))
    by_parts = {
        "kind": "sql",
        "driver": "postgresql",
        "host": query.get("host", parts.hostname),
        "port": query.get("port", parts.port),
        "user": parts.username,
        "password": parts.password,
        "database": parts.path.lstrip("/"),
        "ssl_mode": "disable",
    }
    opened = sql.open("db", spec.parse(by_parts))
    try:
        assert await opened.scalar("SELECT current_database()") == parts.path.lstrip("/")
    finally:
        await opened.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:sesame@127.0.0.1:1/d", "cannot connect"),
        ("postgresql://u:sesame@no-such-host.invalid/d", "cannot connect"),
        ("postgresql://u:ses/ame@127.0.0.1:1/d", "percent-encoded"),
        ("postgresql://u:ses#ame@127.0.0.1:1/d", "percent-encoded"),
        ("postgresql://u:1/sesame@127.0.0.1:1/d", "percent-encoded"),
        ("mysql://u:x@evil.example?sesame@127.0.0.1:1/d", "percent-encoded"),
        ("mysql://u:x@evil.example/sesame@127.0.0.1:1/d", "percent-encoded"),
        ("mysql://u:x@evil.example#sesame@127.0.0.1:1/d", "percent-encoded"),
        ("mysql://u:sesame@127.0.0.1:1/d", "cannot connect"),
        ("oracle://u:sesame@h/d", "pip install 'nomaflow[oracle]'"),
        ("sesame", "postgresql://"),
    ],
)
async def test_a_connector_that_cannot_be_reached_says_why_without_its_secret(url, words):
    result = await check.connector("db", spec.parse({"kind": "sql", "url": url}))
    assert not result.ok
    assert words in result.message
    assert "sesame" not in result.message
    assert "ses" not in result.message.replace("ssl", "")


async def test_a_connector_test_is_green_or_red_within_five_seconds(pg_url):
    green = await check.connector("db", spec.parse({"kind": "sql", "url": pg_url}))
    assert green.ok, green
    assert green.message.startswith("PostgreSQL 18")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        port = silent.getsockname()[1]
        started = time.monotonic()
        red = await check.connector(
            "db", spec.parse({"kind": "sql", "url": f"postgresql://u@127.0.0.1:{port}/d"})
        )
    assert (red.ok, "5 s" in red.message) == (False, True), red
    assert time.monotonic() - started < 6


async def test_a_connector_has_its_own_limits_and_trims_what_it_reads(pg_url):
    table = {"kind": "sql", "url": pg_url, "statement_timeout_seconds": 0.2, "trim_strings": True}
    opened = sql.open("db", spec.parse(table))
    try:
        with pytest.raises(StepError, match="statement timeout") as caught:
            await opened.execute("SELECT pg_sleep(10)")
        assert caught.value.category == "timeout"
        text = "SELECT n, 'a'::char(3) AS a, ' b  ' AS b FROM generate_series(1, 5) n"
        assert await opened.first(text) == {"n": 1, "a": "a", "b": " b"}
        assert [row["b"] async for row in opened.stream(text)] == [" b"] * 5
        found = [(columns, len(rows)) async for columns, rows in opened.batches(text, batch=2)]
        assert found == [(["n", "a", "b"], 2), (["n", "a", "b"], 2), (["n", "a", "b"], 1)]
    finally:
        await opened.close()
