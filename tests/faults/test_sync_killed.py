"""A worker is killed in the middle of a sync: another goes on at the page, the rows are exact."""

import asyncio
import contextlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field

import pytest
import size
from house import House

PAGES, SIZE = 100, 20
JOB = """
[[jobs]]
name = "users"
[[jobs.steps]]
name = "sync"
type = "http_sync"
items = "data"
batch_size = 10
on_error = "continue"
request = { url = "URL" }
paginate = { type = "page", size = 20, total = "total", concurrency = AT_ONCE }
map = { id = "id", page = "page" }
target = { table = "users", key = ["id"] }
watermark = { name = "last_sync" }
log_table = { table = "sync_logs" }
"""
TABLES = (
    "CREATE TABLE public.users (id int PRIMARY KEY, page int CHECK (page <> 7), writes int)",
    """CREATE TABLE public.sync_logs (sync_id bigint, status text, records_processed int,
       pages int, duration_seconds numeric, errors jsonb, completed_at timestamptz)""",
    """GRANT ALL ON ALL TABLES IN SCHEMA public TO nomaflow_jobs""",
)


@dataclass
class Api:
    """A hundred pages; a page in `holds` is not answered before it was let go."""

    holds: dict[int, asyncio.Event] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                page = int(re.search(rb"[?&]page=(\d+)", head).group(1))
                self.asked.append(page)
                if page in self.holds and not self.holds[page].is_set():
                    self.reached.set()
                    await self.holds[page].wait()
                first = (page - 1) * SIZE
                items = [{"id": n, "page": page} for n in range(first, first + SIZE)]
                body = json.dumps({"data": items, "total": PAGES * SIZE}).encode()
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()


async def came_to(home: House, run_id: object, page: int) -> None:
    """Wait until the page before the one that hangs is written and kept in mind."""
    query = "SELECT (checkpoint ->> 'pages')::int FROM step_runs WHERE run_id = $1"
    async with asyncio.timeout(30):
        while await home.db.fetchval(query, run_id) != page:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("at_once", size.pick([3], [1, 3]))
async def test_killed_on_page_60_it_goes_on_there(home: House, figures, at_once):
    """Also when later pages were there already: what counts is the page whose turn it was."""
    home.settings["NOMAFLOW_LEASE_SECONDS"] = "3"
    api = Api(holds={30: asyncio.Event(), 60: asyncio.Event()})
    server = await asyncio.start_server(api.answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/users"
    for statement in TABLES:
        await home.db.execute(statement)
    await home.declare(JOB.replace("URL", url).replace("AT_ONCE", str(at_once)))
    await home.start("worker")
    run_id = await home.trigger("users")
    again = []
    for page, hold in api.holds.items():
        await asyncio.wait_for(api.reached.wait(), 30)
        api.reached.clear()
        await came_to(home, run_id, page - 1)
        if at_once > 1:
            assert {page + 1, page + 2} <= set(api.asked)
        victim = await home.owner(run_id)
        await victim.kill()
        before = len(api.asked)
        hold.set()
        home.begin("worker")
        async with asyncio.timeout(30):
            while len(api.asked) == before:
                await asyncio.sleep(0.02)
        again.append((page, api.asked[before]))
    run = await home.end(run_id)
    for writer in api.writers:
        writer.close()
    server.close()

    went_on = ", ".join(f"{page} → {at}" for page, at in again)
    figures(pages_at_once=at_once, killed_and_went_on_at=went_on)
    assert [at for _, at in again] == [30, 60]
    # Page 7 has two batches that no try can write; everything else is there, once.
    assert run["status"] == "partial"
    assert await home.db.fetchval("SELECT count(*) FROM public.users") == (PAGES - 1) * SIZE
    assert run["interruptions"] == 2
    assert max(Counter(api.asked).values()) <= 3
    output = await home.db.fetchval("SELECT output FROM step_runs WHERE run_id = $1", run_id)
    assert (output["records"], output["pages"]) == (PAGES * SIZE, PAGES)
    assert (output["batches"], output["failed_batches"]) == (PAGES * 2, 2)
    kept = await home.db.fetch("SELECT page, batch, items FROM failed_batches ORDER BY batch")
    assert [tuple(row) for row in kept] == [(7, 13, 10), (7, 14, 10)]
    (log,) = await home.db.fetch("SELECT * FROM public.sync_logs")
    assert (log["status"], log["records_processed"]) == ("partial", PAGES * SIZE)
    assert await home.db.fetchval("SELECT count(*) FROM watermarks") == 0
