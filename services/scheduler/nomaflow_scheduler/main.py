"""The scheduler program: opens everything, ticks and keeps watch until told to stop, closes all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from nomaflow import logs
from nomaflow.alerts import deliver
from nomaflow.alerts.deliver import Sender
from nomaflow.broker import connection, listen
from nomaflow.broker.bell import CATALOG, NEWS, Bell
from nomaflow.broker.lock import Lock
from nomaflow.errors import NomaflowError
from nomaflow.in_force import catalog
from nomaflow.outside import external_runs
from nomaflow.project.folder import Project
from nomaflow.project.secrets import Secrets
from nomaflow.settings import Settings
from nomaflow.store import database, processes, pulse
from nomaflow.store.database import Database
from nomaflow_scheduler import net, prune, rescue, watch
from nomaflow_scheduler.awaited import Awaited
from nomaflow_scheduler.clock import Clock
from nomaflow_scheduler.lead import LOCK, LOCK_SECONDS, Lead
from nomaflow_scheduler.rounds import every

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx
    from arq.connections import ArqRedis

log = structlog.get_logger(__name__)

BEAT_SECONDS = 3.0
OUTBOX_SECONDS = 1.0
AWAITED_SECONDS = 1.0
RESCUE_SECONDS = 5.0
WATCH_SECONDS = 5.0
PRUNE_SECONDS = 30.0
STOP_SECONDS = 5.0
"""How long alerts that are being posted may take when the program is told to stop."""
CONNECTIONS = 12


@dataclass(frozen=True, slots=True)
class Tools:
    """What every part of this program works with."""

    name: str
    settings: Settings
    project: Project
    db: Database
    redis: ArqRedis
    bell: Bell
    http: httpx.AsyncClient
    lead: Lead

    @property
    def url(self) -> str:
        """Address of the API, for links in alerts."""
        return f"http://{self.settings.host}:{self.settings.port}"


def main() -> int:
    """Run the scheduler until SIGTERM or SIGINT; 0 after an orderly end, 2 for wrong settings."""
    try:
        settings = Settings.read()
        urls = settings.database, settings.redis
    except NomaflowError as error:
        print(f"nomaflow scheduler: {error.message}")  # noqa: T201  no log yet
        return 2
    name = f"scheduler-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    project = Project(settings.project or Path.cwd(), env_file=settings.env_file)
    logs.configure("scheduler", look=settings.log_format, redact=Secrets(project, urls).masked)
    # arq tells of each tick, once a second
    logging.getLogger("arq.worker").setLevel(logging.WARNING)
    return asyncio.run(_run(settings, name, project))


async def _run(settings: Settings, name: str, project: Project) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    db = await database.patiently(
        lambda: database.connect(
            settings.database,
            min_size=2,
            max_size=CONNECTIONS,
            application="nomaflow scheduler",
        ),
        stop,
    )
    if db is None:
        return 0
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(db.close)
        redis = connection.connect(settings.redis, queue=net.QUEUE)
        stack.push_async_callback(redis.aclose)
        lock = Lock(redis, LOCK, name, LOCK_SECONDS)
        tools = Tools(
            name=name,
            settings=settings,
            project=project,
            db=db,
            redis=redis,
            bell=await stack.enter_async_context(Bell(redis)),
            http=await stack.enter_async_context(deliver.client()),
            lead=Lead(lock, enabled=settings.scheduler_enabled),
        )
        await tools.lead.look()
        log.info("scheduler is ready", name=name, state=tools.lead.state.value)
        fell = await _serve(tools, stop)
        await tools.lead.leave()
        with contextlib.suppress(OSError, TimeoutError, *Database.Error):
            await processes.leave(db, name)
    log.info("scheduler has stopped")
    return int(fell)


async def _serve(tools: Tools, stop: asyncio.Event) -> bool:
    """Run every part until told to stop, or until one falls (True).

    Alerts that are being posted are let finish, the rest is cut short.
    """
    patient = [asyncio.create_task(work, name=name) for name, work in _patient(tools, stop)]
    others = [asyncio.create_task(work, name=name) for name, work in _others(tools, stop)]
    fell = await _until(stop, [*patient, *others])
    log.info("scheduler is stopping")
    stop.set()
    for task in others:
        task.cancel()
    await asyncio.wait(patient, timeout=STOP_SECONDS)
    for task in patient:
        task.cancel()
    await asyncio.gather(*patient, *others, return_exceptions=True)
    return fell


def _patient(tools: Tools, stop: asyncio.Event) -> Iterable[tuple[str, Any]]:
    sender = Sender(
        db=tools.db, channels=tools.project.alerts, env=tools.project.env, http=tools.http
    )
    yield "outbox", every(OUTBOX_SECONDS, "outbox", partial(deliver.deliver_due, sender), stop)


def _others(tools: Tools, stop: asyncio.Event) -> Iterable[tuple[str, Any]]:
    db, bell, settings, lead = tools.db, tools.bell, tools.settings, tools.lead

    async def look_for_long_runs() -> None:
        await watch.look(db, bell, tools.project.alerts(), url=tools.url)

    async def look_for_stale_runs() -> None:
        await external_runs.look_for_stale(db, bell, tools.project.alerts(), url=tools.url)

    async def keep_history_short() -> None:
        if lead.may_fire:
            days = settings.history_days
            await prune.begin(db, bell, timezone=settings.timezone, history_days=days)
            await prune.carry_out(db, bell, tools.name, history_days=days)

    yield "beat", every(BEAT_SECONDS, "beat", partial(_beat, tools), stop)
    yield "catalog", catalog.watch(db, bell, tools.project, timezone=settings.timezone)
    yield "rescue", every(RESCUE_SECONDS, "rescue", partial(rescue.ring_again, db, bell), stop)
    yield "watch", every(WATCH_SECONDS, "watch", look_for_long_runs, stop)
    yield "stale", every(WATCH_SECONDS, "stale", look_for_stale_runs, stop)
    if settings.scheduler_enabled:
        clock = Clock(db, bell, lead)
        awaited = Awaited(db, clock, lead)
        yield "lead", lead.run()
        yield "clock", clock.run()
        yield "arq", net.run(tools.redis, clock)
        yield "awaited", awaited.run()
        yield "ended", every(AWAITED_SECONDS, "ended", awaited.look, stop)
        yield "listen", listen.hear(tools.redis, (CATALOG,), lambda *_: clock.wake())
        yield "news", listen.hear(tools.redis, (NEWS,), lambda _, word: awaited.hear(word))
        yield "prune", every(PRUNE_SECONDS, "prune", keep_history_short, stop)


async def _beat(tools: Tools) -> None:
    """Say that this scheduler lives, what it is among the others, and that PostgreSQL answers."""
    await pulse.beat(tools.db, tools.settings.lease_seconds)
    details = {"pid": os.getpid(), "host": socket.gethostname()}
    await processes.beat(
        tools.db, tools.name, "scheduler", state=tools.lead.state.value, details=details
    )


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[Any]]) -> bool:
    """Wait for the word to stop; True when a part ended by itself, which is a fault of ours."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if stop.is_set():
        return False
    for task in done:
        error = None if task.cancelled() else task.exception()
        log.error("a part of the scheduler fell", part=task.get_name(), exc_info=error)
    return True
