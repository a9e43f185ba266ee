"""A worker inside the test's own process: real database, real Valkey, a project in a folder."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from nomaflow import dispatch
from nomaflow.birth import Request
from nomaflow.broker import connection
from nomaflow.broker.bell import WORKER_QUEUE, Bell
from nomaflow.in_force import catalog
from nomaflow.in_force.known_connectors import KnownConnectors
from nomaflow.project.folder import Project
from nomaflow.project.secrets import Secrets
from nomaflow.store import database, roles, runs
from nomaflow.vault import Vault
from nomaflow_worker import doorbell
from nomaflow_worker.committer import Committer
from nomaflow_worker.connections import Connections
from nomaflow_worker.lease import LeaseKeeper
from nomaflow_worker.sandbox.pool import Sandbox
from nomaflow_worker.supervisor import Supervisor
from nomaflow_worker.tools import Limits, Tools

SECRET_KEY = "a key of tests that is long enough"


@dataclass
class Workshop:
    """What a test needs at hand: declare, trigger, wait, look."""

    db: database.Database
    bell: Bell
    project: Project
    root: Path
    database_url: str
    redis: object
    supervisors: list[Supervisor] = field(default_factory=list)

    async def declare(self, toml: str, **files: str) -> catalog.Synced:
        (self.root / "jobs.toml").write_text(dedent(toml))
        for name, text in files.items():
            path = self.root / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        return await catalog.sync(self.db, self.bell, self.project)

    async def trigger(self, job: str, **facts) -> object:
        request = Request(job=job, trigger="api", triggered_by="api", **facts)
        return (await dispatch.start(self.db, self.bell, request)).run_id

    async def end(self, run_id, seconds: float = 20) -> dict:
        """Wait until the run is over; the row as a dict."""
        async with asyncio.timeout(seconds):
            while True:
                row = await self.db.fetchrow("SELECT * FROM runs WHERE id = $1", run_id)
                if row["finished_at"] is not None:
                    return dict(row)
                await asyncio.sleep(0.02)

    async def until(self, run_id, step: str, status: str, seconds: float = 20) -> dict:
        """Wait until a step has that status."""
        async with asyncio.timeout(seconds):
            while True:
                row = await self.db.fetchrow(
                    "SELECT * FROM step_runs WHERE run_id = $1 AND name = $2", run_id, step
                )
                if row["status"] == status:
                    return dict(row)
                await asyncio.sleep(0.02)

    async def run(self, job: str, seconds: float = 20, **facts) -> dict:
        return await self.end(await self.trigger(job, **facts), seconds)

    async def steps(self, run_id) -> list[dict]:
        rows = await self.db.fetch(
            "SELECT * FROM step_runs WHERE run_id = $1 ORDER BY position", run_id
        )
        return [dict(r) for r in rows]

    async def lines(self, run_id) -> list[str]:
        rows = await self.db.fetch(
            "SELECT message FROM log_lines WHERE run_id = $1 ORDER BY seq", run_id
        )
        return [r["message"] for r in rows]

    async def held(self, run_id):
        return await runs.held(self.db, run_id)


@contextlib.asynccontextmanager
async def workshop(database_url: str, redis_url: str, root: Path):
    """Everything but a worker; `working` adds one."""
    root.mkdir(exist_ok=True)
    (root / "plugins").mkdir(exist_ok=True)
    await roles.ensure(database_url)
    db = await database.connect(database_url, max_size=12)
    redis = connection.connect(redis_url, queue=WORKER_QUEUE)
    async with Bell(redis) as bell:
        yield Workshop(db, bell, Project(root), root, database_url, redis)
    await redis.aclose()
    await db.close()


@contextlib.asynccontextmanager
async def working(shop: Workshop, name: str = "worker-1", *, capacity: int = 10, lease: float = 15):
    """One worker until the block ends; it drains then."""
    secrets = Secrets(shop.project, always=(shop.database_url,))
    known = KnownConnectors(shop.project, Vault((SECRET_KEY,)), secrets)
    connections = Connections(shop.project, await roles.default_url(shop.database_url), known)
    sandbox = Sandbox(shop.project.plugins)
    await sandbox.start()
    tools = Tools(
        name=name,
        db=shop.db,
        bell=shop.bell,
        committer=Committer(shop.db),
        project=shop.project,
        connections=connections,
        sandbox=sandbox,
        secrets=secrets,
        limits=Limits(lease_seconds=lease),
    )
    supervisor = Supervisor(tools, capacity=capacity, tags=["default"])
    keeper = LeaseKeeper(shop.database_url, name, lease, supervisor)
    keeper.start()
    tasks = [
        asyncio.create_task(supervisor.claim_for_ever()),
        asyncio.create_task(supervisor.look_for_aborts()),
        asyncio.create_task(doorbell.listen_for_ever(shop.redis, supervisor)),
    ]
    shop.supervisors.append(supervisor)
    try:
        yield supervisor
    finally:
        await supervisor.drain(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(keeper.stop)
        await connections.close()
        await sandbox.stop()
