"""What becomes of one due time; pure. Asked in the order in which a person would ask.

Is a pause on, is the calendar closed, is there a blackout; did the jobs it depends on succeed; and
only then, is there room beside the runs in flight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from nomaflow import overlap
from nomaflow.clock import dependencies
from nomaflow.lifecycle import RunStatus
from nomaflow_scheduler import lateness

if TYPE_CHECKING:
    from nomaflow.clock.dependencies import Standing
    from nomaflow.overlap import InFlight
    from nomaflow.store.due import OpenSlot
    from nomaflow_scheduler.closing import Closing
    from nomaflow_scheduler.templates import Template

KEPT_SKIPPING = 3
"""Due times looked back at to tell whether a clock fires faster than its runs go."""


FASTER_THAN_ITS_RUNS = (
    "its due times come faster than its runs end, so some are skipped again and again; let it fire "
    "less often, make the job faster, or choose another `overlap`"
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a due time when it is decided."""

    now: datetime
    closing: Closing
    template: Template
    standings: Mapping[str, Standing]
    in_flight: Sequence[InFlight]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is written: the slot's outcome, and the run's status if there is to be a run."""

    outcome: str
    reason: str | None = None
    status: RunStatus | None = None
    serial: bool = False
    replaces: tuple[InFlight, ...] = ()
    look_at: datetime | None = None
    deadline: datetime | None = None
    waits_for: tuple[str, ...] | None = None

    @property
    def fires(self) -> bool:
        """True when a run is to be done."""
        return self.status is RunStatus.QUEUED


def decide(fire: lateness.Fire, around: Surroundings) -> Verdict:
    """Decide about a due time that has come."""
    if reason := around.closing.skipped(fire.due_at, around.now):
        return Verdict("skipped", reason)
    if later := around.closing.postponed(fire.due_at, around.now):
        return Verdict("postponed", later.reason, look_at=later.until)
    waits_for = dependencies.decide(
        around.template.depends_on, around.standings, fire.due_at, around.template.timezone
    )
    if waits_for.reason is None:
        return _admitted(fire, around)
    if waits_for.deadline is not None and around.now < waits_for.deadline:
        return Verdict(
            "waiting",
            waits_for.reason,
            look_at=waits_for.deadline,
            deadline=waits_for.deadline,
            waits_for=tuple(one.job for one in around.template.depends_on),
        )
    return Verdict("skipped", waits_for.reason, RunStatus.SKIPPED)


def again(slot: OpenSlot, around: Surroundings) -> Verdict:
    """Decide about a due time that has waited, or was postponed."""
    clock, job = slot.clock, around.closing.job
    if slot.retired or not job.in_force:
        return Verdict("skipped", "skipped: its schedule was taken away meanwhile")
    if not job.enabled and not around.template.fires_when_disabled:
        return Verdict("skipped", "skipped: the job was disabled meanwhile")
    if clock.max_fires and clock.fire_count >= clock.max_fires:
        return Verdict("skipped", f"skipped: the schedule has fired {clock.max_fires} times")
    if slot.outcome == "postponed" and _is_superseded(slot, around):
        return Verdict("skipped", lateness.SUPERSEDED)
    if slot.deadline is not None and around.now > slot.deadline:
        around = _as_of(slot.deadline, around)
    expected = slot.deadline or slot.look_at
    is_late = around.now > expected + lateness.GRACE and slot.outcome == "postponed"
    verdict = decide(lateness.Fire(slot.due_at, caught_up=is_late), around)
    if is_late and verdict.fires and clock.catch_up == "none":
        return Verdict("missed", "missed: no scheduler was there at the end of its blackout")
    return verdict


def _is_superseded(slot: OpenSlot, around: Surroundings) -> bool:
    """Tell whether a newer due time of the clock is postponed as well: it runs in its place."""
    newer = slot.clock.next_fire_at
    return newer is not None and newer <= around.now and around.closing.waits(newer, slot.due_at)


def _as_of(deadline: datetime, around: Surroundings) -> Surroundings:
    """Leave out what the other jobs did after the deadline: it came too late."""
    standings = {
        name: standing
        for name, standing in around.standings.items()
        if standing.finished_at is None or standing.finished_at <= deadline
    }
    return Surroundings(around.now, around.closing, around.template, standings, around.in_flight)


def _admitted(fire: lateness.Fire, around: Surroundings) -> Verdict:
    template = around.template
    if fire.caught_up:
        # Made up for one after the other, behind whatever is in flight.
        serial = template.overlap != "allow"
        return Verdict("caught_up", None, RunStatus.QUEUED, serial=serial)
    verdict = overlap.decide(template.overlap, template.queue_depth, around.in_flight)
    if verdict.refusal is not None:
        return Verdict("skipped", verdict.refusal, RunStatus.SKIPPED)
    return Verdict("fired", None, RunStatus.QUEUED, verdict.serial, verdict.replaces)


def keeps_skipping(reasons: Sequence[str], *, skipped: bool, warned: bool) -> bool:
    """Tell whether a clock fires faster than its runs go; `reasons` are of its last due times.

    It does when two of four due times in a row gave way to a run in flight, and no more when two
    in a row have fired.
    """
    if skipped:
        return warned or any(overlap.is_refusal(one) for one in reasons[:KEPT_SKIPPING])
    return warned and not (reasons and reasons[0] == "")
