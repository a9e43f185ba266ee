"""http_sync through a real worker, beside a hand-written loop of httpx and unnest, in one run.

Both read the same 100 000 items from the same stub (a process of its own), map them the same way
and upsert them into the same table with batches of the same size. Ours also keeps history,
checkpoints, progress and counts.
"""

import asyncio
import json
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx
import structlog

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from workshop import Workshop, working, workshop  # noqa: E402  a worker in this process

from nomaflow.embedded.servers import EmbeddedServers  # noqa: E402
from nomaflow.store import migrate  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "3"))
ITEMS = int(os.environ.get("ITEMS", "100000"))
SIZE = 1_000
WANTED = 0.7
TABLE = """CREATE TABLE public.users (external_id text PRIMARY KEY, email text, name text,
  status text, metadata jsonb, updated_at timestamptz)"""
JOB = """
[[jobs]]
name = "users"
[[jobs.steps]]
name = "sync"
type = "http_sync"
items = "data"
batch_size = {size}
request = {{ url = "{url}" }}
paginate = {{ type = "page", size = {size}, total = "total", concurrency = {concurrency} }}
target = {{ table = "users", key = ["external_id"] }}
[jobs.steps.map]
external_id = "id"
email = "lower(email)"
name = "join(' ', [first_name, last_name])"
status = "active && 'active' || 'inactive'"
metadata = "json({{source: 'external-system', original_id: id}})"
updated_at = "updated_at"
"""
BY_HAND = """
INSERT INTO public.users (external_id, email, name, status, metadata, updated_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[],
  $6::text[]::timestamptz[])
ON CONFLICT (external_id) DO UPDATE SET email = excluded.email, name = excluded.name,
  status = excluded.status, metadata = excluded.metadata, updated_at = excluded.updated_at
"""


async def main() -> None:
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)
    home = Path(tempfile.mkdtemp(prefix="nomaflow-bench-", dir="/tmp"))
    servers = EmbeddedServers(home)
    await servers.start()
    stub = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", stdout=subprocess.PIPE
    )
    try:
        assert stub.stdout is not None
        url = (await stub.stdout.readline()).decode().strip()
        await migrate.upgrade(servers.database_url)
        folder = home / "project"
        async with workshop(servers.database_url, servers.redis_url, folder) as shop, working(shop):
            await bench(shop, url)
    finally:
        stub.kill()
        await stub.wait()
        await servers.stop()
        shutil.rmtree(home, ignore_errors=True)


async def bench(shop: Workshop, url: str) -> None:
    await shop.db.execute(TABLE)
    await shop.db.execute("GRANT ALL ON public.users TO nomaflow_jobs")
    print(f"{'name':34} {'ours':>8} {'floor':>8} {'ratio':>6} {'target':>6}   (items/s; ratio up)")
    for name, concurrency, fresh in (
        ("sync, every item new", 1, True),
        ("sync, every item known", 1, False),
        ("sync, known, 3 pages at once", 3, False),
    ):
        await compare(shop, url, name, concurrency, fresh=fresh)


async def compare(shop: Workshop, url: str, name: str, concurrency: int, *, fresh: bool) -> None:
    await shop.declare(JOB.format(size=SIZE, url=url, concurrency=concurrency))
    await by_hand(shop, url)
    rates: dict[str, list[float]] = {"ours": [], "floor": []}
    peaks = []
    for _ in range(ROUNDS):
        for label, deed in (("floor", by_hand), ("ours", ours)):
            if fresh:
                await shop.db.execute("TRUNCATE public.users")
            else:
                await shop.db.execute("VACUUM public.users")
            await shop.db.execute("CHECKPOINT")
            started = time.perf_counter()
            await deed(shop, url)
            rates[label].append(ITEMS / (time.perf_counter() - started))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    mine, floor = statistics.median(rates["ours"]), statistics.median(rates["floor"])
    print(f"{name:34} {mine:8.0f} {floor:8.0f} {mine / floor:6.2f} {WANTED:6}")
    print(f"{'  peak RSS of this process, MB':34} {peaks[0]:8.0f} {peaks[-1]:8.0f} {'flat':>6}")


async def ours(shop: Workshop, _url: str) -> None:
    run = await shop.run("users", seconds=600)
    assert run["status"] == "succeeded", run["reason"]
    assert run["rows_affected"] == ITEMS


async def by_hand(shop: Workshop, url: str) -> None:
    connection = await asyncpg.connect(shop.database_url)
    async with httpx.AsyncClient(trust_env=False) as client:
        page, seen = 1, 0
        while True:
            reply = await client.get(url, params={"page": page, "limit": SIZE})
            body = reply.raise_for_status().json()
            items = body["data"]
            await connection.execute(
                BY_HAND,
                [i["id"] for i in items],
                [i["email"].lower() for i in items],
                [f"{i['first_name']} {i['last_name']}" for i in items],
                ["active" if i["active"] else "inactive" for i in items],
                [json.dumps({"source": "external-system", "original_id": i["id"]}) for i in items],
                [i["updated_at"] for i in items],
            )
            seen += len(items)
            page += 1
            if seen >= body["total"]:
                break
    await connection.close()
    assert seen == ITEMS


def pages() -> list[bytes]:
    """Every page as it goes over the wire, made before anyone asks."""
    made = []
    for first in range(0, ITEMS, SIZE):
        items = [
            {
                "id": f"u{n:07}",
                "email": f"User{n}@Example.COM",
                "first_name": f"First{n}",
                "last_name": f"Last{n}",
                "active": n % 3 != 0,
                "updated_at": "2026-01-01T00:00:00Z",
                "address": {"street": f"{n} High Street", "city": "Springfield", "zip": "12345"},
            }
            for n in range(first, min(first + SIZE, ITEMS))
        ]
        body = json.dumps({"data": items, "total": ITEMS}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        made.append(f"{head}\r\n\r\n".encode() + body)
    return made


async def serve() -> None:
    made = pages()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            number = int(head.split(b"page=")[1].split(b"&")[0].split(b" ")[0])
            writer.write(made[number - 1])
            await writer.drain()

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/users", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve() if "--serve" in sys.argv else main())
