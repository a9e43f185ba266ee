"""A whole installation for one test: servers that fail, programs that die, a judge who sees it."""

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
from judge import Judge
from programs import Program
from servers import Postgres, Valkey

from nomaflow import dispatch
from nomaflow.birth import Request
from nomaflow.broker import connection
from nomaflow.broker.bell import Bell
from nomaflow.in_force import catalog
from nomaflow.project.folder import Project
from nomaflow.store import database, migrate, roles
from nomaflow.store.database import Database

TEMPLATE = "faults_template"
AWAY = (OSError, TimeoutError, *Database.Error)
HERE = Path(__file__).parent


@dataclass
class House:
    """What a scenario needs at hand: declare, start programs, trigger, break things, wait, look."""

    root: Path
    postgres: Postgres
    valkey: Valkey
    database_url: str
    judge: Judge
    db: Database
    bell: Bell
    settings: dict[str, str]
    programs: list[Program] = field(default_factory=list)
    numbers: Iterable[int] = field(default_factory=itertools.count)

    @property
    def project(self) -> Path:
        return self.root / "project"

    async def declare(self, toml: str) -> None:
        """Make these the jobs of the project."""
        (self.project / "jobs.toml").write_text(dedent(toml))
        synced = await catalog.sync(self.db, self.bell, Project(self.project))
        assert synced.problems == 0, await self.db.fetch("SELECT * FROM catalog_problems")

    async def start(self, kind: str, **environment: str) -> Program:
        """Start one more program and wait until it is ready."""
        return await self.begin(kind, **environment).ready()

    def begin(self, kind: str, **environment: str) -> Program:
        """Start one more program; it is not ready yet."""
        everything = {
            "NOMAFLOW_DATABASE_URL": self.database_url,
            "NOMAFLOW_REDIS_URL": self.valkey.url,
            "NOMAFLOW_PROJECT": str(self.project),
            "NOMAFLOW_LOG_FORMAT": "json",
            **self.settings,
            **environment,
        }
        program = Program(kind, next(self.numbers), self.root, everything)
        self.programs.append(program)
        return program

    async def workers(self, count: int, **environment: str) -> list[Program]:
        begun = [self.begin("worker", **environment) for _ in range(count)]
        return [await worker.ready() for worker in begun]

    async def trigger(self, job: str, **wishes: Any) -> UUID:
        """Start a run from this process, as every program does."""
        request = Request(job=job, trigger="api", triggered_by="api", **wishes)
        return (await dispatch.start(self.db, self.bell, request)).run_id

    async def ask(self, query: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
        """Ask the database, again if it is away."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await query()
                except AWAY:
                    await asyncio.sleep(0.1)

    async def run(self, run_id: UUID) -> dict[str, Any]:
        return dict(await self.db.fetchrow("SELECT * FROM runs WHERE id = $1", run_id))

    async def end(self, run_id: UUID, seconds: float = 60) -> dict[str, Any]:
        """Wait until the run is over; gives its row."""
        async with asyncio.timeout(seconds):
            while (row := await self.run(run_id))["finished_at"] is None:
                await asyncio.sleep(0.02)
        return row

    async def until(self, run_id: UUID, step: str, status: str, seconds: float = 30) -> None:
        """Wait until a step has that status."""
        query = "SELECT status FROM step_runs WHERE run_id = $1 AND name = $2"
        async with asyncio.timeout(seconds):
            while await self.db.fetchval(query, run_id, step) != status:
                await asyncio.sleep(0.02)

    async def owner(self, run_id: UUID) -> Program:
        """The worker process that has the run."""
        name = await self.db.fetchval("SELECT lease_owner FROM runs WHERE id = $1", run_id)
        return next(p for p in self.programs if f"-{p.pid}-" in (name or ""))

    async def settled(self, seconds: float) -> None:
        """Wait until no run is in flight."""
        query = """SELECT id, status, reason, lease_owner, lease_expires_at - now() AS lease
                   FROM runs WHERE finished_at IS NULL"""
        give_up = time.monotonic() + seconds
        while left := await self.ask(lambda: self.db.fetch(query)):
            assert time.monotonic() < give_up, f"{len(left)} runs never ended: {left[:5]}"
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        for program in self.programs:
            if program.alive:
                program.process.kill()
                program.process.wait()

    def fell(self) -> list[str]:
        """What the programs say of mistakes of their own."""
        signs = ("Traceback", "part of the", "could not be carried on", "never retrieved")
        return [
            f"{program.log.name}: {line[:2000]}"
            for program in self.programs
            for line in program.said().splitlines()
            if any(sign in line for sign in signs)
        ]


def database_at(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def statement(url: str, sql: str) -> None:
    opened = await asyncpg.connect(database_at(url, "postgres"))
    try:
        await opened.execute(sql)
    finally:
        await opened.close()


async def make_template(postgres: Postgres) -> None:
    await statement(postgres.url, f"CREATE DATABASE {TEMPLATE}")
    await migrate.upgrade(database_at(postgres.url, TEMPLATE))


@contextlib.asynccontextmanager
async def house(
    root: Path, postgres: Postgres, valkey: Valkey, **settings: str
) -> AsyncIterator[House]:
    """An installation on a database of its own, no program running yet; all end with it."""
    name = f"faults_{secrets.token_hex(6)}"
    await statement(postgres.url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    url = database_at(postgres.url, name)
    await roles.ensure(url)
    await valkey.flush()
    plugins = root / "project" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "deeds.py").write_text((HERE / "deeds.py").read_text())
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(statement, postgres.url, f"DROP DATABASE {name} WITH (FORCE)")
        redis = connection.connect(valkey.url)
        stack.push_async_callback(redis.aclose)
        db = await database.connect(url, max_size=12, application="faults")
        stack.push_async_callback(db.close)
        judge = await stack.enter_async_context(Judge())
        bell = await stack.enter_async_context(Bell(redis))
        env = f"JUDGE={judge.url}\nJUDGE_PORT={judge.port}\n"
        (root / "project" / ".env").write_text(env)
        made = House(root, postgres, valkey, url, judge, db, bell, settings)
        stack.push_async_callback(made.close)
        yield made
