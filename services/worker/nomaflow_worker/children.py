"""Runs that wait for runs they started: they hold no place in the worker, and hear of the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from nomaflow.store import family

if TYPE_CHECKING:
    from nomaflow.store.database import Database

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
MOST_WAITING, MOST_WAITING_PROCESSES = 500, 50
"""With so many waiting, a worker takes only runs that somebody waits for."""


class Children:
    """Those that wait in this worker; one question a round asks after all of their children."""

    def __init__(self) -> None:
        self._waiting: Counter[UUID] = Counter()
        self._processes: Counter[UUID] = Counter()
        self.wake: Callable[[], None] = lambda: None
        """Called when a place becomes free because its run waits now."""
        self._awaited: dict[UUID, asyncio.Future[None]] = {}
        self._hurry = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many runs wait, each counted once however many it waits for."""
        return len(self._waiting)

    @property
    def crowded(self) -> bool:
        """Whether so many wait that only awaited runs may still begin."""
        return self.waiting >= MOST_WAITING or len(self._processes) >= MOST_WAITING_PROCESSES

    def look(self) -> None:
        """Ask at once: a run of this worker has just ended."""
        self._hurry.set()

    async def ended(
        self, db: Database, run_id: UUID, waiter: UUID, *, in_process: bool = False
    ) -> None:
        """Wait until a run is over, whoever carries it; the database may be away meanwhile.

        `waiter` is the run that waits, `in_process` says that a child process waits with it.
        """
        awaited = self._awaited.get(run_id)
        if awaited is None:
            awaited = self._awaited[run_id] = asyncio.get_running_loop().create_future()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(db), name="children")
        self.look()
        with self._giving_way(waiter, in_process=in_process):
            try:
                await awaited
            finally:
                self._awaited.pop(run_id, None)

    @contextlib.contextmanager
    def _giving_way(self, waiter: UUID, *, in_process: bool) -> Iterator[None]:
        counted = [self._waiting, self._processes] if in_process else [self._waiting]
        for waiters in counted:
            waiters[waiter] += 1
        self.wake()
        try:
            yield
        finally:
            for waiters in counted:
                waiters[waiter] -= 1
                if not waiters[waiter]:
                    del waiters[waiter]

    async def _look(self, db: Database) -> None:
        while self._awaited:
            self._hurry.clear()
            try:
                for run_id in await family.over(db, list(self._awaited)):
                    awaited = self._awaited.get(run_id)
                    if awaited is not None and not awaited.done():
                        awaited.set_result(None)
            except Exception as error:  # noqa: BLE001  who waits must hear of the end whatever comes
                log.warning("runs that wait for others wait on", error=repr(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._hurry.wait()
