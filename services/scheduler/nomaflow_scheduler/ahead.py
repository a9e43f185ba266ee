"""Looking ahead: what is due in a moment is written before it, and committed at it.

At the due instant only the commit remains, so a thousand clocks of one second fire in the first
milliseconds of it. Only what plainly fires is prepared; until the commit nobody can change the jobs
it belongs to, so it is prepared no sooner than its size asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow.store import due, firing
from nomaflow.store.database import Database
from nomaflow_scheduler import batch, templates
from nomaflow_scheduler.batch import Ticked

if TYPE_CHECKING:
    from datetime import datetime

    from nomaflow.broker.bell import Bell
    from nomaflow.store.due import Look

BATCHES = 3
"""Transactions that wait for the instant; each takes a connection of the pool."""
BATCH = 500
LEAST_SECONDS = 0.03
MOST_SECONDS = 0.9
"""Bounds of how long before the instant it begins."""
SAFETY = 1.5


@dataclass(slots=True)
class Pace:
    """How long preparing takes here, learnt from each time: seconds for each clock."""

    each: float = 0.001

    def lead(self, count: int) -> float:
        """How long before the instant so many clocks are prepared, in seconds."""
        return min(LEAST_SECONDS + SAFETY * self.each * count, MOST_SECONDS)

    def learn(self, seconds: float, count: int) -> None:
        """Take the last time into account; a slow one at once, fast ones by and by."""
        taken = max(seconds - LEAST_SECONDS / 2, 0) / count
        self.each = max(taken, 0.8 * self.each + 0.2 * taken)


async def looks(db: Database, due_at: datetime) -> list[Look]:
    """The clocks that will be due at that instant; due times that wait are not among them."""
    found = await due.looks(db, due_at, BATCHES * BATCH)
    return [look for look in found if look.due_at is None]


async def warm(db: Database, due_at: datetime) -> int:
    """Read the definitions that will be needed at that instant; answers of how many clocks.

    After a start, or a change, so that the first crowded second does not wait for its parsing.
    """
    found = await looks(db, due_at)
    async with db.acquire() as connection:
        jobs = await due.jobs(connection, sorted({look.job_id for look in found}))
        ids = [look.schedule_id for look in found if look.job_id in jobs]
        held = await due.clocks(connection, ids, due_at)
        pairs = [(one.clock, jobs[one.clock.job_id]) for one in held]
        await templates.of_clocks(connection, pairs)
    return len(pairs)


async def fire(
    db: Database, bell: Bell, found: Sequence[Look], due_at: datetime, pace: Pace
) -> Ticked:
    """Prepare these clocks and commit them at `due_at` by the database's clock.

    What somebody else holds, or what does not plainly fire, is left to the tick that follows.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def until_due(now: datetime) -> None:
        instant = loop.time() + (due_at - now).total_seconds()
        with suppress(*Database.Error):  # without it the commit takes a little longer
            await firing.flush(db)
        pace.learn(loop.time() - begun, len(found))
        await asyncio.sleep(max(instant - loop.time(), 0))

    async def serve(part: Sequence[Look]) -> Ticked:
        return (await batch.serve(db, bell, part, due_at, hold=until_due)).ticked

    ordered = sorted(found, key=lambda look: look.job_id)
    parts = [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
    done = Ticked()
    for ticked in await asyncio.gather(*(serve(part) for part in parts)):
        done += ticked
    return done
