"""Wakes due times that wait for other jobs when a run of one of those begins or ends.

The news of a run comes over Redis, which may lose it; once a second what has ended is looked up.
Neither looks at what waits, so a thousand waiting due times cost what one does.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from nomaflow.lifecycle import FINAL_RUN, RunStatus
from nomaflow.store import waits
from nomaflow.store.database import Database

if TYPE_CHECKING:
    from datetime import datetime

    from nomaflow_scheduler.clock import Clock
    from nomaflow_scheduler.lead import Lead

log = structlog.get_logger(__name__)

GATHER_SECONDS = 0.02
"""How long news may wait for others: many runs end together, and are one question."""
AT_A_TIME = 1_000
TELLING = {status.value for status in (*FINAL_RUN, RunStatus.QUEUED)} - {RunStatus.SKIPPED.value}
"""What a run becomes when it matters to those who wait for its job; only the reason, if queued."""


class Awaited:
    """What this scheduler has heard of runs, until it has looked who waits for them."""

    def __init__(self, db: Database, clock: Clock, lead: Lead) -> None:
        self._db = db
        self._clock = clock
        self._lead = lead
        self._runs: set[UUID] = set()
        self._heard = asyncio.Event()
        self._since: datetime | None = None

    def hear(self, word: str) -> None:
        """Take a word of the channel of news; what cannot be read is left to the net."""
        try:
            told = [UUID(one["run"]) for one in json.loads(word) if one.get("status") in TELLING]
        except (ValueError, TypeError, KeyError, AttributeError):
            log.debug("a word of the news could not be read")
            return
        if told and len(self._runs) < AT_A_TIME:
            self._runs.update(told)
            self._heard.set()

    async def run(self) -> None:
        """Wake what waits for the runs heard of, for ever."""
        while True:
            await self._heard.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._heard.clear()
            runs, self._runs = self._runs, set()
            if not self._lead.may_fire:
                continue
            try:
                if await waits.wake_for(self._db, runs):
                    self._clock.wake()
            except (OSError, TimeoutError, *Database.Error) as error:
                log.debug("left to the net", error=type(error).__name__)

    async def look(self) -> None:
        """Wake what waits for runs that have ended since the last look: the net."""
        if not self._lead.may_fire:
            self._since = None
            return
        woken = await waits.wake_since(self._db, self._since)
        self._since = woken.at
        if woken.count:
            self._clock.wake()
