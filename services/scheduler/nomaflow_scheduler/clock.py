"""When to tick: at the next due time, when a job has changed, and every second by arq's cron."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from nomaflow.store import due
from nomaflow.store.database import Database
from nomaflow_scheduler import ahead, fire

if TYPE_CHECKING:
    from datetime import datetime

    from nomaflow.broker.bell import Bell
    from nomaflow.store.due import Coming
    from nomaflow_scheduler.fire import Ticked
    from nomaflow_scheduler.lead import Lead

log = structlog.get_logger(__name__)

LONGEST_SLEEP = 1.0
"""A new clock is seen after this long even when nobody told of it."""
HORIZON = 1.0
"""What is due within so many seconds is prepared, as early before it as its size asks for."""
WARM_SECONDS = 30.0
LONGEST_PAUSE = 5.0


class Clock:
    """Runs `fire.tick` whenever something may be due; never twice at once in this program."""

    def __init__(self, db: Database, bell: Bell, lead: Lead) -> None:
        self._db = db
        self._bell = bell
        self._lead = lead
        self._one = asyncio.Lock()
        self._woken = asyncio.Event()
        self._pace = ahead.Pace()
        self._warmed: datetime | None = None

    def wake(self) -> None:
        """Look again now: a job has changed."""
        self._woken.set()

    async def tick(self) -> Ticked:
        """Serve what is due now."""
        async with self._one:
            return await fire.tick(self._db, self._bell)

    async def net(self) -> None:
        """Tick whoever is active: arq lets one of all schedulers do this, once a second.

        So a scheduler that holds the lock and hangs costs a second, not the lock's time.
        """
        if self._one.locked():
            return
        try:
            await self.tick()
        except Exception as error:  # noqa: BLE001  arq would print it whole, every second
            log.warning("arq's tick failed", error=type(error).__name__)

    async def run(self) -> None:
        """Tick for ever, sleeping to the next due time; errors are said and tried again."""
        pause = 0.2
        while True:
            try:
                await self._once()
                pause = 0.2
            except (OSError, TimeoutError, *Database.Error) as error:
                self._lead.went_wrong()
                log.warning("tick failed", error=type(error).__name__, retry_seconds=pause)
            except Exception:
                self._lead.went_wrong()
                log.exception("tick failed", retry_seconds=pause)
            else:
                continue
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _once(self) -> None:
        """Tick if it is ours to tick, then wait for what comes next, or fire it on its instant."""
        if not self._lead.may_fire:
            await self._sleep(LONGEST_SLEEP)
            return
        coming = await due.coming(self._db)
        if coming.is_due:
            await self.tick()
        self._lead.went_well()
        if coming.is_due:
            return
        if coming.look_at is None or coming.seconds > HORIZON:
            await self._rest(coming)
        else:
            await self._fire_at(coming.look_at, coming.seconds)

    async def _rest(self, coming: Coming) -> None:
        """Sleep while nothing is due, having read once what will be needed when it is."""
        if coming.look_at is None:
            await self._sleep(LONGEST_SLEEP)
            return
        if coming.seconds < WARM_SECONDS and self._warmed != coming.look_at:
            self._warmed = coming.look_at
            await ahead.warm(self._db, coming.look_at)
        await self._sleep(min(coming.seconds - HORIZON, LONGEST_SLEEP))

    async def _fire_at(self, due_at: datetime, seconds: float) -> None:
        """Sleep until just before an instant, then prepare and fire what is due at it."""
        time = asyncio.get_running_loop().time
        instant = time() + seconds
        looks = await ahead.looks(self._db, due_at)
        if await self._sleep(instant - time() - self._pace.lead(len(looks))):
            return  # a job has changed: look again
        if looks and self._lead.may_fire:
            async with self._one:
                await ahead.fire(self._db, self._bell, looks, due_at, self._pace)
        # Unless it has waited for the instant: when nothing plainly fires, or somebody else fires.
        await self._sleep(instant - time())

    async def _sleep(self, seconds: float) -> bool:
        """Wait so long; True when woken before."""
        self._woken.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self._woken.wait()
                return True
        return False
