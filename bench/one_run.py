"""One run of three no-op steps, from its request to its end, beside what the wires alone allow.

Real programs with their defaults: a worker and an API of their own, PostgreSQL with fsync, Valkey
with its append-only file. `dispatch` is asked in this process or, over HTTP, by a GraphQL mutation.
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import UUID

import _floor
import _noop
import httpx
import redis.asyncio

from nomaflow import dispatch
from nomaflow.birth import Request
from nomaflow.broker import connection
from nomaflow.broker.bell import NEWS, Bell
from nomaflow.embedded.servers import EmbeddedServers
from nomaflow.in_force import catalog
from nomaflow.project.folder import Project
from nomaflow.store import database, migrate, roles
from nomaflow_worker.main import new_event_loop

RUNS = int(os.environ.get("RUNS", "200"))
MANY = int(os.environ.get("MANY", "2000"))
CAPACITY = os.environ.get("CAPACITY", "50")
ROUNDS = 3
FINAL = {"succeeded", "partial", "failed", "aborted"}
TOKEN = "bench-bench-bench-bench"
TRIGGER = """mutation ($input: RunTriggerInput!) { runTrigger(input: $input) { run { id } } }"""
FIRST = "SELECT (output ->> 'at')::bigint FROM step_runs WHERE run_id = $1 AND position = 0"
WAITING = "SELECT count(*) FROM runs WHERE finished_at IS NULL"
WRITES = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
"""Every transaction that writes takes the next of these numbers."""


class House:
    """A running installation, as a client and a listener see it."""

    def __init__(self, db: database.Database, bell: Bell, http: httpx.AsyncClient) -> None:
        self.db, self.bell, self.http = db, bell, http
        self._ends: dict[str, asyncio.Future[int]] = {}

    async def listen(self, ear: redis.asyncio.client.PubSub) -> None:
        """Note when each run's end is heard."""
        async for word in ear.listen():
            if word["type"] == "message":
                for news in json.loads(word["data"]):
                    if news.get("status") in FINAL:
                        self._end(news["run"]).set_result(time.monotonic_ns())

    def _end(self, run_id: str) -> "asyncio.Future[int]":
        if run_id not in self._ends:
            self._ends[run_id] = asyncio.get_running_loop().create_future()
        return self._ends[run_id]

    async def one(self, name: str = "noop-3", *, http: bool = False) -> tuple[float, float]:
        """Milliseconds from the request to the first step, and to the word that it is over."""
        asked = time.monotonic_ns()
        run_id = await (self.mutate(name) if http else self.trigger(name))
        async with asyncio.timeout(30):
            over = await self._end(str(run_id))
        first = await self.db.fetchval(FIRST, run_id)
        return (first - asked) / 1e6, (over - asked) / 1e6

    async def trigger(self, name: str) -> UUID:
        request = Request(job=name, trigger="api", triggered_by="api")
        return (await dispatch.start(self.db, self.bell, request)).run_id

    async def mutate(self, name: str) -> UUID:
        body = {"query": TRIGGER, "variables": {"input": {"job": name}}}
        answer = (await self.http.post("/graphql", json=body)).json()
        opaque = answer["data"]["runTrigger"]["run"]["id"]
        return UUID(base64.urlsafe_b64decode(opaque + "==").decode()[-36:])

    async def burst(self, worker: subprocess.Popen) -> float:
        """Runs a minute that the worker carries out of a queue that is full when it begins."""
        worker.send_signal(signal.SIGSTOP)
        room = asyncio.Semaphore(8)

        async def one() -> None:
            async with room:
                await self.trigger("noop-3")

        await asyncio.gather(*(one() for _ in range(MANY)))
        worker.send_signal(signal.SIGCONT)
        async with asyncio.timeout(120):
            while await self.db.fetchval(WAITING):  # noqa: ASYNC110  nobody tells of the last one
                await asyncio.sleep(0.02)
        seconds = await self.db.fetchval(
            """SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8
               FROM (SELECT * FROM runs ORDER BY queued_at DESC LIMIT $1) r""",
            MANY,
        )
        return 60 * MANY / seconds

    async def commits(self, name: str) -> int:
        """Transactions that wrote something while RUNS of these ran, one after the other."""
        before = await self.db.fetchval(WRITES)
        for _ in range(RUNS):
            await self.one(name)
        return await self.db.fetchval(WRITES) - before


@asynccontextmanager
async def installation(
    home: Path, servers: EmbeddedServers
) -> AsyncIterator[tuple[House, subprocess.Popen]]:
    """Migrated, with jobs of three and of six steps; an API, one worker, and a listener."""
    await migrate.upgrade(servers.database_url)
    await roles.ensure(servers.database_url)
    (home / "project").mkdir()
    (home / "project" / "jobs.toml").write_text(_noop.job(3) + _noop.job(6))
    port = free_port()
    async with AsyncExitStack() as stack:
        db = await database.connect(servers.database_url, max_size=10)
        stack.push_async_callback(db.close)
        client = connection.connect(servers.redis_url)
        stack.push_async_callback(client.aclose)
        listener = redis.asyncio.from_url(servers.redis_url)
        stack.push_async_callback(listener.aclose)
        ear = await stack.enter_async_context(listener.pubsub())
        await ear.subscribe(NEWS)
        bell = await stack.enter_async_context(Bell(client))
        assert (await catalog.sync(db, bell, Project(home / "project"))).problems == 0
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {TOKEN}"},
                trust_env=False,
            )
        )
        programs = [start(name, home, servers, port) for name in ("worker", "api")]
        for program in programs:
            stack.callback(program.wait, 60)
            stack.callback(program.terminate)
        house = House(db, bell, http)
        listening = asyncio.create_task(house.listen(ear))
        stack.callback(listening.cancel)
        async with asyncio.timeout(60):
            while not await is_ready(http):  # noqa: ASYNC110  another process
                await asyncio.sleep(0.1)
        yield house, programs[0]


def start(program: str, home: Path, servers: EmbeddedServers, port: int) -> subprocess.Popen:
    environment = os.environ | {
        "NOMAFLOW_DATABASE_URL": servers.database_url,
        "NOMAFLOW_REDIS_URL": servers.redis_url,
        "NOMAFLOW_PROJECT": str(home / "project"),
        "NOMAFLOW_PORT": str(port),
        "NOMAFLOW_ADMIN_TOKEN": TOKEN,
        "NOMAFLOW_WORKER_CAPACITY": CAPACITY,
        "NOMAFLOW_LEASE_SECONDS": "60",  # the burst holds the worker still while the queue fills
    }
    script = str(Path(__file__).with_name("_noop.py"))
    with (home / f"{program}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, script, program], env=environment, stdout=log, stderr=log
        )


async def is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/health")).is_success
    except httpx.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def row(name: str, ours: float, floor: float, target: float, *, more: bool = False) -> None:
    ratio = ours / floor
    kept = ratio >= target if more else ratio <= target
    bound = f"{'>=' if more else '<='} {target:g}"
    verdict = "ok" if kept else "MISSED"
    print(f"{name:36} {ours:10.2f} {floor:10.2f} {ratio:7.2f} {bound:>8}  {verdict}")


async def bench(house: House, servers: EmbeddedServers, worker: subprocess.Popen) -> None:
    for _ in range(20):
        await house.one()
        await house.one(http=True)
    floors, direct, http, bursts = [], [], [], []
    for _ in range(ROUNDS):
        floors.append(await _floor.measure(servers, RUNS))
        direct.append(p50([await house.one() for _ in range(RUNS)]))
        http.append(p50([await house.one(http=True) for _ in range(RUNS)]))
        bursts.append(await house.burst(worker))
    first = statistics.median(floor.first for floor in floors)
    whole = statistics.median(floor.whole for floor in floors)
    batched = statistics.median(floor.a_minute for floor in floors)
    print(f"{'name':36} {'ours':>10} {'floor':>10} {'ratio':>7} {'target':>8}")
    for name, taken in (("dispatch", direct), ("GraphQL", http)):
        row(f"{name} to first step, p50 ms", statistics.median(f for f, _ in taken), first, 5)
        row(f"{name} to the run's end, p50 ms", statistics.median(w for _, w in taken), whole, 6)
    row("runs a minute, one worker", statistics.median(bursts), batched, 0.15, more=True)
    more = await house.commits("noop-6") - await house.commits("noop-3")
    row("commits for one more no-op step", more / RUNS / 3, 1, 1.1)


def p50(taken: list[tuple[float, float]]) -> tuple[float, float]:
    firsts, wholes = zip(*taken, strict=True)
    return statistics.median(firsts), statistics.median(wholes)


async def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="nomaflow-bench-", dir="/tmp"))
    home.chmod(0o755)
    servers = EmbeddedServers(home)
    await servers.start()
    try:
        async with installation(home, servers) as (house, worker):
            await bench(house, servers, worker)
    except BaseException:
        for log in sorted(home.glob("*.log")):
            print(log.read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        await servers.stop()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    _noop.register()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:  # floor and runs wait alike
        runner.run(main())
