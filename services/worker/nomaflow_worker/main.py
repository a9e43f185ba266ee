"""The worker program: opens everything, runs until told to stop, drains, closes everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from nomaflow import logs
from nomaflow.broker import connection
from nomaflow.broker.bell import WORKER_QUEUE, Bell
from nomaflow.errors import NomaflowError
from nomaflow.in_force.known_connectors import KnownConnectors
from nomaflow.project.folder import Project
from nomaflow.project.secrets import Secrets
from nomaflow.settings import Settings
from nomaflow.store import database, processes, roles
from nomaflow.vault import Vault, split
from nomaflow_worker import doorbell
from nomaflow_worker.committer import Committer
from nomaflow_worker.connections import Connections
from nomaflow_worker.lease import LeaseKeeper
from nomaflow_worker.sandbox.pool import Sandbox
from nomaflow_worker.supervisor import Supervisor
from nomaflow_worker.tools import Limits, Reach, Tools

if TYPE_CHECKING:
    from collections.abc import Callable

    from nomaflow.store.database import Database

new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    import uvloop  # an extra, with which each wait costs half
except ImportError:
    new_event_loop = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop

log = structlog.get_logger(__name__)

BEAT_SECONDS = 3.0
END_SECONDS = 5.0
"""How long the parts may take to end; a worker that was told to stop stops."""


def main() -> int:
    """Run the worker until SIGTERM or SIGINT; 0 after an orderly end, 2 for wrong settings.

    1 when a part of it fell: whoever looks after the worker starts it again.
    """
    try:
        settings = Settings.read()
        database_url, redis_url = settings.database, settings.redis
    except NomaflowError as error:
        print(f"nomaflow worker: {error.message}")  # noqa: T201  no log yet
        return 2
    name = f"worker-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    project = Project(settings.project or Path.cwd(), env_file=settings.env_file)
    keys = split(settings.secret_keys or "")
    secrets = Secrets(project, always=(database_url, redis_url, *keys))
    logs.configure("worker", look=settings.log_format, redact=secrets.masked)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_run(settings, name, project, secrets, database_url, redis_url))


async def _run(
    settings: Settings,
    name: str,
    project: Project,
    secrets: Secrets,
    database_url: str,
    redis_url: str,
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    capacity = settings.worker_capacity
    default_url = await database.patiently(lambda: roles.default_url(database_url), stop)
    db = await database.patiently(
        lambda: database.connect(
            database_url,
            min_size=2,
            max_size=min(capacity + 4, 20),
            application="nomaflow worker",
            plans=database.BY_KEY,
        ),
        stop,
    )
    if db is None or default_url is None:
        return 0
    redis = connection.connect(redis_url, queue=WORKER_QUEUE)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(db.close)
        stack.push_async_callback(redis.aclose)
        bell = await stack.enter_async_context(Bell(redis))
        known = KnownConnectors(project, Vault.of(settings.secret_keys), secrets)
        connections = Connections(project, default_url, known)
        stack.push_async_callback(connections.close)
        sandbox = Sandbox(project.plugins, user=_unprivileged())
        await sandbox.start()
        stack.push_async_callback(sandbox.stop)
        tools = Tools(
            name=name,
            db=db,
            bell=bell,
            committer=Committer(db),
            project=project,
            connections=connections,
            sandbox=sandbox,
            secrets=secrets,
            limits=Limits(
                lease_seconds=settings.lease_seconds,
                log_max_lines=settings.run_log_max_lines,
                truncate_bytes=settings.log_truncate_kb * 1024,
            ),
            reach=Reach(
                private_hosts=settings.http_private,
                allowed_hosts=settings.http_allow,
                only_hosts=settings.http_only,
                api_env=frozenset(settings.api_env_allow),
            ),
            url=f"http://{settings.host}:{settings.port}",
        )
        supervisor = Supervisor(tools, capacity=capacity, tags=settings.worker_tags)
        lease = LeaseKeeper(database_url, name, settings.lease_seconds, supervisor)
        lease.start()
        stack.callback(lease.stop)
        tasks = [
            asyncio.create_task(supervisor.claim_for_ever(), name="claim"),
            asyncio.create_task(supervisor.look_for_aborts(), name="aborts"),
            asyncio.create_task(doorbell.answer_for_ever(redis, supervisor), name="arq"),
            asyncio.create_task(doorbell.listen_for_ever(redis, supervisor), name="listen"),
            asyncio.create_task(_beat(db, name, supervisor, settings), name="beat"),
        ]
        log.info("worker is ready", name=name, capacity=capacity, tags=settings.worker_tags)
        fell = await _until(stop, tasks)
        log.info("worker is stopping", running=supervisor.running)
        await supervisor.drain(settings.drain_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=END_SECONDS)
        with contextlib.suppress(OSError, TimeoutError, *db.Error):
            await processes.leave(db, name)
    log.info("worker has stopped")
    return int(fell)


def _unprivileged() -> int | None:
    """The user that plugins run as when the worker is root; None when it is not."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return None


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> bool:
    """Wait for the word to stop; a part that ends by itself is our fault, and ends the worker."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        if error := task.exception():
            log.error("a part of the worker fell", part=task.get_name(), exc_info=error)
    return not stop.is_set()


async def _beat(db: Database, name: str, supervisor: Supervisor, settings: Settings) -> None:
    """Say every three seconds that this worker lives, and how busy it is."""
    while True:
        with contextlib.suppress(OSError, TimeoutError, *db.Error):
            await processes.beat(
                db,
                name,
                "worker",
                state="draining" if supervisor.draining else "active",
                capacity=supervisor.capacity,
                running=supervisor.running,
                details={"tags": list(settings.worker_tags), "pid": os.getpid()},
            )
        await asyncio.sleep(BEAT_SECONDS)
