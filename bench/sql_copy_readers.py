"""What four readers notice of an overwrite: their longest wait, and rows that are not there."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from copying import Pair  # noqa: E402

from nomaflow.embedded.servers import EmbeddedServers  # noqa: E402
from nomaflow.steps.copying.postgres.guard import READERS_WAIT_MS  # noqa: E402

ROWS = int(os.environ.get("ROWS", "300000"))
CALM_MS = 50
TABLE = (
    "CREATE TABLE readme (id int PRIMARY KEY, name text, filler char(84)); "
    f"INSERT INTO readme SELECT g, 'name ' || g, '' FROM generate_series(1, {ROWS}) g; "
    "ANALYZE readme"
)
# Readers in a process of their own: what they wait for is the server, never our loop.
READERS = """
import asyncio, json, sys, time
import asyncpg
found = {"longest": 0.0, "looks": 0, "empty": 0, "errors": []}
async def read(url, until):
    connection = await asyncpg.connect(url)
    while not until.is_set():
        began = time.perf_counter()
        try:
            there = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM readme) AND EXISTS (SELECT FROM readme WHERE id = 7)")
            found["empty"] += not there
        except Exception as error:
            found["errors"].append(repr(error))
        found["longest"] = max(found["longest"], time.perf_counter() - began)
        found["looks"] += 1
        await asyncio.sleep(0.001)
    await connection.close()
async def main():
    until = asyncio.Event()
    readers = [asyncio.create_task(read(sys.argv[1], until)) for _ in range(4)]
    await asyncio.sleep(0.5)
    found["longest"] = 0.0
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    until.set()
    await asyncio.gather(*readers)
    print(json.dumps(found))
asyncio.run(main())
"""
Deed = Callable[[], Awaitable[object]]


async def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="nomaflow-bench-", dir="/tmp"))
    servers = EmbeddedServers(home)
    await servers.start()
    try:
        urls = []
        for name in ("readers_a", "readers_b"):
            connection = await asyncpg.connect(servers.database_url)
            await connection.execute(f"CREATE DATABASE {name}")
            await connection.close()
            urls.append(servers.database_url.replace("/nomaflow?", f"/{name}?"))
        pair = Pair(*urls)
        await pair.script("ops", TABLE)
        await pair.script("reports", TABLE)
        await bench(pair, urls[1])
        await pair.close()
    finally:
        await servers.stop()
        shutil.rmtree(home, ignore_errors=True)


async def bench(pair: Pair, target: str) -> None:
    """`calm` is the longest wait of the same readers while nothing is copied."""
    print(f"{'name':34} {'ours':>8} {'calm':>8} {'ratio':>6} {'target':>8}")
    for name, share in (("replaced by a new table", 1), ("changed in place, 1 %", 100)):
        await change(pair, share)
        await compare(name, CALM_MS, target, lambda: pair.copy("readme", "readme"))
    await pair.script("reports", "CREATE VIEW watching AS SELECT id FROM readme")
    await change(pair, 1)
    await compare("changed in place, 100 %", CALM_MS, target, lambda: pair.copy("readme", "readme"))
    await pair.script("reports", "DROP VIEW watching")
    await change(pair, 1)
    await compare(
        "replaced, a long reader in the way",
        READERS_WAIT_MS + 10,
        target,
        lambda: in_the_way(pair, target, 2.0),
    )
    for name, view in (("replaced", False), ("changed in place", True)):
        if view:
            await pair.script("reports", "CREATE VIEW watching AS SELECT id FROM readme")
        await change(pair, 1)
        rows = await old_snapshot(pair, target)
        print(f"{f'rows of an older snapshot, {name}':44} {rows:>8} {'':6} {ROWS:>8}", flush=True)


async def change(pair: Pair, share: int) -> None:
    await pair.script("ops", f"UPDATE readme SET name = name || '!' WHERE id % {share} = 0")


async def compare(name: str, most_ms: float, target: str, deed: Deed) -> None:
    began = time.monotonic()
    ours = await watched(target, deed)
    calm = await watched(target, lambda: asyncio.sleep(time.monotonic() - began))
    if ours["empty"] or ours["errors"]:
        raise SystemExit(f"{name}: {ours}")
    mine, base = (1000 * found["longest"] for found in (ours, calm))
    print(f"{name:34} {mine:6.0f}ms {base:6.0f}ms {mine / base:6.1f} {most_ms:6.0f}ms", flush=True)


async def watched(target: str, deed: Deed) -> dict[str, float]:
    """What the readers found while it was done."""
    readers = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READERS, target),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert readers.stdin is not None
    assert readers.stdout is not None
    await readers.stdout.readline()
    await deed()
    readers.stdin.close()
    found: dict[str, float] = json.loads(await readers.stdout.readline())
    await readers.wait()
    return found


async def in_the_way(pair: Pair, target: str, seconds: float) -> None:
    """A copy while somebody's transaction has read the table and stays open for a while."""
    reader = await asyncpg.connect(target)
    block = reader.transaction()
    await block.start()
    await reader.fetchval("SELECT count(*) FROM readme")
    copying = asyncio.create_task(pair.copy("readme", "readme"))
    # From when the copy asks for the whole table.
    asked = "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
    watcher = await asyncpg.connect(target)
    while not copying.done() and await watcher.fetchrow(asked) is None:  # noqa: ASYNC110
        await asyncio.sleep(0.005)  # nothing else tells
    await asyncio.sleep(seconds)
    await block.commit()
    await copying
    await watcher.close()
    await reader.close()


async def old_snapshot(pair: Pair, target: str) -> int:
    """How many rows a snapshot sees that is older than the copy."""
    reader = await asyncpg.connect(target)
    async with reader.transaction(isolation="repeatable_read"):
        await reader.fetchval("SELECT 1 FROM pg_class LIMIT 1")
        await pair.copy("readme", "readme")
        rows = await reader.fetchval("SELECT count(*) FROM readme")
    await reader.close()
    return int(rows)


if __name__ == "__main__":
    asyncio.run(main())
