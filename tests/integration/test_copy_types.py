"""Every pair of types ends in equal values or in an error that names the column; never silently."""

import pytest
from copying import Pair

from nomaflow.errors import StepError

# Types a column may have, with values at their edges; both sides get the very same type.
SAME = {
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "0"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "numeric": ["1.0", "1.00", "'NaN'", "'Infinity'", "12345678901234567890.123456789"],
    "numeric(12,2)": ["9999999999.99", "-0.01"],
    "real": ["'NaN'", "'-Infinity'", "1e-45", "0.1", "'-0'"],
    "double precision": ["'NaN'", "'Infinity'", "5e-324", "0.1", "'-0'"],
    "money": ["'12.34'", "-1"],
    "boolean": ["true", "false"],
    "text": ["''", "E'\\t\\n\\r\\\\N \\x01'", "'é 表 😀'", "repeat('x', 10000)"],
    "varchar(10)": ["'ab  '", "'é表'"],
    "character(5)": ["'ab'", "'     '"],
    '"char"': ["'a'"],
    "name": ["'n'"],
    "bytea": ["''", "'\\x00ff0a5c'"],
    "date": ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"],
    "time": ["'24:00:00'", "'00:00:00.000001'"],
    "timetz": ["'01:02:03.4+13:59'"],
    "timestamp": ["'infinity'", "'4713-01-01 00:00:00 BC'", "'2024-02-29 23:59:59.999999'"],
    "timestamp(0)": ["'2024-02-29 23:59:59'"],
    "timestamptz": ["'-infinity'", "'0044-03-15 BC'", "'2024-03-31 02:30:00+01'"],
    "interval": ["'1 mon'", "'30 days'", "'-1 year 2 days -03:04:05.6'", "'24:00'"],
    "interval day to second(2)": ["'1 day 02:03:04.05'"],
    "uuid": ["'6f9619ff-8b86-d011-b42d-00c04fc964ff'"],
    "json": ['\'{"b":1, "a":  2, "a":3}\'', "'null'"],
    "jsonb": ['\'{"b":1.00, "a":[null]}\''],
    "inet": ["'10.0.0.1/8'", "'::1'"],
    "cidr": ["'10.0.0.0/8'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "bit(4)": ["'1010'"],
    "varbit": ["''", "'10101'"],
    "point": ["'(1,2)'"],
    "polygon": ["'((0,0),(1,1),(1,0))'"],
    "int4range": ["'empty'", "'[1,5)'", "'(,)'"],
    "tstzrange": ["'[2024-01-01Z,)'"],
    "int4multirange": ["'{[1,2),[5,7)}'"],
    "tsvector": ["'a:1 fat:2'"],
    "tsquery": ["'a & b'"],
    "jsonpath": ["'$.a[*]'"],
    "pg_lsn": ["'16/B374D848'"],
    "integer[]": ["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[0:1]={5,6}'"],
    "text[]": ['\'{"a,b",NULL,""}\''],
    "numeric(5,1)[]": ["'{1.5,NULL}'"],
    "oid": ["4294967295"],
    "mood": ["'sad'", "'it''s ok'"],
    "mood[]": ["'{sad,NULL}'"],
    "price": ["1.50"],
    "price[]": ["'{1.50,2.00}'"],
    "pair_of": ["'(1,\"a,b\")'", "'(,)'"],
    "floatrange": ["'[1.5,2.5]'"],
    "regclass": ["'pg_class'", "'other'"],
    "regtype": ["'integer'", "'mood'"],
    "aclitem": ["'=r/{owner}'"],
}
# The numbers of these types differ between the two databases, on purpose.
SCRAP = "CREATE TABLE scrap_{n} (a int); CREATE TYPE scrap_type_{n} AS ENUM ('z');"
TYPES = """
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
    CREATE DOMAIN price AS numeric(10, 2) CHECK (VALUE >= 0);
    CREATE TYPE pair_of AS (a int, b text);
    CREATE TYPE floatrange AS RANGE (subtype = float8);
    CREATE TABLE other (a int);
"""


@pytest.fixture
async def pair(new_pg_url):
    made = Pair(await new_pg_url(), await new_pg_url())
    await made.script("reports", "".join(SCRAP.format(n=n) for n in range(7)))
    for side in ("ops", "reports"):
        await made.script(side, TYPES)
    yield made
    await made.close()


async def _fill(pair, table, type_name, values):
    owner = await pair.ops.scalar("SELECT current_user")
    rows = ", ".join(f"({n}, {value})" for n, value in enumerate([*values, "NULL"]))
    await pair.script(
        "ops",
        f"CREATE TABLE {table} (id int PRIMARY KEY, v {type_name});"
        f"INSERT INTO {table} VALUES {rows}".replace("{owner}", owner),
    )


async def test_every_type_arrives_as_it_left(pair):
    for number, (type_name, values) in enumerate(SAME.items()):
        table = f"t{number}"
        await _fill(pair, table, type_name, values)
        for path in ("created", "in_place", "append"):
            if path == "append":
                await pair.script("reports", f"DELETE FROM {table}")
            mode = "append" if path == "append" else "overwrite"
            result = await pair.copy(table, table, mode=mode)
            assert result.output["path"] == path, type_name
            same = await pair.sum_of("ops", table) == await pair.sum_of("reports", table)
            assert same, (type_name, path, await pair.reports.all(f"SELECT v::text FROM {table}"))
        declared = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attnum = 2 AND "
        declared += f"attrelid = '{table}'::regclass"
        assert await pair.ops.scalar(declared) == await pair.reports.scalar(declared)


# source type, target type, values that arrive, what they then read as text, values refused
PAIRS = [
    ("int8", "timestamptz", [], [], ["5"]),
    ("int8", "float8", ["5"], ["5"], ["9007199254740993"]),
    ("float8", "int8", ["5.0"], ["5"], ["1.5"]),
    ("float8", "numeric", ["0.1", "1.2345678901234567"], ["0.1", "1.2345678901234567"], []),
    ("float8", "numeric(10,1)", ["0.5"], ["0.5"], ["0.25"]),
    ("float8", "real", ["0.5"], ["0.5"], ["0.1"]),
    ("timestamp", "timestamptz", ["'2024-01-01 12:00'"], ["2024-01-01 12:00:00{zone}"], []),
    ("timestamptz", "date", ["'2024-01-01'"], ["2024-01-01"], ["'2024-01-01 12:00'"]),
    ("timestamp", "date", ["'2024-01-01'"], ["2024-01-01"], ["'2024-01-01 12:00'"]),
    (
        "timestamp",
        "timestamp(0)",
        ["'2024-01-01'"],
        ["2024-01-01 00:00:00"],
        ["'2024-01-01 0:0:0.5'"],
    ),
    ("text", "integer", ["'12'"], ["12"], ["'abcd'", "'1.5'"]),
    ("text", "date", ["'2024-01-02'"], ["2024-01-02"], ["'2024-01-02 10:00'"]),
    (
        "text",
        "timestamp",
        ["'2024-01-02 10:00 PM'"],
        ["2024-01-02 22:00:00"],
        ["'2024-01-02 10:00+02'"],
    ),
    ("text", "time", ["'10:00'"], ["10:00:00"], ["'2024-01-02 10:00'", "'10:00+02'"]),
    ("text", "timestamptz", ["'2024-01-02 10:00+00'"], None, ["'soon'"]),
    ("text", "numeric(5,2)", ["'1.5'"], ["1.50"], ["'1.257'", "'12345'"]),
    ("text", "varchar(2)", ["'ab'"], ["ab"], ["'abc'", "'ab '"]),
    ("text", "character(3)", ["'ab'"], ["ab"], ["'abcd'"]),
    ("text", "uuid", ["'6f9619ff-8b86-d011-b42d-00c04fc964ff'"], None, ["'x'"]),
    ("text", "jsonb", ["'{\"a\": 1}'"], ['{"a": 1}'], ["'{a}'"]),
    ("text", "mood", ["'sad'"], ["sad"], ["'glad'"]),
    ("text", "integer[]", ["'{1,2}'"], ["{1,2}"], ["'1,2'"]),
    ("text", "name", ["'n'"], ["n"], ["repeat('x', 70)"]),
    ("text", "price", ["'1.5'"], ["1.50"], ["'-1'", "'1.001'"]),
    ("text", "boolean", ["'yes'"], ["true"], ["'maybe'"]),
    ("text", "regclass", ["'other'"], ["other"], ["'nowhere'"]),
    ("character(5)", "text", ["'ab'"], ["ab"], []),
    ("character(5)", "varchar(2)", ["'ab'"], ["ab"], ["'abc'"]),
    ("varchar(10)", "varchar(3)", ["'abc'"], ["abc"], ["'abcd'"]),
    ("varchar(3)", "varchar(10)", ["'abc'"], ["abc"], []),
    ("date", "integer", [], [], ["'2024-01-01'"]),
    ("date", "timestamptz", ["'2024-01-01'"], ["2024-01-01 00:00:00{zone}"], []),
    ("uuid", "interval", [], [], ["'6f9619ff-8b86-d011-b42d-00c04fc964ff'"]),
    ("uuid", "text", ["'6f9619ff-8b86-d011-b42d-00c04fc964ff'"], None, []),
    ("jsonb", "text", ["'{\"a\":1}'"], ['{"a": 1}'], []),
    ("jsonb", "json", ["'{\"a\":1}'"], ['{"a": 1}'], []),
    ("json", "jsonb", ["'{\"a\":1}'"], ['{"a": 1}'], ["'\"\\u0000\"'"]),
    ("boolean", '"char"', [], [], ["true"]),
    ("boolean", "integer", ["true"], ["1"], []),
    ("integer", "boolean", ["1"], ["true"], ["5"]),
    ("boolean", "text", ["true"], ["true"], []),
    ("money", "bigint", [], [], ["12"]),
    ("money", "numeric", ["12.34"], ["12.34"], []),
    ("integer", "bigint", ["7"], ["7"], []),
    ("bigint", "integer", ["7"], ["7"], ["3000000000"]),
    ("bigint", "smallint", ["7"], ["7"], ["40000"]),
    ("integer", "numeric(4,1)", ["7"], ["7.0"], ["12345"]),
    ("integer[]", "bigint[]", ["'{1,NULL}'"], ["{1,NULL}"], []),
    ("numeric[]", "integer[]", ["'{1,2}'"], ["{1,2}"], ["'{1.5}'"]),
    ("numeric(12,2)[]", "numeric(12,1)[]", ["'{1.50}'"], ["{1.5}"], ["'{1.55}'"]),
    ("numeric(12,2)", "numeric(10,1)", ["1.50"], ["1.5"], ["1.25", "9999999999.99"]),
    ("numeric(12,2)", "numeric(14,4)", ["1.25"], ["1.2500"], []),
    ("numeric", "numeric(10,2)", ["1.25", "'NaN'"], ["1.25", "NaN"], ["1.255"]),
    ("numeric", "bigint", ["5.0"], ["5"], ["5.5", "'NaN'"]),
    ("numeric", "double precision", ["0.5"], ["0.5"], ["0.12345678901234567890"]),
    ("inet", "cidr", ["'10.0.0.0/8'"], ["10.0.0.0/8"], ["'10.0.0.1/8'"]),
    ("inet", "text", ["'10.0.0.1'"], ["10.0.0.1/32"], []),
    ("bit(4)", "bit(8)", [], [], ["'1010'"]),
    ("bit(8)", "bit(4)", [], [], ["'10100000'"]),
    ("bit(4)", "varbit", ["'1010'"], ["1010"], []),
    ("interval", "time", [], [], ["'25:00'"]),
    ("interval", "interval(0)", ["'1 day 2 sec'"], ["1 day 00:00:02"], ["'0.5 sec'"]),
    ("interval", "text", ["'1 mon'"], ["1 mon"], []),
    ("polygon", "point", [], [], ["'((0,0),(1,1),(1,0))'"]),
    ("point", "text", ["'(1,2)'"], ["(1,2)"], []),
    ("bytea", "text", ["'\\x00ff'"], ["\\x00ff"], []),
    ("mood", "text", ["'it''s ok'"], ["it's ok"], []),
    ("mood", "varchar(3)", ["'sad'"], ["sad"], ["'it''s ok'"]),
    ("mood", "integer", [], [], ["'sad'"]),
    ("mood", "other_mood", ["'sad'"], ["sad"], ["'it''s ok'"]),
    ("mood[]", "text[]", ["'{sad}'"], ["{sad}"], []),
    ("price", "numeric(10,1)", ["1.50"], ["1.5"], ["1.55"]),
    ("numeric(10,2)", "price", ["1.55"], ["1.55"], ["-1"]),
    ("pair_of", "text", ["'(1,a)'"], ["(1,a)"], []),
    ("regclass", "text", ["'other'"], ["other"], []),
    ("tsvector", "text", ["'a:1'"], ["'a':1"], []),
    ("integer", "integer[]", [], [], ["1"]),
]


@pytest.mark.parametrize("one_database", [False, True])
async def test_types_that_differ_end_in_the_same_value_or_in_an_error(pair, one_database):
    await pair.script("reports", "CREATE TYPE other_mood AS ENUM ('sad', 'glad')")
    await pair.script("ops", "CREATE TYPE other_mood AS ENUM ('sad', 'glad')")
    target_side = "ops" if one_database else "reports"
    there = pair.ops if one_database else pair.reports
    zone = await pair.ops.scalar("SELECT to_char('2024-01-01'::timestamptz, 'TZH')")
    surprises = []
    for number, (source, target, good, read_as, bad) in enumerate(PAIRS):
        for values, is_good in ((good, True), *(([value], False) for value in bad)):
            if not values:
                continue
            await _fill(pair, "s", source, values)
            await pair.script(target_side, f"CREATE TABLE t (id int PRIMARY KEY, v {target})")
            end = {"connector": target_side, "table": "t"}
            try:
                await pair.copy("s", end)
                rows = await there.all("SELECT v::text AS v FROM t ORDER BY id")
                found = [row["v"] for row in rows]
            except StepError as error:
                found = error.message
            if not is_good:
                if not isinstance(found, str) or ("'v'" not in found and " v" not in found):
                    surprises.append((number, source, target, values, found))
            elif isinstance(found, str):
                surprises.append((number, source, target, values, found))
            elif read_as is not None:
                expected = [*(text.replace("{zone}", zone) for text in read_as), None]
                if found != expected:
                    surprises.append((number, source, target, expected, found))
            await pair.script("ops", "DROP TABLE s")
            await pair.script(target_side, "DROP TABLE t")
    assert surprises == [], "\n" + "\n".join(map(str, surprises))


async def test_types_that_only_the_source_has(pair):
    await pair.script(
        "ops",
        "CREATE TYPE hue AS ENUM ('red'); CREATE TYPE box_of AS (a int);"
        "CREATE TABLE h (id int, v hue); INSERT INTO h VALUES (1, 'red');"
        "CREATE TABLE b (id int, v box_of)",
    )
    await pair.copy("h", "h")
    assert await pair.reports.first("SELECT v, pg_typeof(v)::text AS t FROM h") == {
        "v": "red",
        "t": "text",
    }
    with pytest.raises(StepError, match="'v' has the type box_of"):
        await pair.copy("b", "b")
    await pair.copy({"query": "SELECT id, v::text FROM b"}, "b")


async def test_a_query_that_says_nothing_of_lengths_is_checked_row_by_row(pair):
    await pair.script("reports", "CREATE TABLE t (id int PRIMARY KEY, v numeric(5, 1))")
    with pytest.raises(StepError, match=r"'v' \(numeric\) holds '1.25'.*numeric\(5,1\)"):
        await pair.copy({"query": "SELECT 1 AS id, 1.25 AS v"}, "t")
    await pair.copy({"query": "SELECT 1 AS id, 1.5 AS v"}, "t")
    assert await pair.reports.scalar("SELECT v::text FROM t") == "1.5"


async def test_generated_and_dropped_columns_do_not_shift_the_others(pair):
    await pair.script(
        "ops",
        "CREATE TABLE g (a int, gone text, b text, twice int GENERATED ALWAYS AS (a * 2) STORED);"
        "ALTER TABLE g DROP COLUMN gone; INSERT INTO g VALUES (1, 'x')",
    )
    await pair.script(
        "reports",
        "CREATE TABLE g (b text, twice int GENERATED ALWAYS AS (a * 2) STORED, extra int DEFAULT 5,"
        " a int); ALTER TABLE g DROP COLUMN extra; ALTER TABLE g ADD extra int DEFAULT 9",
    )
    for _ in range(2):
        await pair.copy("g", "g")
        row = await pair.reports.first("SELECT a, b, twice, extra FROM g")
        assert row == {"a": 1, "b": "x", "twice": 2, "extra": 9}


async def test_equal_but_differently_spelled_values_are_taken_over(pair):
    await pair.script(
        "ops",
        "CREATE TABLE n (id numeric PRIMARY KEY, v numeric, i interval, j json);"
        "INSERT INTO n VALUES (1.0, 1.0, '1 mon', '{}')",
    )
    await pair.copy("n", "n")
    await pair.script("reports", "CREATE VIEW keep AS SELECT * FROM n")
    await pair.script("ops", "UPDATE n SET id = 1.00, v = 1.00, i = '30 days', j = '{ }'")
    result = await pair.copy("n", "n")
    assert result.output["updated"] == 1
    assert await pair.sum_of("ops", "n") == await pair.sum_of("reports", "n")
    assert (await pair.copy("n", "n", mode="upsert")).output["updated"] == 0
