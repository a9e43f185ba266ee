"""What a clock's runs are born with, worked out once for each revision of its job."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow import birth
from nomaflow.errors import NomaflowError
from nomaflow.in_force import definitions
from nomaflow.job import uses
from nomaflow.job.problems import SpecErrors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from nomaflow.job.spec import DependencySpec, JobSpec
    from nomaflow.overlap import Policy
    from nomaflow.store.births import NewRun
    from nomaflow.store.database import Connection
    from nomaflow.store.due import JobFacts
    from nomaflow.store.schedules import ScheduleRow

KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Template:
    """A clock's run, all but its due time; and what decides whether it is born."""

    run: NewRun
    timezone: str
    overlap: Policy
    queue_depth: int
    depends_on: Sequence[DependencySpec]
    connectors: Sequence[str]
    fires_when_disabled: bool


Found = Template | Exception
"""An exception says why no run of this clock can be made."""

_known: OrderedDict[UUID, tuple[tuple[int, str | None, Mapping[str, Any]], Found]] = OrderedDict()


async def of_clocks(
    connection: Connection, pairs: Iterable[tuple[ScheduleRow, JobFacts]]
) -> dict[UUID, Found]:
    """Return the template of each clock by its id; what is not known yet is read in one go."""
    found: dict[UUID, Found] = {}
    unknown: list[tuple[ScheduleRow, JobFacts]] = []
    for clock, job in pairs:
        kept = _known.get(clock.id)
        if kept is not None and kept[0] == (job.revision, clock.preset, clock.params):
            _known.move_to_end(clock.id)
            found[clock.id] = kept[1]
        else:
            unknown.append((clock, job))
    if unknown:
        keys = [(job.id, job.revision) for _, job in unknown]
        specs = await definitions.of_revisions(connection, keys)
        for clock, job in unknown:
            made = _made(clock, job, specs[job.id, job.revision])
            found[clock.id] = made
            _known[clock.id] = ((job.revision, clock.preset, clock.params), made)
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return found


def _made(clock: ScheduleRow, job: JobFacts, spec: JobSpec | Exception) -> Found:
    if isinstance(spec, Exception):
        return spec
    try:
        wishes = birth.wishes_of_clock(spec, clock)
        run = birth.of(
            job,
            spec,
            wishes,
            trigger="cron",
            triggered_by="cron",
            schedule_id=clock.id,
            schedule_name=clock.name,
            lock=spec.lock,
        )
    except (NomaflowError, SpecErrors, ValueError) as error:
        return error
    return Template(
        run=run,
        timezone=clock.timezone,
        overlap=spec.overlap,
        queue_depth=spec.queue_depth,
        depends_on=spec.depends_on,
        connectors=uses.connectors(spec, wishes.params),
        fires_when_disabled=spec.fires_when_disabled(clock.name),
    )


def bounded(found: Iterable[Found]) -> set[UUID]:
    """Jobs of these clocks whose runs mind each other."""
    known = (one for one in found if isinstance(one, Template) and one.overlap != "allow")
    return {one.run.job_id for one in known if one.run.job_id}
