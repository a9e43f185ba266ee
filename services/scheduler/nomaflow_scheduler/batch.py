"""A batch of due times in one transaction: locked, read, decided one by one, written at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from nomaflow import clocks, dispatch, overlap
from nomaflow.dependencies import Standing
from nomaflow.lifecycle import RunStatus
from nomaflow.overlap import InFlight
from nomaflow.store import firing, missed, runs, standings
from nomaflow.store.firing import Advance, Birth, Entry
from nomaflow_scheduler import closing, lateness, templates, verdict
from nomaflow_scheduler.templates import Template
from nomaflow_scheduler.verdict import Surroundings, Verdict

if TYPE_CHECKING:
    from datetime import datetime

    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.firing import Closures, Held, JobFacts, Look, OpenSlot
    from nomaflow.store.schedules import ScheduleRow
    from nomaflow_scheduler.closing import Sky
    from nomaflow_scheduler.lateness import Served

log = structlog.get_logger(__name__)

LONGEST_JITTER = timedelta(hours=1)
NOBODY = UUID(int=0)
"""Stands for a run that is about to be born."""


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


@dataclass(slots=True)
class Turn:
    """A clock while its due times are decided."""

    clock: ScheduleRow
    next_fire_at: datetime | None
    fires: int = 0
    last_fire_at: datetime | None = None
    gave_way: bool = False
    warning: str | None = None


@dataclass(slots=True)
class Batch:
    """What one transaction decides about, and what it will write."""

    now: datetime
    sky: Sky
    jobs: dict[UUID, JobFacts]
    templates: dict[UUID, templates.Found]
    standings: dict[str, Standing]
    in_flight: dict[UUID, list[InFlight]]
    turns: dict[UUID, Turn] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    births: list[Birth] = field(default_factory=list)
    replaced: list[tuple[int, tuple[InFlight, ...]]] = field(default_factory=list)
    turn_takers: list[UUID] = field(default_factory=list)
    postponed: dict[UUID, datetime] = field(default_factory=dict)
    recorded: list[tuple[ScheduleRow, Served]] = field(default_factory=list)
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


async def serve(
    db: Database,
    bell: Bell,
    looks: Sequence[Look],
    at: datetime | None,
    *,
    wait: bool = False,
    hold: Callable[[datetime], Awaitable[None]] | None = None,
) -> Done:
    """Serve these clocks and waiting due times at `at` (None: now); commit, then ring once.

    Without `wait`, what another transaction holds is left alone. With `hold`, only what plainly
    fires is served, and `hold` is awaited with the database's clock before the commit.
    """
    async with db.transaction() as connection:
        since = min(look.look_at for look in looks) - LONGEST_JITTER
        closures = await firing.begin(connection, since)
        ids = sorted({look.job_id for look in looks})
        jobs = await firing.lock_jobs(connection, ids, wait=wait)
        ours = [look for look in looks if look.job_id in jobs]
        held = await firing.clocks(
            connection, [look.schedule_id for look in ours if look.due_at is None], at
        )
        waiting = await firing.open_slots(
            connection, [(look.schedule_id, look.due_at) for look in ours if look.due_at], at
        )
        batch = await _read(connection, at or closures.now, closures, jobs, held, waiting)
        for slot in waiting:
            _again(batch, slot)
        for one in held:
            _due(batch, one, plainly=hold is not None)
        born = await _write(connection, batch, at if hold else None)
        if hold is not None and born:
            await hold(await firing.clock(connection))
    _announce(bell, batch, born)
    ticked = Ticked(**{name: batch.counts[name] for name in Ticked.__slots__})
    return Done(ticked, [look for look in looks if look.job_id not in jobs])


async def _read(
    connection: Connection,
    now: datetime,
    closures: Closures,
    jobs: dict[UUID, JobFacts],
    held: Sequence[Held],
    waiting: Sequence[OpenSlot],
) -> Batch:
    clocks_of_all = [*(one.clock for one in held), *(slot.clock for slot in waiting)]
    pairs = [(clock, jobs[clock.job_id]) for clock in clocks_of_all]
    found = await templates.of_clocks(connection, pairs)
    known = [one for one in found.values() if isinstance(one, Template)]
    wanted = {one.job for template in known for one in template.depends_on}
    bounded = {one.run.job_id for one in known if one.overlap != "allow" and one.run.job_id}
    return Batch(
        now=now,
        sky=closing.sky(closures),
        jobs=jobs,
        templates=found,
        standings=await standings.of(connection, wanted),
        in_flight=await runs.in_flight_of(connection, sorted(bounded)) if bounded else {},
    )


def _due(batch: Batch, held: Held, *, plainly: bool) -> None:
    """Decide about a clock whose time has come."""
    clock, job = held.clock, batch.jobs[held.clock.job_id]
    template, due_at = batch.templates[clock.id], clock.next_fire_at
    if due_at is None or (plainly and (isinstance(template, Exception) or held.taken)):
        return
    if not job.in_force or not (job.enabled or _is_free(template)):
        if plainly:
            return
        batch.turns[clock.id] = Turn(clock, None, warning=clock.warning)
        return
    if held.taken:
        after = clocks.following(clock, due_at)
        batch.turns[clock.id] = Turn(clock, after, warning=clock.warning)
    elif isinstance(template, Exception):
        _refuse(batch, clock, due_at, template)
    else:
        _fire(batch, clock, template, plainly=plainly)


def _is_free(template: templates.Found) -> bool:
    return isinstance(template, Template) and template.fires_when_disabled


def _fire(batch: Batch, clock: ScheduleRow, template: Template, *, plainly: bool) -> None:
    around = _around(batch, clock, template)
    served = lateness.serve(
        clock,
        batch.now,
        around.closing.shut,
        lambda due_at: around.closing.waits(due_at, batch.now - lateness.GRACE),
    )
    decided = [(fire, verdict.decide(fire, around)) for fire in served.fires]
    if plainly and [one.outcome for _, one in decided] != ["fired"]:
        return
    if any(_replaces_the_unborn(one) for _, one in decided):
        return  # a run of this batch would end another one of it: the next look does that
    turn = batch.turns.setdefault(clock.id, Turn(clock, served.next_fire_at, warning=clock.warning))
    turn.next_fire_at = served.next_fire_at
    if served.stretches:
        batch.recorded.append((clock, served))
    for fire, one in decided:
        _take(batch, turn, template, fire.due_at, one)


def _replaces_the_unborn(one: Verdict) -> bool:
    return any(other.run_id == NOBODY for other in one.replaces)


def _again(batch: Batch, slot: OpenSlot) -> None:
    """Decide about a due time that waited."""
    clock, template = slot.clock, batch.templates[slot.clock.id]
    if isinstance(template, Exception):
        one = Verdict("missed", f"missed: the run could not be made: {template}")
    else:
        one = verdict.again(slot, _around(batch, clock, template))
    if _replaces_the_unborn(one):
        return
    turn = batch.turns.setdefault(clock.id, Turn(clock, clock.next_fire_at, warning=clock.warning))
    _take(batch, turn, template, slot.due_at, one)


def _around(batch: Batch, clock: ScheduleRow, template: Template) -> Surroundings:
    job = batch.jobs[clock.job_id]
    return Surroundings(
        now=batch.now,
        closing=closing.of(batch.sky, clock, job, template.connectors),
        template=template,
        standings=batch.standings,
        in_flight=batch.in_flight.get(job.id, ()),
    )


def _take(
    batch: Batch, turn: Turn, template: templates.Found, due_at: datetime, one: Verdict
) -> None:
    """Note what is to be written of one due time."""
    clock, born = turn.clock, None
    if one.status is not None and isinstance(template, Template):
        born = len(batch.births)
        batch.births.append(Birth(template.run, due_at, one.status, one.reason, one.serial))
        turn.gave_way = turn.gave_way or overlap.is_refusal(one.reason or "")
    if one.fires and born is not None:
        _stand_in(batch, clock.job_id, template, one, born)
        turn.fires += 1
        turn.last_fire_at = due_at
    if one.outcome == "postponed":
        batch.postponed[clock.id] = due_at
    entry = Entry(clock.id, due_at, one.outcome, one.reason, born, one.look_at, one.deadline)
    batch.entries.append(entry)
    batch.counts[{"postponed": "waiting"}.get(one.outcome, one.outcome)] += 1


def _stand_in(
    batch: Batch, job_id: UUID, template: templates.Found, one: Verdict, born: int
) -> None:
    """Let the rest of the batch see the run that is about to be born."""
    if not isinstance(template, Template) or template.overlap == "allow":
        return
    others = batch.in_flight.setdefault(job_id, [])
    if one.replaces:
        batch.replaced.append((born, one.replaces))
        others.clear()
    if one.outcome == "caught_up" and len(others) == 1 and others[0].run_id != NOBODY:
        batch.turn_takers.append(others[0].run_id)
    others.append(InFlight(NOBODY, running=False, started=False))


def _refuse(batch: Batch, clock: ScheduleRow, due_at: datetime, error: Exception) -> None:
    """Record a due time whose run cannot be made, so that the clock goes on after it."""
    reason = f"missed: the run could not be made: {error}"
    after = clocks.following(clock, due_at)
    batch.turns[clock.id] = Turn(clock, after, warning=clock.warning)
    batch.entries.append(Entry(clock.id, due_at, "missed", reason))
    batch.counts["missed"] += 1
    job = batch.jobs[clock.job_id].name
    log.error("due time could not be fired", job=job, schedule=clock.name, reason=str(error))


async def _write(connection: Connection, batch: Batch, queued_at: datetime | None) -> list[UUID]:
    for clock, served in batch.recorded:
        await _record(connection, batch, clock, served)
    await _warn(connection, batch)
    ids = await firing.new_ids(connection, len(batch.births)) if batch.births else []
    if batch.turn_takers:
        await runs.take_turns(connection, batch.turn_takers)
    moment = queued_at or batch.sky.now
    await firing.write(
        connection, _newest_only(batch), batch.births, ids, list(_advances(batch)), moment
    )
    if batch.postponed:
        await firing.supersede(connection, batch.postponed, lateness.SUPERSEDED)
    for born, others in batch.replaced:
        for other in others:
            await dispatch.end_for(connection, other, f"replaced by run {ids[born]}")
    return ids


def _newest_only(batch: Batch) -> list[Entry]:
    """Of several due times that one window postpones, the newest runs at its end."""
    return [
        Entry(entry.schedule_id, entry.due_at, "skipped", lateness.SUPERSEDED)
        if entry.outcome == "postponed" and entry.due_at < batch.postponed[entry.schedule_id]
        else entry
        for entry in batch.entries
    ]


def _advances(batch: Batch) -> Iterator[Advance]:
    for turn in batch.turns.values():
        clock, after = turn.clock, turn.next_fire_at
        if clock.max_fires and clock.fire_count + turn.fires >= clock.max_fires:
            after = None
        jitter = clocks.offset(batch.jobs[clock.job_id].name, clock.name, clock.jitter_seconds)
        yield Advance(
            schedule_id=clock.id,
            was=clock.next_fire_at,
            next_fire_at=after,
            look_at=after and after + jitter,
            last_fire_at=turn.last_fire_at,
            fires=turn.fires,
            warning=turn.warning,
        )


async def _record(connection: Connection, batch: Batch, clock: ScheduleRow, served: Served) -> None:
    """Write down the due times of an absence; a gap goes on where the last piece of it ended."""
    first = served.stretches[0].times[0]
    gap = await missed.last_gap(connection, clock.id, first)
    if gap is not None and clocks.following(clock, gap.until) != first:
        gap = None
    await missed.record(connection, clock.id, served.stretches, after=gap)
    for one in served.stretches:
        batch.counts[one.outcome] += len(one.times)
        log.warning(
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
    lately = await firing.lately(connection, [turn.clock.id for turn in concerned])
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


def _announce(bell: Bell, batch: Batch, ids: Sequence[UUID]) -> None:
    """Ring once for all, and tell listeners of each."""
    waiting = [
        run_id
        for run_id, run in zip(ids, batch.births, strict=True)
        if run.status is RunStatus.QUEUED
    ]
    if waiting:
        bell.ring(waiting[0])
    for run_id, run in zip(ids, batch.births, strict=True):
        bell.news(run_id, 1, run.status.value)
    for _, others in batch.replaced:
        for other in others:
            bell.abort(other.run_id)
            bell.news(other.run_id, 0)
