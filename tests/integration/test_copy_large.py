"""Values of many megabytes: equal at the other side, or refused at once with their column and row.

MySQL's protocol splits packets at 16 MB, its functions answer NULL above max_allowed_packet, and
its REPLACE takes a time that grows with the square of a text's length.
"""

import asyncio
import hashlib
import time

import pytest
from copying import Pair
from test_copy_memory import MB, peak

from nomaflow.errors import StepError

PACKET = 16 * 2**20
LONG = 2**24 + 1000
"""Bytes of the shortest value that needs a length of eight bytes and two packets."""


@pytest.fixture
async def packet(mariadb_server):
    """Set what new connections to MariaDB may send at once; it is set back afterwards."""
    (before,) = (await mariadb_server.execute("SELECT @@GLOBAL.max_allowed_packet"))[0]

    async def change(size):
        await mariadb_server.execute(f"SET GLOBAL max_allowed_packet = {size}")

    yield change
    await change(before)


@pytest.fixture
async def pairs(new_pg_url, new_mariadb_url, tmp_path, packet):
    made = []

    async def make(source, target):
        urls = []
        for kind in (source, target):
            match kind:
                case "postgresql":
                    urls.append(await new_pg_url())
                case "mysql":
                    urls.append(await new_mariadb_url())
                case _:
                    urls.append(f"sqlite:///{tmp_path}/{len(made)}.db")
        made.append(Pair(*urls))
        return made[-1]

    yield make
    for pair in made:
        await pair.close()


async def sums(connector, table="s"):
    rows = await connector.all(f"SELECT id, a, b FROM {table} ORDER BY id")
    return [(row["id"], *(digest(row[name]) for name in "ab")) for row in rows]


def digest(value):
    if value is None:
        return None
    return hashlib.md5(value.encode() if isinstance(value, str) else bytes(value)).hexdigest()


TEXT = "é\t\n\\N " * 1000
ROWS = {
    1: ("short\t", b"\0\xff"),
    2: (None, None),
    3: ("x" * LONG, None),
    4: (TEXT * 40, bytes(range(256)) * 40_000),
    5: ("", b""),
}


async def fill(connector):
    await connector.execute("CREATE TABLE s (a longtext, b longblob, id int PRIMARY KEY)")
    for number, (a, b) in ROWS.items():
        await connector.execute(
            "INSERT INTO s VALUES (:a, :b, :id)", {"id": number, "a": a, "b": b}
        )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("target", ["postgresql", "mysql", "sqlite"])
async def test_rows_above_16_mb_leave_mariadb_and_arrive(pairs, packet, target):
    await packet(4 * PACKET)
    pair = await pairs("mysql", target)
    await fill(pair.ops)
    expected = await sums(pair.ops)
    assert expected[2][1] == digest("x" * LONG)
    for where in (None, "id > 1"):
        await pair.copy({"table": "s", "where": where} if where else "s", "s")
        assert await sums(pair.reports) == [row for row in expected if not where or row[0] > 1]


async def test_values_that_the_servers_functions_have_no_room_for(pairs, packet):
    """HEX of nine megabytes is longer than 16 MB and NULL to MariaDB; the value is none."""
    await packet(PACKET)
    pair = await pairs("mysql", "postgresql")
    await pair.ops.execute("CREATE TABLE s (id int PRIMARY KEY, a longtext, b longblob)")
    size = 9 * 2**20
    await pair.ops.execute(f"INSERT INTO s VALUES (1, REPEAT('x', {size}), NULL)")
    await pair.ops.execute(f"UPDATE s SET b = REPEAT('y', {size})")
    await pair.copy("s", "s")
    assert await sums(pair.reports) == [(1, digest("x" * size), digest("y" * size))]


async def test_a_text_of_many_lines_takes_no_time_that_grows_with_its_square(pairs):
    pair = await pairs("mysql", "postgresql")
    await pair.ops.execute("CREATE TABLE s (id int PRIMARY KEY, a longtext, b longblob)")
    await pair.ops.execute("INSERT INTO s VALUES (1, REPEAT('line\n', 800000), NULL)")
    started = time.monotonic()
    await pair.copy("s", "s")
    assert time.monotonic() - started < 10
    assert await sums(pair.reports) == [(1, digest("line\n" * 800_000), None)]


async def test_many_large_rows_are_read_some_at_a_time(pairs):
    pair = await pairs("mysql", "postgresql")
    await pair.ops.execute("CREATE TABLE s (id int PRIMARY KEY, a longtext)")
    for number in range(30):
        await pair.ops.execute(f"INSERT INTO s VALUES ({number}, 'small')")
    await pair.ops.execute("INSERT INTO s SELECT id + 100, REPEAT('x', 2000000) FROM s")
    await pair.copy({"table": "s", "where": "id < 101"}, "warm")
    async with peak() as seen:
        await pair.copy("s", "s")
    assert seen["over"] < 50 * MB, seen  # all of them are 60 MB
    assert await pair.reports.scalar("SELECT sum(length(a)) FROM s") == 30 * 2_000_005


async def test_a_statement_longer_than_the_server_takes_ends_at_once(pairs, packet):
    await packet(2**20)
    pair = await pairs("mysql", "mysql")
    async with asyncio.timeout(5):
        with pytest.raises(StepError, match="max_allowed_packet of 1048576") as caught:
            await pair.ops.scalar("SELECT LENGTH(:text)", {"text": "é" * 2**18})
    assert caught.value.category == "error"
    assert await pair.ops.scalar("SELECT LENGTH(:text)", {"text": "x" * 1_000_000}) == 1_000_000
