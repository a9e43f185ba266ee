"""A batch of due times in one transaction: locked, read, decided one by one, written at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from nomaflow import dispatch
from nomaflow.in_force import clocks
from nomaflow.lifecycle import RunStatus
from nomaflow.store import due, firing, missed, runs, standings
from nomaflow_scheduler import closing, decisions, lateness, templates, verdict
from nomaflow_scheduler.decisions import Batch
from nomaflow_scheduler.templates import Template

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.due import Closures, Held, JobFacts, Look, OpenSlot
    from nomaflow.store.schedules import ScheduleRow
    from nomaflow_scheduler.lateness import Served

log = structlog.get_logger(__name__)

LONGEST_JITTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Ticked:
    """What a tick did: due times that became runs, were made up for, skipped, missed, or wait."""

    fired: int = 0
    caught_up: int = 0
    skipped: int = 0
    missed: int = 0
    waiting: int = 0

    def __add__(self, other: Ticked) -> Ticked:
        """Add up."""
        return Ticked(
            self.fired + other.fired,
            self.caught_up + other.caught_up,
            self.skipped + other.skipped,
            self.missed + other.missed,
            self.waiting + other.waiting,
        )


@dataclass(frozen=True, slots=True)
class Done:
    """What a batch did, and the looks that somebody else held it from."""

    ticked: Ticked
    held_up: Sequence[Look] = ()


async def serve(
    db: Database,
    bell: Bell,
    looks: Sequence[Look],
    at: datetime | None,
    *,
    wait: bool = False,
) -> Done:
    """Serve these clocks and waiting due times at `at` (None: now); commit, then ring once.

    Without `wait`, what another transaction holds, or has prepared, is left alone.
    """
    async with db.transaction() as connection:
        closures = await due.begin(connection, since(looks))
        ids = sorted({look.job_id for look in looks})
        jobs = await due.lock_jobs(connection, ids, wait=wait)
        ours = [look for look in looks if look.job_id in jobs]
        clocks_due = [look.schedule_id for look in ours if look.due_at is None]
        held = await due.lock_clocks(connection, clocks_due, at, wait=wait)
        keys = [(look.schedule_id, look.due_at) for look in ours if look.due_at]
        waiting = await due.open_slots(connection, keys, at) if keys else []
        batch = await read(connection, at or closures.now, closures, jobs, held, waiting)
        for slot in waiting:
            decisions.again(batch, slot)
        for one in held:
            decisions.due(batch, one, plainly=False)
        born = await write(connection, batch, batch.sky.now)
    announce(bell, batch, dict(enumerate(born)))
    ticked = Ticked(**{name: batch.counts[name] for name in Ticked.__slots__})
    there = {one.clock.id for one in held}
    return Done(ticked, [look for look in looks if _is_held_up(look, jobs, there)])


def _is_held_up(look: Look, jobs: Collection[UUID], there: Collection[UUID]) -> bool:
    """Tell whether somebody else holds it, or has just served it: the next look tells which."""
    return look.job_id not in jobs or (look.due_at is None and look.schedule_id not in there)


def since(looks: Sequence[Look]) -> datetime:
    """Since when it matters what was closed."""
    return min(look.look_at for look in looks) - LONGEST_JITTER


async def read(
    connection: Connection,
    now: datetime,
    closures: Closures,
    jobs: dict[UUID, JobFacts],
    held: Sequence[Held],
    waiting: Sequence[OpenSlot],
) -> Batch:
    """Read what stands around these due times."""
    clocks_of_all = [*(one.clock for one in held), *(slot.clock for slot in waiting)]
    pairs = [(clock, jobs[clock.job_id]) for clock in clocks_of_all]
    found = await templates.of_clocks(connection, pairs)
    known = [one for one in found.values() if isinstance(one, Template)]
    wanted = {one.job for template in known for one in template.depends_on}
    bounded = templates.bounded(known)
    return Batch(
        now=now,
        sky=closing.sky(closures),
        jobs=jobs,
        templates=found,
        standings=await standings.of(connection, wanted),
        in_flight=await runs.in_flight_of(connection, sorted(bounded)) if bounded else {},
    )


async def write(
    connection: Connection, batch: Batch, queued_at: datetime, *, ahead: bool = False
) -> list[UUID]:
    """Write what was decided; answers the ids of the runs, in the order of the births.

    Ahead of its time the clocks are not set forward: that would hold them.
    """
    for clock, served in batch.recorded:
        await _record(connection, batch, clock, served)
    await _warn(connection, batch)
    ids = await firing.new_ids(connection, len(batch.births)) if batch.births else []
    if batch.turn_takers:
        await runs.take_turns(connection, batch.turn_takers)
    entries, advances = decisions.entries(batch), () if ahead else list(decisions.advances(batch))
    await firing.write(connection, entries, batch.births, ids, advances, queued_at)
    if batch.postponed:
        await firing.supersede(connection, batch.postponed, lateness.SUPERSEDED)
    for born, others in batch.replaced:
        for other in others:
            await dispatch.end_for(connection, other, f"replaced by run {ids[born]}")
    return ids


async def _record(connection: Connection, batch: Batch, clock: ScheduleRow, served: Served) -> None:
    """Write down the due times of an absence; a gap goes on where the last piece of it ended."""
    first = served.stretches[0].times[0]
    gap = await missed.last_gap(connection, clock.id, first)
    if gap is not None and clocks.following(clock, gap.until) != first:
        gap = None
    await missed.record(connection, clock.id, served.stretches, after=gap)
    for one in served.stretches:
        batch.counts[one.outcome] += len(one.times)
        say = log.warning if one.outcome == "missed" else log.info
        say(
            "due times passed",
            outcome=one.outcome,
            job=batch.jobs[clock.job_id].name,
            schedule=clock.name,
            count=len(one.times),
            first=one.times[0].isoformat(),
            last=one.times[-1].isoformat(),
        )


async def _warn(connection: Connection, batch: Batch) -> None:
    """Say once of a clock that fires faster than its runs go, and take it back when it is over."""
    concerned = [
        turn
        for turn in batch.turns.values()
        if (turn.gave_way and turn.warning is None) or (turn.fires and turn.warning is not None)
    ]
    if not concerned:
        return
    lately = await due.lately(connection, [turn.clock.id for turn in concerned])
    for turn in concerned:
        reasons = lately.get(turn.clock.id, [])
        warned = turn.warning is not None
        if verdict.keeps_skipping(reasons, skipped=turn.gave_way, warned=warned):
            turn.warning = turn.warning or verdict.FASTER_THAN_ITS_RUNS
        else:
            turn.warning = None
        if turn.warning and not warned:
            job = batch.jobs[turn.clock.job_id].name
            log.warning("a schedule keeps skipping", job=job, schedule=turn.clock.name)


def announce(bell: Bell, batch: Batch, ids: Mapping[int, UUID]) -> None:
    """Ring once for all, and tell listeners of each; `ids` of those births that have come true."""
    born = [(run_id, batch.births[at].status) for at, run_id in ids.items()]
    waiting = [run_id for run_id, status in born if status is RunStatus.QUEUED]
    if waiting:
        bell.ring(waiting[0])
    for run_id, status in born:
        bell.news(run_id, 1, status.value)
    for _, others in batch.replaced:
        for other in others:
            bell.abort(other.run_id)
            bell.news(other.run_id, 0)
