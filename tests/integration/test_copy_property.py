"""Random tables of every type, copied there and back: equal, or an error that names the column.

About 20 seconds; COPIES=long tries some hundred times as many.
"""

import asyncio
import os
import re
import secrets
import string

import asyncpg
import pytest
from copying import Pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nomaflow.errors import StepError

EXAMPLES = 1500 if os.environ.get("COPIES") == "long" else 6
quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 100,
    suppress_health_check=list(HealthCheck),
)


def one_of(*values):
    return st.sampled_from([str(value) for value in values])


def integers(bits):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return one_of(low, high, 0, -1) | st.integers(low, high).map(str)


def decimals(digits, scale, *extra):
    most = 10 ** (digits - scale) - 1
    places = {"allow_nan": False, "allow_infinity": False, "places": scale}
    found = st.decimals(-most, most, **places).map(lambda value: format(value, "f"))
    return one_of(0, f"-{most}", *extra) | found


def floats(width):
    edges = one_of("NaN", "Infinity", "-Infinity", "-0", "0.1", "1e-30", "3.4e38", "16777217")
    return edges | st.floats(width=width, allow_nan=False, allow_infinity=False).map(repr)


ODD = one_of(
    "", " ", "ab  ", "\\N", "\\.", "\t", "\n", "\r\n", "\\", "\\x41", "NULL", "'", '"', "0", "1.50",
    "é表😀", "a\u0300", "\u0085", "\u2028", "%s", ":x", "nan", "infinity", "1e5", "\x7f", "\x01",
)  # fmt: skip
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def texts(most=None):
    found = ODD | st.text(LETTERS, max_size=most or 30)
    return found if most is None else found.filter(lambda value: len(value) <= most)


def days(*extra):
    return one_of("1970-01-01", "2024-02-29", "0001-01-01", "9999-12-31", *extra) | st.dates().map(
        str
    )


FAR = ("infinity", "-infinity", "4713-01-01 BC", "0044-03-15 BC")
MOMENTS = one_of("2024-02-29 23:59:59.999999", "1969-12-31 23:59:59", "2038-01-19 03:14:08", *FAR)
MOMENTS |= st.datetimes().map(str)
TYPES = {
    "smallint": integers(16),
    "integer": integers(32),
    "bigint": integers(64),
    "numeric": decimals(38, 9, "NaN", "1.0", "1.00", "12345678901234567890.123456789", "1e40"),
    "numeric(12,2)": decimals(12, 2),
    "numeric(15,3)": decimals(15, 3),
    "numeric(24,5)": decimals(24, 5),
    "real": floats(32),
    "double precision": floats(64) | one_of("5e-324", "1.7976931348623157e308"),
    "boolean": one_of("true", "false"),
    "text": texts(),
    "varchar(8)": texts(8),
    "character(4)": texts(4),
    "bytea": st.binary(max_size=20).map(lambda value: "\\x" + value.hex()),
    "date": days(*FAR, "5874897-12-31"),
    "time": one_of("24:00:00", "00:00:00.000001", "23:59:59.999999") | st.times().map(str),
    "timestamp": MOMENTS,
    "timestamp(0)": st.datetimes().map(lambda value: str(value.replace(microsecond=0))),
    "timestamptz": MOMENTS.map(lambda value: value if value in FAR else f"{value}+02"),
    "interval": one_of("1 mon", "30 days", "-1 year 2 days -03:04:05.6", "24:00", "838:59:59"),
    "uuid": st.uuids().map(str),
    "json": one_of('{"b":1, "a":  2, "a":3}', "null", '"\\u00e9"', "[1e400, 1.10]", "5", "1.0"),
    "jsonb": one_of('{"b": 1.00, "a": [null, "x\\ty"]}', "null", "[]", "5", '"a"'),
    "inet": one_of("10.0.0.1/8", "::1", "192.168.0.1"),
    "integer[]": one_of("{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}"),
    "text[]": one_of('{"a,b",NULL,""}', "{}"),
    "int4range": one_of("empty", "[1,5)", "(,)"),
    "mood": one_of("sad", "it's ok"),
    "bit(4)": one_of("1010", "0000"),
    "money": one_of("12.34", "-1"),
}
FAMILIES = (
    ("smallint", "integer", "bigint", "numeric", "numeric(12,2)", "numeric(5,1)", "real",
     "double precision", "text", "varchar(8)"),
    ("date", "timestamp", "timestamp(0)", "timestamptz", "text"),
    ("json", "jsonb", "text"),
    ("uuid", "text"),
    ("boolean", "integer", "text"),
)  # fmt: skip


@st.composite
def tables(draw, types=tuple(TYPES)):
    """Types of the columns, and rows of texts or None."""
    columns = draw(st.lists(st.sampled_from(types), min_size=1, max_size=5))
    cell = [st.none() | TYPES[name] for name in columns]
    rows = draw(st.lists(st.tuples(*cell), max_size=6))
    return columns, rows


class Laboratory:
    """Databases that live as long as the module, and a loop to work in."""

    def __init__(self, admin, runner):
        self.admin, self.runner = admin, runner
        self.databases = []

    def run(self, deed):
        return self.runner.run(deed)

    async def database(self):
        name = f"user_{secrets.token_hex(6)}"
        connection = await asyncpg.connect(self.admin)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        self.databases.append(name)
        url = re.sub(r"/[^/?]*\?", f"/{name}?", self.admin)
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TYPE mood AS ENUM ('sad', 'it''s ok')")
        await connection.close()
        return url

    async def drop(self):
        connection = await asyncpg.connect(self.admin)
        for name in self.databases:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@pytest.fixture(scope="module")
def laboratory(servers):
    with asyncio.Runner() as runner:
        made = Laboratory(servers.database_url, runner)
        yield made
        runner.run(made.drop())


async def fill(pair, columns, rows):
    names = ", ".join(f"c{n} {name}" for n, name in enumerate(columns))
    await pair.script(
        "ops", f"DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, {names})"
    )
    for number, row in enumerate(rows):
        values = ", ".join(f"CAST(:c{n} AS text)::{name}" for n, name in enumerate(columns))
        given = {f"c{n}": value for n, value in enumerate(row)}
        await pair.ops.execute(f"INSERT INTO t VALUES ({number}, {values})", given)


async def content(connector, columns, table="t"):
    """The rows as text.

    A numeric without its trailing zeros and a zero without its sign, which no other database keeps.
    """
    spelled = {"numeric": "trim_scale({c})::text", "json": "{c}::jsonb::text"}
    spelled |= dict.fromkeys(("real", "double"), "CASE WHEN {c} = 0 THEN '0' ELSE {c}::text END")
    values = ", ".join(
        spelled.get(re.match(r"\w+", name).group(), "{c}::text").format(c=f"c{n}")
        for n, name in enumerate(columns)
    )
    rows = await connector.all(f"SELECT ROW({values})::text AS r FROM {table} ORDER BY id")
    return [row["r"] for row in rows]


def check_names_a_column(error):
    assert re.search(r"\bc\d\b", error.message) is not None, error


@pytest.fixture(scope="module")
def postgres(laboratory):
    async def make():
        return Pair(await laboratory.database(), await laboratory.database())

    pair = laboratory.run(make())
    yield pair
    laboratory.run(pair.close())


@quick
@given(tables())
def test_from_postgresql_to_postgresql(laboratory, postgres, table):
    columns, rows = table

    async def there():
        await fill(postgres, columns, rows)
        await postgres.script("reports", "DROP TABLE IF EXISTS t")
        for mode in ("overwrite", "overwrite", "upsert", "append"):
            if mode == "append":
                await postgres.script("reports", "DELETE FROM t")
            await postgres.copy("t", "t", mode=mode)
            assert await postgres.sum_of("ops", "t") == await postgres.sum_of("reports", "t")

    laboratory.run(there())


@quick
@given(st.data())
def test_into_another_type_a_value_is_the_same_or_refused(laboratory, postgres, data):
    family = data.draw(st.sampled_from(FAMILIES))
    source = data.draw(st.sampled_from([name for name in family if name in TYPES]))
    target = data.draw(st.sampled_from(family))
    rows = data.draw(st.lists(st.tuples(st.none() | TYPES[source]), max_size=3))

    async def there():
        await fill(postgres, [source], rows)
        await postgres.script(
            "reports", f"DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, c0 {target})"
        )
        try:
            await postgres.copy("t", "t")
        except StepError as error:
            check_names_a_column(error)
            return
        if source == "text":  # the text may say the same otherwise: 007, 2024-1-1
            return
        await postgres.script(
            "reports",
            f"DROP TABLE IF EXISTS b; CREATE TABLE b AS SELECT id, c0::text::{source} AS c0 FROM t",
        )
        back = await content(postgres.reports, [source], "b")
        assert back == await content(postgres.ops, [source]), (source, target)

    laboratory.run(there())


async def there_and_back(pair, home, columns, rows):
    """From PostgreSQL into a new table of another database, and from there into the old types."""
    await fill(pair, columns, rows)
    await pair.reports.execute("DROP TABLE IF EXISTS t")
    await home.script("reports", "DROP TABLE IF EXISTS t")
    names = ", ".join(f"c{n} {name}" for n, name in enumerate(columns))
    await home.script("reports", f"CREATE TABLE t (id int PRIMARY KEY, {names})")
    try:
        await pair.copy("t", "t")
        again = await pair.copy("t", "t")
        await home.copy("t", "t")
    except StepError as error:
        check_names_a_column(error)
        return
    changed = {again.output[word] for word in ("inserted", "updated", "deleted")}
    assert changed == {0}, (columns, again.output)
    assert await content(home.reports, columns) == await content(pair.ops, columns), columns


def abroad(laboratory, url):
    async def make():
        pair = Pair(await laboratory.database(), url)
        return pair, Pair(url, await laboratory.database())

    return laboratory.run(make())


@pytest.fixture(scope="module")
def sqlite(laboratory, tmp_path_factory):
    pair, home = abroad(laboratory, f"sqlite:///{tmp_path_factory.mktemp('property')}/p.db")
    yield pair, home
    laboratory.run(pair.close())
    laboratory.run(home.close())


@pytest.fixture(scope="module")
def mariadb(laboratory, mariadb_server):
    name = "property_" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(8))
    laboratory.run(mariadb_server.execute(f"CREATE DATABASE {name}"))
    pair, home = abroad(laboratory, mariadb_server.url(name))
    yield pair, home
    laboratory.run(pair.close())
    laboratory.run(home.close())
    laboratory.run(mariadb_server.execute(f"DROP DATABASE {name}"))


@quick
@given(tables())
def test_from_postgresql_to_sqlite_and_back(laboratory, sqlite, table):
    laboratory.run(there_and_back(*sqlite, *table))


@quick
@given(tables())
def test_from_postgresql_to_mariadb_and_back(laboratory, mariadb, table):
    laboratory.run(there_and_back(*mariadb, *table))


# One column at a time meets an edge value far more often than five together.
SINGLE = [(name, target) for name in TYPES for target in ("sqlite", "mariadb")]


@pytest.mark.parametrize(("name", "target"), SINGLE)
def test_each_type_alone(laboratory, request, name, target):
    pair, home = request.getfixturevalue(target)

    @settings(quick, max_examples=max(1, EXAMPLES // 10))
    @given(st.lists(st.tuples(TYPES[name]), min_size=1, max_size=2))
    def there(rows):
        laboratory.run(there_and_back(pair, home, [name], rows))

    there()
