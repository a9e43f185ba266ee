import asyncio
import struct
import time
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

import pytest

from nomaflow.connectors import spec, sql
from nomaflow.errors import StepError
from nomaflow.steps import json_values


@pytest.fixture
async def connector(mariadb_url):
    opened = sql.open("shop", spec.parse({"kind": "sql", "url": mariadb_url}))
    yield opened
    await opened.close()


TYPES = """
    CREATE TABLE things (
        id bigint unsigned PRIMARY KEY, n decimal(30, 10), f double, at datetime(6),
        stamp timestamp(6) NULL, d date, t time(6), y year, b bit(4), b1 bit(1), j json,
        e enum('sad', 'ok'), raw varbinary(20), txt varchar(200), flag tinyint(1), u uuid
    )
"""


async def test_values_come_back_as_they_went(connector):
    await connector.execute(TYPES)
    moment = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    given = {
        "id": 2**64 - 1,
        "n": Decimal("12345678901234567890.0123456789"),
        "f": 0.1,
        "at": moment,
        "stamp": moment,
        "d": date(9999, 12, 31),
        "t": timedelta(hours=-838, minutes=-59, seconds=-59),
        "y": 2024,
        "b": 5,
        "b1": True,
        "j": {"a": [1, None, "é'\\"]},
        "e": "ok",
        "raw": bytes(range(20)),
        "txt": "it's \\ \0 \n % ? :a é 🎉 \"",
        "flag": True,
        "u": UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff"),
    }
    names = ", ".join(f":{name}" for name in given)
    done = await connector.execute(f"INSERT INTO things VALUES ({names})", given)
    assert (done.rowcount, done.command, done.first()) == (1, "INSERT", None)
    row = await connector.first("SELECT * FROM things")
    assert row == {
        **given,
        "at": moment.replace(tzinfo=None),
        "stamp": moment.replace(tzinfo=None),
        "b1": 1,
        "flag": 1,
        "j": '{"a": [1, null, "é\'\\\\"]}',
        "u": str(given["u"]),
    }
    assert json_values.row(row)["n"] == "12345678901234567890.0123456789"


@pytest.mark.parametrize(
    "value",
    ["'; DROP TABLE things; -- ", "\\", "\\'", "'", "''", "\0", "%s", ":x", "?", "é'", "'" * 999],
)
async def test_values_are_bound_and_never_become_sql(connector, value):
    assert await connector.scalar("SELECT :x", {"x": value}) == value
    assert await connector.scalar("SELECT length(:x)", {"x": value}) == len(value.encode())
    assert await connector.scalar("SELECT ':x'") == ":x"
    assert await connector.scalar("SELECT 'it\\'s :x' -- :x\n") == "it's :x"
    assert await connector.scalar("SELECT :x /* :y */ # :z", {"x": value}) == value


async def test_no_text_whatever_ends_its_literal(connector):
    """A thousand random texts of the letters that have broken escaping somewhere before."""
    letters = "'\"\\`\0\n\r\x1a%_;#-/*:?${}()=x \xbf\x5c\u0153\u4e57\u8a31\U0001f389\u202e"
    random = Random(71)
    for _ in range(20):
        texts = {
            f"p{n}": "".join(random.choices(letters, k=random.randrange(12))) for n in range(50)
        }
        names = ", ".join(f"concat(:{name}, '|') AS {name}" for name in texts)
        row = await connector.first(f"SELECT {names}", texts)
        assert row == {name: f"{text}|" for name, text in texts.items()}


async def test_a_text_is_one_statement(connector):
    with pytest.raises(StepError, match="syntax") as caught:
        await connector.execute("SELECT 1; SELECT 2")
    assert "1064" in caught.value.message
    with pytest.raises(StepError, match="`:x`"):
        await connector.execute("SELECT :x")
    with pytest.raises(StepError, match="write parameters as `:name`"):
        await connector.execute("SELECT ?")


async def test_what_would_change_on_the_way_is_refused(connector):
    await connector.execute(TYPES)
    for column, value, words in (
        ("f", float("nan"), "no such number"),
        ("n", Decimal("1" * 70), "65 digits"),
        ("n", "many", "Incorrect decimal"),
        ("flag", 1000, "Out of range"),
        ("txt", "x" * 201, "too long"),
        ("txt", "\ud800", "half of a character"),
        ("e", "glad", "truncated"),
        ("d", "2024-02-30", "Incorrect date"),
    ):
        with pytest.raises(StepError, match=words):
            await connector.execute(
                f"INSERT INTO things (id, {column}) VALUES (1, :v)", {"v": value}
            )
    assert await connector.scalar("SELECT count(*) FROM things") == 0


async def test_text_binds_to_what_the_column_is(connector):
    await connector.execute(TYPES)
    given = {"id": "7", "at": "2024-05-06T09:08:09+02:00", "n": "1.50", "d": "2024-05-06"}
    await connector.execute("INSERT INTO things (id, at, n, d) VALUES (:id, :at, :n, :d)", given)
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC).replace(tzinfo=None)
    row = await connector.first("SELECT id, at, n, d FROM things WHERE id = :id", {"id": "7"})
    assert row == {
        "id": 7,
        "at": moment,
        "n": Decimal("1.5000000000"),
        "d": date(2024, 5, 6),
    }
    # MariaDB would compare without the zone, and say so in a warning only.
    count = "SELECT count(*) FROM things WHERE at = :at"
    assert await connector.scalar(count, {"at": "2024-05-06T07:08:09Z"}) == 1
    assert await connector.scalar(count, {"at": "2024-05-06T09:08:09+02:00"}) == 1
    assert await connector.scalar(count, {"at": "2024-05-06T07:08:09+02:00"}) == 0
    rows = [row async for row in connector.stream(count, {"at": "2024-05-06T09:08:09+02:00"})]
    assert rows == [{"count(*)": 1}]
    # Where the text is to stay a text it does.
    await connector.execute("UPDATE things SET txt = :at", {"at": given["at"]})
    assert await connector.scalar("SELECT txt FROM things") == given["at"]
    found = [row async for row in connector.stream("SELECT 1 FROM things WHERE txt = :at", given)]
    assert found == [{"1": 1}]


async def test_a_date_that_does_not_exist_is_an_error_that_says_what_to_write(connector):
    await connector.execute("CREATE TABLE old (d date, at datetime)")
    await connector.execute("SET SESSION sql_mode = ''")
    await connector.execute("INSERT INTO old VALUES ('0000-00-00', '2024-00-15 00:00:00')")
    for column in ("d", "at"):
        with pytest.raises(StepError, match="does not exist; select NULLIF"):
            await connector.execute(f"SELECT {column} FROM old")
    with pytest.raises(StepError, match="does not exist"):
        [row async for row in connector.stream("SELECT * FROM old")]
    assert await connector.scalar("SELECT NULLIF(d, 0) FROM old") is None
    assert await connector.scalar("SELECT CAST(at AS CHAR) FROM old") == "2024-00-15 00:00:00"


async def test_a_mode_that_reads_texts_otherwise_is_refused(connector):
    await connector.execute("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'")
    with pytest.raises(StepError, match="NO_BACKSLASH_ESCAPES"):
        await connector.execute("SELECT 1")


async def test_rows_counts_and_streams(connector):
    assert (await connector.execute("CREATE TABLE t (a int)")).rowcount == 0
    filled = await connector.execute("INSERT INTO t SELECT seq FROM seq_1_to_5000")
    assert (filled.rowcount, filled.command, filled.first()) == (5000, "INSERT", None)
    seen = [row["a"] async for row in connector.stream("SELECT a FROM t ORDER BY a", batch=100)]
    assert seen == list(range(1, 5001))
    async for columns, rows in connector.batches("SELECT a, a + 1 b FROM t ORDER BY a", batch=3000):
        assert (columns, rows[0][1] - rows[0][0], len(rows) <= 3000) == (["a", "b"], 1, True)
    assert (await connector.execute("UPDATE t SET a = a WHERE a <= :n", {"n": 10})).rowcount == 10
    assert await connector.first("SELECT a FROM t WHERE a < 0") is None
    assert await connector.scalar("SELECT a FROM t WHERE a < 0") is None
    result = await connector.execute("WITH x AS (SELECT 1 AS a) SELECT * FROM x")
    assert (result.command, result.rowcount) == ("SELECT", 1)
    returned = await connector.execute("INSERT INTO t VALUES (:a), (7) RETURNING a", {"a": 6})
    assert (returned.all(), returned.rowcount, returned.command) == (
        [{"a": 6}, {"a": 7}],
        2,
        "INSERT",
    )


async def test_a_stream_left_early_leaves_the_connection_and_its_transaction(connector):
    await connector.execute("CREATE TABLE t (a int)")
    async with connector.transaction():
        await connector.execute("INSERT INTO t VALUES (1)")
        started = time.monotonic()
        stream = connector.stream("SELECT a.seq FROM seq_1_to_10000 a, seq_1_to_10000 b")
        async for _ in stream:
            with pytest.raises(StepError, match="still being read"):
                await connector.execute("SELECT 1")
            break
        await stream.aclose()
        assert time.monotonic() - started < 5
        assert await connector.scalar("SELECT count(*) FROM t") == 1
    assert await connector.scalar("SELECT count(*) FROM t") == 1


async def test_a_stream_that_nobody_reads_stays_small(connector):
    """asyncmy alone reads ahead without end."""
    rows = "SELECT repeat('x', 1000) FROM seq_1_to_200000"  # 200 MB
    stream = connector.stream(rows, batch=100)
    tracemalloc.start()
    try:
        await anext(stream)
        for _ in range(20):
            await asyncio.sleep(0.02)  # the loop would read meanwhile
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await stream.aclose()
    assert peak < 5_000_000


async def test_a_transaction_is_all_or_nothing_and_nests(connector):
    await connector.execute("CREATE TABLE t (a int)")
    with pytest.raises(ValueError, match="stop"):  # noqa: PT012  the block is the transaction
        async with connector.transaction():
            await connector.execute("INSERT INTO t VALUES (1)")
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
        with pytest.raises(StepError, match=r"25006|read-only"):
            async with connector.transaction(read_only=True):
                await connector.execute(statement)
    assert [row["a"] for row in await connector.all("SELECT a FROM t ORDER BY a")] == [2, 4]


async def test_a_statement_that_commits_by_itself_does_not_end_the_block(mariadb_url, connector):
    """What follows a CREATE TABLE is a transaction again, kept or undone with the block."""
    await connector.execute("CREATE TABLE t (a int)")
    with pytest.raises(ValueError, match="stop"):  # noqa: PT012  the block is the transaction
        async with connector.transaction():
            await connector.execute("INSERT INTO t VALUES (1)")
            async with connector.transaction():
                await connector.execute("CREATE TABLE u (a int)")
            await connector.execute("INSERT INTO t VALUES (2)")
            raise ValueError("stop")
    assert [row["a"] for row in await connector.all("SELECT a FROM t")] == [1]


async def test_one_transaction_is_kept_only_by_commit(mariadb_url, connector):
    await connector.execute("CREATE TABLE t (a int)")
    parsed = spec.parse({"kind": "sql", "url": mariadb_url})
    for keep in (False, True):
        one = sql.open("db", parsed, sql.Session(one_transaction=True))
        await one.execute("INSERT INTO t VALUES (1)")
        assert await connector.scalar("SELECT count(*) FROM t") == 0
        if keep:
            await one.commit()
        await one.close()
    assert await connector.scalar("SELECT count(*) FROM t") == 1


RUNNING = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'"


@pytest.fixture
async def sleeping(mariadb_url, connector):
    """A statement that takes its time, in a task, known to run."""
    opened = sql.open("db", spec.parse({"kind": "sql", "url": mariadb_url}))
    task = asyncio.create_task(opened.execute("SELECT SLEEP(100)"))
    async with asyncio.timeout(5):
        while not await connector.scalar(RUNNING):
            await asyncio.sleep(0.01)
    yield opened, task
    await opened.close()


async def gone(connector, words=RUNNING):
    async with asyncio.timeout(2):
        while await connector.scalar(words):
            await asyncio.sleep(0.01)


async def test_a_cancelled_statement_ends_on_the_server(connector, sleeping):
    opened, task = sleeping
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await opened.close()
    await gone(connector)


async def test_closing_the_pool_ends_what_still_runs(connector, sleeping):
    opened, task = sleeping
    await opened.owned_pool.close()
    with pytest.raises(StepError) as caught:
        await task
    assert caught.value.category == "connection"
    await gone(connector)


async def test_a_cancelled_stream_ends_on_the_server(mariadb_url, connector):
    opened = sql.open("db", spec.parse({"kind": "sql", "url": mariadb_url}))
    running = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT a.seq%'"

    async def read():
        async for _ in opened.stream("SELECT a.seq FROM seq_1_to_100000 a, seq_1_to_100000 b"):
            await asyncio.sleep(0)

    task = asyncio.create_task(read())
    async with asyncio.timeout(5):
        while not await connector.scalar(running):
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await opened.close()
    await gone(connector, running)


async def test_the_server_can_be_asked_who_works_there(mariadb_url):
    numbers = []
    application = "nomaflow:01999999-0000-7000-8000-000000000000:a step'; x"
    session = sql.Session(application, numbers.append)
    opened = sql.open("db", spec.parse({"kind": "sql", "url": mariadb_url}), session)
    try:
        holder = f"SELECT IS_USED_LOCK('{application[:45]}:' || connection_id())"
        holder = f"SELECT IS_USED_LOCK(concat('{application[:45]}:', connection_id()))"
        assert [await opened.scalar(holder)] == numbers
    finally:
        await opened.close()


async def test_errors_say_what_the_server_says_and_which_kind_it_is(mariadb_url, connector):
    await connector.execute("CREATE TABLE t (a int PRIMARY KEY)")
    await connector.execute("INSERT INTO t VALUES (1)")
    for statement, words, category in (
        ("SELEC 1", "1064", "error"),
        ("SELECT * FROM nowhere", "1146, SQLSTATE 42S02", "error"),
        ("INSERT INTO t VALUES (1)", "Duplicate entry '1'", "error"),
        ("KILL CONNECTION_ID()", "connector 'shop'", "connection"),
    ):
        with pytest.raises(StepError, match=words) as caught:
            await connector.execute(statement)
        assert caught.value.category == category
        assert "'shop'" in caught.value.message


async def test_a_statement_has_a_time(mariadb_url):
    table = {"kind": "sql", "url": mariadb_url, "statement_timeout_seconds": 0.2}
    opened = sql.open("shop", spec.parse(table))
    try:
        with pytest.raises(StepError, match="max_statement_time exceeded") as caught:
            await opened.execute("SELECT count(*) FROM seq_1_to_10000000 a, seq_1_to_1000 b")
        assert caught.value.category == "timeout"
        assert await opened.scalar("SELECT 1") == 1
    finally:
        await opened.close()


async def test_a_lock_waited_for_in_vain_is_a_timeout(mariadb_url, connector):
    await connector.execute("CREATE TABLE t (a int PRIMARY KEY)")
    other = sql.open("db", spec.parse({"kind": "sql", "url": mariadb_url}))
    try:
        await other.execute("SET SESSION innodb_lock_wait_timeout = 1")
        async with connector.transaction():
            await connector.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(StepError) as caught:
                await other.execute("INSERT INTO t VALUES (1)")
        assert caught.value.category == "timeout"
    finally:
        await other.close()


async def test_a_procedure_answers_its_first_rows(connector):
    await connector.execute(
        "CREATE PROCEDURE two(IN n int) BEGIN SELECT n AS a; SELECT 2 AS b; DO 1; END"
    )
    result = await connector.execute("CALL two(:n)", {"n": 5})
    assert result.all() == [{"a": 5}]
    assert await connector.scalar("SELECT 3") == 3


async def test_a_pool_gives_connections_back_clean(mariadb_url):
    pool = sql.pool("db", spec.parse({"kind": "sql", "url": mariadb_url, "pool_size": 1}))
    try:
        first = pool.connector(sql.Session("nomaflow:one"))
        await first.execute("CREATE TEMPORARY TABLE mine (a int)")
        await first.execute("SET @x = 1")
        await first.execute("SET SESSION time_zone = '+05:00', autocommit = 0")
        number = await first.scalar("SELECT CONNECTION_ID()")
        await first.commit()
        await first.execute("COMMIT")
        await first.close()
        second = pool.connector(sql.Session("nomaflow:two"))
        assert await second.first(
            "SELECT @x AS x, @@autocommit AS a, @@time_zone AS z, CONNECTION_ID() AS n, "
            "@@character_set_client AS c"
        ) == {"x": None, "a": 1, "z": "+00:00", "n": number, "c": "utf8mb4"}
        with pytest.raises(StepError, match="doesn't exist"):
            await second.execute("SELECT * FROM mine")
        await second.close()
    finally:
        await pool.close()


async def test_trailing_blanks_go_where_the_connector_says_so(mariadb_url):
    opened = sql.open("db", spec.parse({"kind": "sql", "url": mariadb_url, "trim_strings": True}))
    try:
        assert await opened.first("SELECT 'a  ' AS a, ' b' AS b, 1 AS c") == {
            "a": "a",
            "b": " b",
            "c": 1,
        }
        assert [row async for row in opened.stream("SELECT 'a  ' AS a")] == [{"a": "a"}]
    finally:
        await opened.close()


async def test_parts_reach_what_a_url_reaches_whatever_the_password(mariadb_url, mariadb_server):
    password = "p@ss/w#rd?%'\" é€"
    quoted = password.replace("'", "''")
    await mariadb_server.execute(f"CREATE USER odd@'127.0.0.1' IDENTIFIED BY '{quoted}'")
    try:
        by_parts = {
            "kind": "sql",
            "driver": "mariadb",
            "host": "127.0.0.1",
            "port": mariadb_server.port,
            "user": "odd",
            "password": password,
        }
        opened = sql.open("db", spec.parse(by_parts))
        assert await opened.scalar("SELECT current_user()") == "odd@127.0.0.1"
        await opened.close()
        wrong = sql.open("db", spec.parse({**by_parts, "password": "sesame-42"}))
        with pytest.raises(StepError, match="Access denied") as caught:
            await wrong.scalar("SELECT 1")
        assert caught.value.category == "connection"
        assert "sesame" not in caught.value.message
        await wrong.close()
    finally:
        await mariadb_server.execute("DROP USER odd@'127.0.0.1'")


async def test_a_url_with_an_option_nobody_knows_is_refused():
    opened = sql.open("db", spec.parse({"kind": "sql", "url": "mysql://u:p@h/d?local_infile=1"}))
    with pytest.raises(StepError, match="option `local_infile`"):
        await opened.scalar("SELECT 1")


ENCRYPTED = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"


@pytest.mark.parametrize(
    ("mode", "host", "trusts", "answer"),
    [
        (None, "127.0.0.1", False, True),
        ("disable", "127.0.0.1", False, False),
        ("prefer", "127.0.0.1", False, True),
        ("require", "localhost", False, True),
        ("verify-ca", "localhost", True, True),
        ("verify-full", "127.0.0.1", True, True),
        (None, "127.0.0.1", True, True),
        ("verify-full", "localhost", True, "Hostname mismatch"),
        (None, "localhost", True, "Hostname mismatch"),
        ("verify-full", "127.0.0.1", False, "certificate verify failed"),
        ("verify-ca", "127.0.0.1", False, "certificate verify failed"),
    ],
)
async def test_the_server_is_trusted_as_the_connector_says(
    mariadb_url, mariadb_server, mode, host, trusts, answer
):
    table = {"kind": "sql", "url": mariadb_url.replace("127.0.0.1", host)}
    if mode is not None:
        table["ssl_mode"] = mode
    if trusts:
        table["ca_file"] = mariadb_server.ca_file
    opened = sql.open("db", spec.parse(table))
    try:
        if isinstance(answer, str):
            with pytest.raises(StepError, match=answer):
                await opened.scalar("SELECT 1")
            return
        row = await opened.first(ENCRYPTED)
        assert bool(row["Value"]) is answer
        rows = [row async for row in opened.stream("SELECT seq FROM seq_1_to_5000", batch=100)]
        assert len(rows) == 5000
    finally:
        await opened.close()


def rogue(plugin):
    """A server that answers a greeting with the wish for another way to show the password."""
    heard = []

    async def speak(reader, writer):
        capabilities = 0x00FF_F7FF & ~0x800  # all that servers of MySQL 8 offer, but no TLS
        greeting = b"\x0a8.0.0\0" + struct.pack("<I", 7) + b"a" * 8 + b"\0"
        greeting += struct.pack("<HBHH", capabilities & 0xFFFF, 45, 2, capabilities >> 16)
        greeting += b"\x15" + b"\0" * 10 + b"b" * 12 + b"\0mysql_native_password\0"
        writer.write(struct.pack("<I", len(greeting))[:3] + b"\0" + greeting)
        size = int.from_bytes((await reader.readexactly(4))[:3], "little")
        heard.append(await reader.readexactly(size))
        wish = b"\xfe" + plugin + b"\0" + b"c" * 20 + b"\0"
        writer.write(struct.pack("<I", len(wish))[:3] + b"\2" + wish)
        heard.append(await reader.read(1000))
        writer.close()
        await writer.wait_closed()

    return heard, speak


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"dialog", b"mysql_old_password"])
async def test_a_server_that_asks_for_the_password_does_not_get_it(plugin):
    heard, speak = rogue(plugin)
    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"mysql://me:sesame-42@127.0.0.1:{port}/d"
        opened = sql.open("shop", spec.parse({"kind": "sql", "url": url}))
        with pytest.raises(StepError, match="asks for the password in clear text"):
            await opened.scalar("SELECT 1")
        await opened.close()
        async with asyncio.timeout(5):
            while len(heard) < 2:
                await asyncio.sleep(0.01)
    assert b"sesame" not in b"".join(heard)
    assert heard[1] == b""


async def test_a_pool_forgets_connections_the_server_has_closed(mariadb_url, connector):
    pool = sql.pool("db", spec.parse({"kind": "sql", "url": mariadb_url}))
    try:
        one = pool.connector(sql.Session())
        number = await one.scalar("SELECT CONNECTION_ID()")
        await one.close()
        await connector.execute("KILL :n", {"n": number})
        await asyncio.sleep(0)
        two = pool.connector(sql.Session())
        assert await two.scalar("SELECT 1") == 1
        assert await two.scalar("SELECT CONNECTION_ID()") != number
        await two.close()
    finally:
        await pool.close()


QUERIES = {
    "count": {
        "sql": "SELECT count(*) AS n FROM t WHERE a > :least",
        "params": {"least": {"type": "int", "default": 0}},
    },
    "add": {"operation": "write", "sql": "INSERT INTO t VALUES (:a)"},
    "sneaky": {"operation": "read", "sql": "INSERT INTO t VALUES (9)"},
    "quoted": {"sql": "SELECT `a:b` AS x, 'it\\'s :y' AS y FROM u WHERE `a:b` = :z"},
}


async def test_named_queries_keep_to_their_operation(mariadb_url):
    opened = sql.open("db", spec.parse({"kind": "sql", "url": mariadb_url, "queries": QUERIES}))
    try:
        await opened.execute("CREATE TABLE t (a int)")
        await opened.execute("CREATE TABLE u (`a:b` int)")
        await opened.execute("INSERT INTO u VALUES (4)")
        await opened.run("add:write", a=3)
        assert (await opened.run("count")).first() == {"n": 1}
        assert (await opened.run("count", least="5")).first() == {"n": 0}
        assert (await opened.run("quoted", z=4)).first() == {"x": 4, "y": "it's :y"}
        for reference, params, words in (
            ("sneaky", {}, "25006"),
            ("add", {"a": 1}, "add:write"),
            ("count:write", {}, "only reads"),
            ("count", {"least": "many"}, "is not a whole number"),
            ("count", {"most": 1}, "no parameter `most`"),
        ):
            with pytest.raises(StepError, match=words):
                await opened.run(reference, **params)
        async with opened.transaction():  # inside another one the statement's verb is looked at
            with pytest.raises(StepError, match="25006"):
                await opened.run("sneaky")
            await opened.run("add:write", a=4)
        assert await opened.scalar("SELECT count(*) FROM t") == 2
    finally:
        await opened.close()
