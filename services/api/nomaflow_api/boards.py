"""What changes among all runs and all jobs, for panels: a snapshot first, then each change.

A board looks at the database when it is hinted at and once a second while someone listens, and
compares with what it saw before. Listeners keep a position; one that fell behind begins anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

import structlog

from nomaflow.store import job_pages, overview
from nomaflow.store.job_pages import Mark

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping

    from nomaflow.store.database import Database

K = TypeVar("K")
M = TypeVar("M")
log = structlog.get_logger(__name__)

WINDOW_SECONDS = 0.05
LOOK_SECONDS = 1.0
KEPT = 2_000
LOOK_BACK = timedelta(seconds=30)
"""Runs that ended this lately are looked at, so one that came and went is told as well."""


@dataclass(frozen=True, slots=True)
class Change(Generic[K]):
    """Something is not what it was: its name and, for jobs, what happened to it."""

    key: K
    word: str


class Board(Generic[K, M]):
    """What was seen last of each thing, and the changes since, numbered."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen: Mapping[K, M] | None = None
        self._changes: deque[Change[K]] = deque(maxlen=KEPT)
        self._number = 0
        self._listeners = 0
        self._turned = asyncio.Event()
        self._wanted = asyncio.Event()
        self._looking = asyncio.Lock()

    async def _look(self) -> Mapping[K, M]:
        raise NotImplementedError

    def _compare(self, before: Mapping[K, M], now: Mapping[K, M]) -> Iterable[Change[K]]:
        raise NotImplementedError

    def hint(self) -> None:
        """Hear that something changed."""
        if self._listeners:
            self._wanted.set()

    async def look_for_ever(self) -> None:
        """Look at each hint and once a second, as long as someone listens."""
        while True:
            if not self._listeners:
                self._seen = None
                await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.look()
            except (OSError, TimeoutError, *self._db.Error) as error:
                log.warning("a board waits for the database", error=type(error).__name__)
            await asyncio.sleep(WINDOW_SECONDS)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Compare what is there with what was seen last."""
        async with self._looking:
            now = await self._look()
            before, self._seen = self._seen, now
        if before is None:
            return
        changes = list(self._compare(before, now))
        if changes:
            self._changes.extend(changes)
            self._number += len(changes)
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()

    async def changes(self) -> AsyncGenerator[list[Change[K]] | None, None]:
        """Yield None when the listener should take a snapshot, else the changes since the last.

        The first word is None.
        """
        self._listeners += 1
        try:
            if self._seen is None:
                await self.look()
            self._wanted.set()
            position = self._number
            yield None
            while True:
                turned = self._turned
                missed = self._number - position
                if not missed:
                    await turned.wait()
                    continue
                position = self._number
                if missed > len(self._changes):
                    yield None
                else:
                    yield list(self._changes)[-missed:]
        finally:
            self._listeners -= 1


class RunBoard(Board[UUID, str]):
    """Runs in flight and those that have just ended."""

    async def _look(self) -> Mapping[UUID, str]:
        return await overview.stages(self._db, LOOK_BACK)

    def _compare(
        self, before: Mapping[UUID, str], now: Mapping[UUID, str]
    ) -> Iterable[Change[UUID]]:
        return (Change(run_id, "") for run_id, stage in now.items() if before.get(run_id) != stage)


class JobBoard(Board[str, Mark]):
    """Jobs in force."""

    async def _look(self) -> Mapping[str, Mark]:
        return await job_pages.marks(self._db)

    def _compare(
        self, before: Mapping[str, Mark], now: Mapping[str, Mark]
    ) -> Iterable[Change[str]]:
        for name in before.keys() - now.keys():
            yield Change(name, "deleted")
        for name, mark in now.items():
            old = before.get(name)
            if old is None:
                yield Change(name, "created")
            elif old.revision != mark.revision:
                yield Change(name, "edited")
            elif old.enabled != mark.enabled:
                yield Change(name, "enabled" if mark.enabled else "disabled")
            elif old.paused_until != mark.paused_until:
                yield Change(name, "paused" if mark.paused_until else "resumed")
