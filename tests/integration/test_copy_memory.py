"""Memory is bounded by configuration, not by data."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from copying import Pair
from test_copy_options import calling

PAGE = os.sysconf("SC_PAGE_SIZE")
MB = 1_000_000
ROWS, WIDTH = (5_000_000, 4) if os.environ.get("FULL") else (150_000, 30)
"""`make full` copies five million rows within the same bound."""


@pytest.fixture
async def pair(new_pg_url):
    made = Pair(await new_pg_url(), await new_pg_url())
    yield made
    await made.close()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@contextlib.asynccontextmanager
async def peak():
    """The highest resident size above the one at the beginning, in bytes."""
    seen = {"over": 0}
    start = resident()

    async def watch():
        while True:
            seen["over"] = max(seen["over"], resident() - start)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(watch())
    yield seen
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.timeout(900 if os.environ.get("FULL") else 120)
@pytest.mark.parametrize("mode", ["overwrite", "upsert"])
async def test_a_copy_takes_the_same_memory_whatever_the_table(pair, mode):
    await pair.script(
        "ops",
        "CREATE TABLE wide (id int PRIMARY KEY, body text);"
        f"INSERT INTO wide SELECT g, repeat(md5(g::text), {WIDTH}) "
        f"FROM generate_series(1, {ROWS}) g",
    )
    await pair.copy({"table": "wide", "where": "id <= 100"}, "wide")
    async with peak() as seen:
        result = await pair.copy("wide", "wide", mode=mode)
    assert result.output["source_rows"] == ROWS
    assert seen["over"] < 32 * MB, seen


async def test_a_function_that_makes_much_of_little_takes_no_more(pair):
    await pair.script(
        "ops", "CREATE TABLE small AS SELECT g AS id FROM generate_series(1, 150000) g"
    )
    python = calling(lambda row: {"id": row["id"], "body": "b" * 500})
    some = {"query": "SELECT * FROM small WHERE id <= 30000"}
    await pair.copy(some, "grown", transform="m:f", python=python)
    async with peak() as seen:
        result = await pair.copy("small", "grown", transform="m:f", python=python)
    assert result.output["target_rows"] == 150_000
    # The function itself runs in this process here: a portion of its rows is in it too.
    assert seen["over"] < 64 * MB, seen
