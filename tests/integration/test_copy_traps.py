"""What MariaDB and SQLite would change without a word: equal, or refused with the column."""

import re

import pytest
from copying import Pair
from test_copy_memory import MB, peak
from test_copy_options import calling

from nomaflow.errors import StepError


@pytest.fixture
async def to_mariadb(new_pg_url, new_mariadb_url):
    pair = Pair(await new_pg_url(), await new_mariadb_url())
    yield pair
    await pair.close()


@pytest.fixture
async def from_mariadb(new_pg_url, new_mariadb_url):
    pair = Pair(await new_mariadb_url(), await new_pg_url())
    yield pair
    await pair.close()


@pytest.fixture
def mariadb(new_mariadb_url):
    return new_mariadb_url


@pytest.fixture
async def sqlites(tmp_path):
    pair = Pair(f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")
    yield pair
    await pair.close()


# type and value at PostgreSQL, type at MariaDB, what it then holds or None: refused
INTO_MARIADB = [
    ("int", "7", "tinyint", 7),
    ("int", "300", "tinyint", None),
    ("bigint", "-1", "bigint unsigned", None),
    ("numeric", "1.0", "int", 1),
    ("numeric", "1.5", "int", None),
    ("text", "'12'", "int", 12),
    ("text", "'1.5'", "int", None),
    ("text", "'12abc'", "int", None),
    ("numeric(5,3)", "1.250", "decimal(5,2)", "1.25"),
    ("numeric(5,3)", "1.257", "decimal(5,2)", None),
    ("numeric", "'NaN'", "decimal(5,2)", None),
    ("float8", "0.5", "float", 0.5),
    ("float8", "0.1", "float", None),
    ("float8", "'Infinity'", "double", None),
    ("bigint", "9007199254740993", "double", None),
    ("timestamp", "'2024-01-01 10:00'", "datetime", "2024-01-01 10:00:00"),
    ("timestamp", "'2024-01-01 10:00:00.5'", "datetime", None),
    ("timestamp", "'infinity'", "datetime(6)", None),
    ("timestamp", "'2024-01-01'", "date", "2024-01-01"),
    ("timestamp", "'2024-01-01 10:00'", "date", None),
    ("time", "'10:00:00.25'", "time", None),
    ("timestamptz", "'2039-01-01Z'", "timestamp(6)", None),
    ("varchar(4)", "'ab'", "char(4)", "ab"),
    ("varchar(4)", "'ab '", "char(4)", None),
    ("text", "'abc'", "varchar(2)", None),
    ("text", "'ab '", "varchar(2)", None),
    ("text", "'a'", "enum('a','b')", "a"),
    ("text", "'1'", "enum('a','b')", None),
    ("text", "'a'", "set('a','b')", None),
    ("int", "70", "year", None),
    ("text", "'表'", "varchar(5) character set latin1", None),
    ("text", "'{a'", "json", None),
    ("bytea", "'\\x61'", "binary(1)", b"a"),
    ("bytea", "'\\x61'", "binary(2)", None),
    ("boolean", "true", "bit(1)", 1),
    ("int", "NULL", "timestamp not null", None),
    ("timestamptz", "NULL", "timestamp not null", None),
    ("int[]", "'[0:1]={1,2}'", "longtext", None),
]


async def test_what_mariadb_would_change_is_refused(to_mariadb):
    surprises = []
    for source, value, target, expected in INTO_MARIADB:
        await to_mariadb.script(
            "ops",
            f"DROP TABLE IF EXISTS s; CREATE TABLE s (id int, v {source}); "
            f"INSERT INTO s VALUES (1, {value})",
        )
        for mode in ("append", "overwrite"):
            await to_mariadb.reports.execute("DROP TABLE IF EXISTS t")
            await to_mariadb.reports.execute(f"CREATE TABLE t (id int, v {target})")
            try:
                await to_mariadb.copy("s", "t", mode=mode)
                found = await to_mariadb.reports.scalar("SELECT v FROM t")
                found = found if isinstance(found, int | float | bytes) else str(found)
            except StepError as error:
                named = "'v'" in error.message or "`t.v`" in error.message
                found = None if named else error.message
            if found != expected:
                surprises.append((source, value, target, mode, expected, found))
            elif expected is None and await to_mariadb.reports.scalar(
                "SELECT count(*) AS n FROM t"
            ):
                surprises.append((source, value, target, mode, "rows were left"))
    assert surprises == [], "\n" + "\n".join(map(str, surprises))


# type and value at MariaDB, what a new PostgreSQL table holds as text, or the words of the refusal
FROM_MARIADB = [
    ("bigint unsigned", "18446744073709551615", "18446744073709551615"),
    ("int unsigned", "4294967295", "4294967295"),
    ("tinyint(1)", "5", "5"),
    ("bit(1)", "b'1'", "true"),
    ("bit(8)", "b'101'", "101"),
    ("float", "16777217", "1.6777216e+07"),
    ("float", "0.1", "0.1"),
    ("double", "0.1e0 + 0.2e0", "0.30000000000000004"),
    ("decimal(65,30)", "1.000000000000000000000000000001", "1.000000000000000000000000000001"),
    ("date", "'9999-12-31'", "9999-12-31"),
    ("date", "'0000-00-00'", "column 'v'"),
    ("datetime(6)", "'2024-03-31 02:30:00.000001'", "2024-03-31 02:30:00.000001"),
    ("timestamp(3)", "'2024-03-31 02:30:00.5'", "2024-03-31 02:30:00.5"),
    ("time", "'23:59:59'", "23:59:59"),
    ("time", "'838:59:59'", "column 'v'"),
    ("year", "2024", "2024"),
    ("enum('it''s','b')", "'it''s'", "it's"),
    ("set('a','b')", "'a,b'", "a,b"),
    ("varchar(9)", r"'a\tb\\c\n\r'", "a\tb\\c\n\r"),
    ("varchar(9)", r"'a\0b'", "0x00"),
    ("varchar(9) character set latin1", "'é'", "é"),
    ("char(9)", "'ab'", "ab"),
    ("blob", "X'00ff5c0a'", "\\x00ff5c0a"),
    ("json", '\'{"a":  1.10, "a": 2}\'', '{"a":  1.10, "a": 2}'),
    ("uuid", "'6f9619ff-8b86-d011-b42d-00c04fc964ff'", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
    ("inet6", "'::1'", "::1"),
    ("point", "POINT(1, 2)", "'v' .* type point"),
]


async def test_what_mariadb_holds_arrives_or_is_refused(from_mariadb):
    surprises = []
    await from_mariadb.reports.execute("SET timezone = 'UTC'")
    for declared, value, expected in FROM_MARIADB:
        await from_mariadb.ops.execute("DROP TABLE IF EXISTS s")
        await from_mariadb.ops.execute(f"CREATE TABLE s (id int PRIMARY KEY, v {declared})")
        await from_mariadb.ops.execute("SET SESSION sql_mode = ''")
        await from_mariadb.ops.execute(f"INSERT INTO s VALUES (1, {value}), (2, NULL)")
        await from_mariadb.script("reports", "DROP TABLE IF EXISTS t")
        try:
            await from_mariadb.copy("s", "t")
            found = await from_mariadb.reports.scalar("SELECT v::text FROM t WHERE id = 1")
        except StepError as error:
            found = error.message
        same = found == expected or (found or "").removesuffix("+00") == expected
        if not same and not re.search(expected, found or ""):
            surprises.append((declared, value, expected, found))
    assert surprises == [], "\n" + "\n".join(map(str, surprises))


async def test_a_time_meets_an_interval_and_a_moment_an_instant_in_utc(from_mariadb):
    await from_mariadb.ops.execute("CREATE TABLE s (id int PRIMARY KEY, t time, at datetime)")
    await from_mariadb.ops.execute("INSERT INTO s VALUES (1, '-838:59:59', '2024-07-01 12:00:00')")
    await from_mariadb.script(
        "reports", "CREATE TABLE s (id int PRIMARY KEY, t interval, at timestamptz)"
    )
    await from_mariadb.copy("s", "s")
    row = await from_mariadb.reports.first(
        "SELECT t::text AS t, at = '2024-07-01 12:00Z' AS same FROM s"
    )
    assert dict(row) == {"t": "-838:59:59", "same": True}


async def test_numbers_and_presents_that_mariadb_makes_up(to_mariadb):
    await to_mariadb.script(
        "ops", "CREATE TABLE s (id int PRIMARY KEY, v text); INSERT INTO s VALUES (0, 'zero')"
    )
    await to_mariadb.reports.execute("CREATE TABLE s (id int PRIMARY KEY AUTO_INCREMENT, v text)")
    for mode in ("append", "overwrite", "upsert"):
        await to_mariadb.copy("s", "s", mode=mode)
        assert await to_mariadb.reports.scalar("SELECT id FROM s") == 0
    await to_mariadb.reports.execute("CREATE TABLE m (id int) ENGINE=MyISAM")
    with pytest.raises(StepError, match=r"without transactions"):
        await to_mariadb.copy({"query": "SELECT 1 AS id"}, "m")


async def test_keys_that_mariadb_takes_for_one(to_mariadb):
    await to_mariadb.script(
        "ops", "CREATE TABLE s (k text PRIMARY KEY); INSERT INTO s VALUES ('a'), ('A')"
    )
    await to_mariadb.reports.execute(
        "CREATE TABLE s (k varchar(5) COLLATE utf8mb4_general_ci PRIMARY KEY)"
    )
    for mode in ("append", "overwrite", "upsert"):
        with pytest.raises(StepError, match=r"(?i)duplicate|more than once"):
            await to_mariadb.copy("s", "s", mode=mode)
    await to_mariadb.script("ops", "DELETE FROM s WHERE k = 'A'")
    await to_mariadb.reports.execute("INSERT INTO s VALUES ('A')")
    assert (await to_mariadb.copy("s", "s")).output["updated"] == 1
    assert await to_mariadb.reports.scalar("SELECT k FROM s") == "a"


async def test_where_local_is_off_inserts_do(to_mariadb, mariadb_server):
    await to_mariadb.script(
        "ops",
        "CREATE TABLE s (id int PRIMARY KEY, v text, b bytea);"
        r"INSERT INTO s SELECT g, repeat(E'\t''\\', g % 50), '\x00ff' "
        r"FROM generate_series(1, 3000) g",
    )
    await mariadb_server.execute("SET GLOBAL local_infile = 0")
    try:
        await to_mariadb.copy("s", "s")
        found = await to_mariadb.reports.first(
            "SELECT count(*) AS n, sum(length(v)) AS l, min(hex(b)) AS b FROM s"
        )
        assert (found["n"], found["b"]) == (3000, "00FF")
        assert found["l"] == await to_mariadb.ops.scalar("SELECT sum(length(v)) FROM s")
        await to_mariadb.reports.execute("CREATE TABLE n (id int PRIMARY KEY, v varchar(2))")
        with pytest.raises(StepError, match=r"(?i)too long"):
            await to_mariadb.copy({"query": "SELECT id, v FROM s"}, "n")
    finally:
        await mariadb_server.execute("SET GLOBAL local_infile = 1")


SQLITE = [
    ("INTEGER", "'abc'", "row 1 .*'abc'.*'v'"),
    ("INTEGER", "1.5", "row 1 .*1.5.*'v'"),
    ("DATE", "'2024-01-01 10:00'", "'v'"),
    ("DATE", "20240101", "'v'"),
    ("TIMESTAMP", "'2024-01-01T10:00:00Z'", "'v'"),
    ("BOOLEAN", "7", "boolean"),
    ("TEXT", "X'00ff'", "'v'"),
    ("BLOB", "'text'", "'v'"),
    ("DECIMAL(5,2)", "'abc'", "no decimal"),
    ("JSON TEXT", "'{a'", "'v'"),
    ("TEXT", "char(0)", "0x00"),
]


async def test_what_sqlite_keeps_where_it_should_not_be_is_refused(sqlites, new_pg_url):
    pair = Pair(sqlites.urls["ops"], await new_pg_url())
    try:
        for declared, value, words in SQLITE:
            await pair.ops.execute("DROP TABLE IF EXISTS s")
            await pair.ops.execute(f"CREATE TABLE s (id INTEGER PRIMARY KEY, v {declared})")
            await pair.ops.execute(f"INSERT INTO s VALUES (1, {value})")
            with pytest.raises(StepError, match=words):
                await pair.copy("s", "s")
        await pair.ops.execute(
            "CREATE TABLE n (id INTEGER PRIMARY KEY, v DECIMAL(5, 2), r REAL, x)"
        )
        await pair.ops.execute("INSERT INTO n VALUES (1, '1.255', 0.1 + 0.2, 'any')")
        await pair.script(
            "reports", "CREATE TABLE n (id int PRIMARY KEY, v numeric(5, 2), r float8, x text)"
        )
        with pytest.raises(StepError, match=r"'v' .*1.255.*numeric\(5,2\)"):
            await pair.copy("n", "n")
        await pair.ops.execute("UPDATE n SET v = '1.25'")
        await pair.copy("n", "n")
        assert await pair.reports.scalar("SELECT r = 0.1::float8 + 0.2::float8 FROM n")
        await pair.script("reports", "CREATE TABLE short (id int, x varchar(3))")
        with pytest.raises(StepError, match="holds 'ab  '"):
            await pair.copy({"query": "SELECT 1 AS id, CAST('ab  ' AS TEXT) AS x"}, "short")
    finally:
        await pair.close()


# type and value at PostgreSQL, declared type at SQLite, what it then holds or None: refused
INTO_SQLITE = [
    ("text", "'007'", "INTEGER", 7),
    ("text", "'abc'", "INTEGER", None),
    ("text", "'5'", "JSON", None),
    ("numeric", "1234567890.123456", "NUMERIC", None),
    ("numeric", "12345678901.25", "NUMERIC", 12345678901.25),
    ("numeric", "1234567890.123456", "TEXT", "1234567890.123456"),
    ("float8", "0.1", "TEXT", "0.1"),
    ("float8", "'NaN'", "REAL", None),
    ("bigint", "9007199254740993", "REAL", None),
    ("bytea", "'\\x61'", "TEXT", None),
    ("date", "'infinity'", "DATE", "infinity"),
    ("timestamptz", "'2024-01-01 12:00+02'", "TEXT", "2024-01-01 10:00:00+00:00"),
    ("boolean", "true", "BOOLEAN", 1),
    ("boolean", "true", "BLOB", None),
]  # fmt: skip


async def test_what_sqlite_would_change_is_refused(sqlites, new_pg_url):
    pair = Pair(await new_pg_url(), sqlites.urls["reports"])
    surprises = []
    try:
        for source, value, target, expected in INTO_SQLITE:
            await pair.script(
                "ops",
                f"DROP TABLE IF EXISTS s; CREATE TABLE s (id int, v {source}); "
                f"INSERT INTO s VALUES (1, {value})",
            )
            await pair.reports.execute("DROP TABLE IF EXISTS t")
            await pair.reports.execute(f"CREATE TABLE t (id int, v {target})")
            try:
                await pair.copy("s", "t", mode="append")
                found = await pair.reports.scalar("SELECT v FROM t")
            except StepError as error:
                found = None if "'v'" in error.message else error.message
            if (found, type(found)) != (expected, type(expected)):
                surprises.append((source, value, target, expected, found))
    finally:
        await pair.close()
    assert surprises == [], "\n" + "\n".join(map(str, surprises))


NAMES = [
    'a"; drop--',
    "a.b",
    "SELECT",
    "Übung",
    "it's",
    "`tick`",
    "x" * 63,
    " ",
    "%s",
    ":x",
    "a\tb",
]


@pytest.mark.parametrize("kind", ["mariadb", "sqlite"])
async def test_names_are_used_to_the_letter(mariadb, sqlites, new_pg_url, kind):
    url = await mariadb() if kind == "mariadb" else sqlites.urls["reports"]
    there, back = Pair(await new_pg_url(), url), Pair(url, await new_pg_url())
    try:
        for name in NAMES:
            if kind == "mariadb" and name.endswith(" "):
                continue  # MySQL has no names that end in a blank
            quoted = '"' + name.replace('"', '""') + '"'
            await there.script(
                "ops",
                f"CREATE TABLE {quoted} (id int PRIMARY KEY, {quoted} text); "
                f"INSERT INTO {quoted} VALUES (1, 'x')",
            )
            for pair in (there, back):
                for _ in range(2):
                    await pair.copy(name, name, columns={"id": "id", name: name})
            assert await back.reports.scalar(f"SELECT {quoted} FROM {quoted}") == "x"
    finally:
        await there.close()
        await back.close()


@pytest.mark.parametrize("kind", ["mariadb", "sqlite"])
async def test_the_same_memory_whatever_the_table(mariadb, sqlites, new_pg_url, kind):
    url = await mariadb() if kind == "mariadb" else sqlites.urls["reports"]
    there, back = Pair(await new_pg_url(), url), Pair(url, await new_pg_url())
    await there.script(
        "ops",
        "CREATE TABLE wide (id int PRIMARY KEY, body text);"
        "INSERT INTO wide SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 60000) g",
    )
    for pair in (there, back):
        await pair.copy({"table": "wide", "where": "id <= 100"}, "warm")
        async with peak() as seen:
            await pair.copy("wide", "wide")
        assert seen["over"] < 40 * MB, seen
    await there.close()
    await back.close()


async def test_controls_that_mysql_has_no_escape_for_arrive(to_mariadb):
    """LOAD DATA would read the escapes of a vertical tab and a form feed as the letters v and f."""
    await to_mariadb.script(
        "ops",
        r"CREATE TABLE v (id int PRIMARY KEY, t text); "
        r"INSERT INTO v VALUES (1, E'a\x0bb\x0cc\x08d\x1ae\\vf\\\\f')",
    )
    for mode in ("overwrite", "append", "upsert"):
        await to_mariadb.copy("v", "v", mode=mode)
        row = await to_mariadb.reports.first("SELECT hex(t) AS t FROM v")
        assert bytes.fromhex(row["t"]) == b"a\x0bb\x0cc\x08d\x1ae\\vf\\\\f"
        if mode == "overwrite":
            await to_mariadb.reports.execute("DELETE FROM v")


async def test_a_function_stands_between_any_two(to_mariadb, sqlites):
    await to_mariadb.script(
        "ops",
        "CREATE TABLE s (id int, price numeric(9, 2), at timestamp, raw bytea); "
        "INSERT INTO s VALUES (1, 1.25, '2024-01-01 10:00', '\\x00ff')",
    )
    await to_mariadb.reports.execute(
        "CREATE TABLE s (id int PRIMARY KEY, price decimal(9,2), "
        "at datetime(6), raw blob, note varchar(9))"
    )
    for mode in ("overwrite", "append"):
        await to_mariadb.reports.execute("DELETE FROM s")
        python = calling(lambda row: {**row, "note": "seen"})
        await to_mariadb.copy("s", "s", transform="m:f", python=python, mode=mode)
        row = await to_mariadb.reports.first(
            "SELECT price, note, hex(raw) AS raw, CAST(at AS CHAR) AS at FROM s"
        )
        assert [str(value) for value in row.values()] == [
            "1.25",
            "seen",
            "00FF",
            "2024-01-01 10:00:00.000000",
        ]
    with pytest.raises(StepError, match=r"row 1 .*'many'.*'id'"):
        await to_mariadb.copy(
            "s", "s", transform="m:f", python=calling(lambda row: {**row, "id": "many"})
        )
    onward = Pair(to_mariadb.urls["reports"], sqlites.urls["reports"])
    await onward.copy(
        "s",
        "s",
        transform="m:f",
        python=calling(lambda row: {"id": row["id"], "half": row["price"] / 2}),
    )
    assert dict(await onward.reports.first("SELECT * FROM s")) == {"id": 1, "half": "0.625"}
    await onward.close()
