"""Which of several schedulers ticks: one is active by a lock in Redis, the others stand by.

The lock only saves work. Without Redis every scheduler ticks, and the unique due time decides
who fires (design: once by uniqueness, cheap by lock).
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from nomaflow.broker.lock import Lock

log = structlog.get_logger(__name__)

LOCK = "nomaflow:scheduler:lead"
LOCK_SECONDS = 5.0
"""A scheduler that dies is replaced after this long, plus one look."""
LOOK_SECONDS = 1.0


class State(StrEnum):
    """What a scheduler is doing, as its row in `processes` says."""

    ACTIVE = "active"
    STANDBY = "standby"
    DISABLED = "disabled"
    ERROR = "error"


class Lead:
    """This scheduler's part among the others."""

    def __init__(self, lock: Lock, *, enabled: bool) -> None:
        self._lock = lock
        self._enabled = enabled
        self._in_trouble = False
        self.state = State.STANDBY if enabled else State.DISABLED

    @property
    def may_fire(self) -> bool:
        """True unless another one does it, or this installation never fires."""
        return self.state in {State.ACTIVE, State.ERROR}

    def went_well(self) -> None:
        """A tick did its work."""
        self._in_trouble = False

    def went_wrong(self) -> None:
        """A tick could not do its work: until one can, another scheduler may have the lock."""
        self._in_trouble = True

    async def look(self) -> State:
        """Take, keep or give back the lock; answers what this scheduler is now."""
        before = self.state
        if not self._enabled:
            self.state = State.DISABLED
        elif self._in_trouble:
            await self._lock.drop()
            self.state = State.ERROR
        else:
            ours = await self._lock.keep()
            self.state = State.STANDBY if ours is False else State.ACTIVE
        if self.state is not before:
            log.info("this scheduler changed its part", now=self.state.value, before=before.value)
        return self.state

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def leave(self) -> None:
        """Give the lock back, so that another scheduler takes over at once."""
        if self._enabled:
            await self._lock.drop()
