"""What a batch decides: one due time after the other, and what is to be written of them all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from nomaflow import overlap
from nomaflow.clock.dependencies import Standing
from nomaflow.errors import NomaflowError
from nomaflow.in_force import clocks
from nomaflow.overlap import InFlight
from nomaflow.store.firing import Advance, Birth, Entry
from nomaflow_scheduler import closing, lateness, templates, verdict
from nomaflow_scheduler.templates import Template
from nomaflow_scheduler.verdict import Surroundings, Verdict

if TYPE_CHECKING:
    from datetime import datetime

    from nomaflow.store.due import Held, JobFacts, OpenSlot
    from nomaflow.store.schedules import ScheduleRow
    from nomaflow_scheduler.closing import Sky
    from nomaflow_scheduler.lateness import Served

log = structlog.get_logger(__name__)

LONGEST_WORDS = 500
NOBODY = UUID(int=0)
"""Stands for a run that is about to be born."""


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


def due(batch: Batch, held: Held, *, plainly: bool) -> None:
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
    try:
        if held.taken:
            _pass(batch, clock, due_at, held.taken)
        elif isinstance(template, Exception):
            _refuse(batch, clock, due_at, template)
        else:
            _fire(batch, clock, template, plainly=plainly)
    except NomaflowError as error:  # a zone that this machine does not know (any more)
        if not plainly:
            _stop(batch, clock, due_at, error)


def _pass(batch: Batch, clock: ScheduleRow, due_at: datetime, outcome: str) -> None:
    """Set a clock forward whose due time has its row already.

    That is one which was prepared and has fired, by a scheduler that died before it set the clock.
    """
    turn = Turn(clock, clocks.following(clock, due_at), warning=clock.warning)
    uncounted = clock.last_fire_at is None or clock.last_fire_at < due_at
    if outcome == "fired" and uncounted:
        turn.fires, turn.last_fire_at = 1, due_at
    batch.turns[clock.id] = turn


def _stop(batch: Batch, clock: ScheduleRow, due_at: datetime, error: NomaflowError) -> None:
    """Record a due time after which no other can be worked out, and let the clock stand still."""
    reason = f"missed: {error.message}; the schedule stands still until it is changed"
    batch.turns[clock.id] = Turn(clock, None, warning=error.message)
    batch.entries.append(Entry(clock.id, due_at, "missed", reason))
    batch.counts["missed"] += 1
    job = batch.jobs[clock.job_id].name
    log.error("a schedule stands still", job=job, schedule=clock.name, reason=error.message)


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
    if plainly and not _is_plain([one for _, one in decided]):
        return
    if any(_replaces_the_unborn(one) for _, one in decided):
        return  # a run of this batch would end another one of it: the next look does that
    turn = batch.turns.setdefault(clock.id, Turn(clock, served.next_fire_at, warning=clock.warning))
    turn.next_fire_at = served.next_fire_at
    if served.stretches:
        batch.recorded.append((clock, served))
    for fire, one in decided:
        _take(batch, turn, template, fire.due_at, one)


def _is_plain(decided: list[Verdict]) -> bool:
    """Tell whether it is one run and nothing besides: no other run is ended, or waited for."""
    return [one.outcome for one in decided] == ["fired"] and not decided[0].replaces


def _replaces_the_unborn(one: Verdict) -> bool:
    return any(other.run_id == NOBODY for other in one.replaces)


def again(batch: Batch, slot: OpenSlot) -> None:
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
    entry = Entry(
        clock.id, due_at, one.outcome, one.reason, born, one.look_at, one.deadline, one.waits_for
    )
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
    words = " ".join(str(error).split())[:LONGEST_WORDS]
    reason = f"missed: the run could not be made: {words}"
    after = clocks.following(clock, due_at)
    batch.turns[clock.id] = Turn(clock, after, warning=clock.warning)
    batch.entries.append(Entry(clock.id, due_at, "missed", reason))
    batch.counts["missed"] += 1
    job = batch.jobs[clock.job_id].name
    log.error("due time could not be fired", job=job, schedule=clock.name, reason=words)


def entries(batch: Batch) -> list[Entry]:
    """Of several due times that one window postpones, the newest runs at its end."""
    return [
        Entry(entry.schedule_id, entry.due_at, "skipped", lateness.SUPERSEDED)
        if entry.outcome == "postponed" and entry.due_at < batch.postponed[entry.schedule_id]
        else entry
        for entry in batch.entries
    ]


def advances(batch: Batch) -> Iterator[Advance]:
    """The clocks as they will stand, each set to its next due time."""
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
