"""Looking ahead: what is due in a moment is written before it, and committed at it.

At the due instant only the commit remains, so a thousand clocks of one second fire in the first
milliseconds of it. Only what plainly fires is prepared, and nothing is held meanwhile: a job can be
edited, paused or started. A moment before the instant the jobs are locked, and what is not as it
was when it was prepared is taken back and left to the tick that follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import structlog

from nomaflow.store import due, firing
from nomaflow.store.database import Database
from nomaflow_scheduler import batch, decisions, templates
from nomaflow_scheduler.batch import Ticked

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Connection
    from nomaflow.store.due import Closures, Held, Look
    from nomaflow_scheduler.decisions import Batch

log = structlog.get_logger(__name__)

BATCHES = 3
"""Transactions that wait for the instant; each takes a connection of the pool."""
BATCH = 500
LEAST_SECONDS = 0.03
MOST_SECONDS = 0.9
"""Bounds of how long before the instant it begins."""
MOST_HELD_SECONDS = 0.1
"""How long jobs are held before the instant, at the most."""
SAFETY = 1.5


@dataclass(slots=True)
class Pace:
    """How long it takes here, learnt from each time.

    Preparing, in seconds for each clock; and then confirming a batch.
    """

    each: float = 0.001
    confirming: float = 0.01

    def lead(self, count: int) -> float:
        """How long before the instant so many clocks are prepared, in seconds."""
        return min(LEAST_SECONDS + SAFETY * self.each * count, MOST_SECONDS)

    def learn(self, seconds: float, count: int) -> None:
        """Take the last time into account; a slow one at once, fast ones by and by."""
        taken = max(seconds - LEAST_SECONDS / 2, 0) / count
        self.each = max(taken, 0.8 * self.each + 0.2 * taken)

    @property
    def held(self) -> float:
        """How long before the instant a batch begins to be confirmed, in seconds."""
        return min(SAFETY * self.confirming, MOST_HELD_SECONDS)

    def learn_confirming(self, seconds: float) -> None:
        """Take the last time into account."""
        self.confirming = max(seconds, 0.8 * self.confirming + 0.2 * seconds)


class Instant(Protocol):
    """What a prepared batch waits for."""

    async def comes(self, now: datetime) -> None:
        """Wait until the instant is near; `now` is the database's clock."""

    async def is_here(self) -> None:
        """Wait until it is there."""


class DueTime:
    """An instant by the database's clock, waited for by one batch; learns how long things took."""

    def __init__(self, db: Database, due_at: datetime, pace: Pace, count: int) -> None:
        self._db, self._due_at, self._pace, self._count = db, due_at, pace, count
        self._time = asyncio.get_running_loop().time
        self._begun = self._near = self._at = self._time()

    async def comes(self, now: datetime) -> None:
        """Sleep until there is just time enough to confirm."""
        self._at = self._time() + (self._due_at - now).total_seconds()
        with suppress(*Database.Error):  # without it the commit takes a little longer
            await firing.flush(self._db)
        self._pace.learn(self._time() - self._begun, self._count)
        await asyncio.sleep(max(self._at - self._pace.held - self._time(), 0))
        self._near = self._time()

    async def is_here(self) -> None:
        """Sleep until the instant."""
        self._pace.learn_confirming(self._time() - self._near)
        await asyncio.sleep(max(self._at - self._time(), 0))


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

    What somebody else holds or has changed, or does not plainly fire, is left to the next tick.
    """
    ordered = sorted(found, key=lambda look: look.job_id)
    parts = [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
    done = Ticked()
    preparing = (
        prepare(db, bell, part, due_at, DueTime(db, due_at, pace, len(found))) for part in parts
    )
    for ticked in await asyncio.gather(*preparing):
        done += ticked
    return done


async def prepare(
    db: Database,
    bell: Bell,
    looks: Sequence[Look],
    due_at: datetime,
    instant: Instant,
) -> Ticked:
    """Write what plainly fires at `due_at`, confirm it when that is near, commit when it is there.

    When somebody else has fired, or closed, these clocks meanwhile, nothing is done.
    """
    try:
        async with db.transaction() as connection:
            prepared = await _write(connection, looks, due_at)
            if not prepared.ids:
                return Ticked()
            await instant.comes(await due.clock(connection))
            born = await _confirm(connection, prepared)
            await instant.is_here()
    except firing.TakenError:
        return Ticked()
    batch.announce(bell, prepared.batch, born)
    fired = {prepared.batch.births[at].run.schedule_id for at in born}
    async with db.transaction() as connection:
        await _set_forward(connection, prepared, fired)
    return Ticked(fired=len(born))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is written and not yet true, and all that it was decided by."""

    batch: Batch
    ids: Sequence[UUID]
    since: datetime
    closures: Closures
    held: Sequence[Held]


async def _write(connection: Connection, looks: Sequence[Look], due_at: datetime) -> Prepared:
    since = batch.since(looks)
    closures = await due.begin_ahead(connection, since)
    jobs = await due.jobs(connection, sorted({look.job_id for look in looks}))
    wanted = [look.schedule_id for look in looks if look.job_id in jobs]
    held = await due.clocks(connection, wanted, due_at)
    made = await batch.read(connection, due_at, closures, jobs, held, ())
    for one in held:
        decisions.due(made, one, plainly=True)
    ids = await batch.write(connection, made, due_at, ahead=True)
    return Prepared(made, ids, since, closures, held)


async def _confirm(connection: Connection, prepared: Prepared) -> dict[int, UUID]:
    """Take back what belongs to a job that is not as it was; answers the ids of what stays.

    Raises TakenError when what closes clocks has changed.
    """
    closures = await due.begin(connection, prepared.since)
    if not closures.alike(prepared.closures):
        raise firing.TakenError
    made = prepared.batch
    same = await _lock(connection, prepared, (run.run.job_id for run in made.births))
    known = {one.run_id for others in made.in_flight.values() for one in others}
    minding = templates.bounded(made.templates.values()) & same
    free = same - await due.joined(connection, minding, known | set(prepared.ids))
    born = {n: id_ for n, id_ in enumerate(prepared.ids) if made.births[n].run.job_id in free}
    if len(born) < len(prepared.ids):
        gone = set(prepared.ids) - set(born.values())
        log.info("prepared fires are left to the next tick", count=len(gone))
        await firing.take_back(connection, sorted(gone))
    return born


async def _set_forward(
    connection: Connection, prepared: Prepared, fired: Collection[UUID | None]
) -> None:
    """Set the clocks that have fired to their next due time, once that holds up nobody.

    Those that somebody changes just now, or after a fall right here, are set by the next tick.
    """
    turns = prepared.batch.turns
    same = await _lock(connection, prepared, (turns[id_].clock.job_id for id_ in fired if id_))
    advances = [
        one
        for one in decisions.advances(prepared.batch)
        if one.schedule_id in fired and turns[one.schedule_id].clock.job_id in same
    ]
    versions = {one.clock.id: one.version for one in prepared.held}
    await firing.advance(connection, advances, versions)


async def _lock(
    connection: Connection, prepared: Prepared, jobs: Iterable[UUID | None]
) -> set[UUID]:
    """Hold those of these jobs that are as they were and that nobody else holds."""
    ids = sorted({id_ for id_ in jobs if id_})
    return await due.lock_unchanged(
        connection, {id_: prepared.batch.jobs[id_].version for id_ in ids}
    )
