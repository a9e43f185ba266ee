"""What the API stands on: database, Redis, project, live readers; opened once, kept up for ever.

The server answers before any of it is there and while some of it is away.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import structlog

from nomaflow import vault
from nomaflow.broker import connection, listen
from nomaflow.broker.bell import CATALOG, NEWS, Bell
from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import catalog
from nomaflow.in_force.known_connectors import KnownConnectors
from nomaflow.project.folder import Project
from nomaflow.project.secrets import Secrets
from nomaflow.store import database, processes, roles
from nomaflow.vault import Vault
from nomaflow_api.boards import JobBoard, RunBoard
from nomaflow_api.doors.failures import AWAY
from nomaflow_api.feeds import Feeds
from nomaflow_api.installer import Installer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nomaflow.settings import Settings
    from nomaflow.store.database import Database

log = structlog.get_logger(__name__)

_Part = TypeVar("_Part")
BEAT_SECONDS = 3.0
AGAIN_SECONDS = 1.0
POOL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the settings say, as far as the API cares."""

    database_url: str
    redis_url: str
    admin_token: str
    project: Path
    env_file: Path | None = None
    timezone: str = "UTC"
    scheduler_enabled: bool = True
    external_stale_minutes: float = 1440
    url: str = ""
    """Base address of this API, for links in alerts."""
    graphiql: bool = True
    http: HttpPolicy = field(default_factory=HttpPolicy)
    secret_key: str | None = field(default=None, repr=False)
    api_env: frozenset[str] = frozenset()
    """Names of `.env` that whoever may edit jobs may give them; an administrator may give any."""

    @classmethod
    def of(cls, settings: Settings) -> Options:
        """Take them from the settings; NomaflowError says what is missing."""
        if settings.admin_token is None:
            raise NomaflowError(
                Code.INVALID,
                "NOMAFLOW_ADMIN_TOKEN is not set, so nobody could sign in. Set it to 16 "
                "characters or more, or let `nomaflow up` make one.",
            )
        return cls(
            database_url=settings.database,
            redis_url=settings.redis,
            admin_token=settings.admin_token.get_secret_value(),
            project=settings.project or Path.cwd(),
            env_file=settings.env_file,
            timezone=settings.timezone,
            scheduler_enabled=settings.scheduler_enabled,
            external_stale_minutes=settings.external_stale_minutes,
            url=f"http://{settings.host}:{settings.port}",
            graphiql=settings.graphiql,
            http=HttpPolicy(settings.http_private, settings.http_allow, settings.http_only),
            secret_key=settings.secret_keys,
            api_env=frozenset(settings.api_env_allow),
        )


class Backing:
    """One per program; `run` opens it, keeps it and closes it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.timezone = options.timezone
        self.project = Project(options.project, env_file=options.env_file)
        keys = vault.split(options.secret_key or "")
        self.secrets = Secrets(
            self.project, (options.admin_token, options.database_url, options.redis_url, *keys)
        )
        self.vault = Vault(keys)
        self.known = KnownConnectors(self.project, self.vault, self.secrets)
        self.redis = connection.connect(options.redis_url)
        self.bell = Bell(self.redis)
        self.installer = Installer()
        self.opened = asyncio.Event()
        self._db: Database | None = None
        self._feeds: Feeds | None = None
        self._runs: RunBoard | None = None
        self._jobs: JobBoard | None = None

    @property
    def db(self) -> Database:
        """The database; NomaflowError UNAVAILABLE before it was reached for the first time."""
        return _there(self._db)

    @property
    def feeds(self) -> Feeds:
        """Live feeds of single runs."""
        return _there(self._feeds)

    @property
    def run_board(self) -> RunBoard:
        """What changes among all runs."""
        return _there(self._runs)

    @property
    def job_board(self) -> JobBoard:
        """What changes among all jobs."""
        return _there(self._jobs)

    async def run(self) -> None:
        """Open everything, serve until cancelled, close everything."""
        db = await self._reach_database()
        self._db = db
        self._feeds = feeds = Feeds(db)
        self._runs, self._jobs = runs, jobs = RunBoard(db), JobBoard(db)
        name = f"api-{socket.gethostname()}-{os.getpid()}"
        try:
            async with self.bell, asyncio.TaskGroup() as group:
                for part in (
                    feeds.read_for_ever,
                    feeds.look_for_ever,
                    runs.look_for_ever,
                    jobs.look_for_ever,
                    self._hear,
                    self._watch,
                    lambda: self.installer.carry_for_ever(db, self.bell),
                    lambda: _beat(db, name),
                ):
                    group.create_task(_for_ever(part))
                self.opened.set()
        finally:
            self.opened.clear()
            with suppress(OSError, TimeoutError, *db.Error):
                await processes.leave(db, name)
            await db.close()
            await self.redis.aclose()

    async def _reach_database(self) -> Database:
        db = await database.patiently(
            lambda: database.connect(
                self.options.database_url, max_size=POOL, application="nomaflow api"
            ),
            asyncio.Event(),  # nobody sets it: this program is cancelled when it is to end
        )
        assert db is not None  # noqa: S101  only one told to stop comes back without
        return db

    async def _hear(self) -> None:
        await listen.hear(self.redis, [NEWS, CATALOG], self._heard, on_gap=self._missed)

    def _heard(self, channel: str, word: str) -> None:
        if channel == CATALOG:
            self.job_board.hint()
            return
        try:
            for news in json.loads(word):
                self.feeds.hint(UUID(news["run"]), int(news["seq"]))
        except (ValueError, KeyError, TypeError):
            log.warning("an unreadable hint was passed over")
        self.run_board.hint()

    def _missed(self) -> None:
        self.run_board.hint()
        self.job_board.hint()

    async def _watch(self) -> None:
        await catalog.watch(self.db, self.bell, self.project, timezone=self.timezone)

    async def look_at_files(self) -> None:
        """Bring the files into the database now, and what is wrong with them."""
        await catalog.sync(self.db, self.bell, self.project, timezone=self.timezone)

    async def default_connector_url(self) -> str:
        """Return where the connector `default` points."""
        return await roles.default_url(self.options.database_url)


def _there(part: _Part | None) -> _Part:
    if part is None:
        raise NomaflowError(Code.UNAVAILABLE, AWAY)
    return part


async def _for_ever(part: Callable[[], Awaitable[None]]) -> None:
    """Run a part that should never end; whatever befalls it is logged, and it begins again."""
    while True:
        try:
            await part()
        except Exception as error:  # one part must not take the others with it
            log.warning("a part of the api begins again", exc_info=error)
        await asyncio.sleep(AGAIN_SECONDS)


async def _beat(db: Database, name: str) -> None:
    while True:
        await processes.beat(db, name, "api", details={"pid": os.getpid()})
        await asyncio.sleep(BEAT_SECONDS)
