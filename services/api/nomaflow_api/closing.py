"""Turning clocks on and off by mutation: blackouts, pauses, one schedule, the whole scheduler."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import strawberry

from nomaflow.clock import blackout_effect
from nomaflow.clock.calendars import Blackout, blackout_problems
from nomaflow.errors import NomaflowError
from nomaflow.in_force import horizon, switches
from nomaflow.in_force.switches import Switch
from nomaflow.job.problems import Problem, SpecErrors
from nomaflow.store import job_pages
from nomaflow_api.auth import Permission
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.graph.base import UserError, mistakes
from nomaflow_api.graph.jobs import JobPayload, as_job
from nomaflow_api.graph.scalars import Json

if TYPE_CHECKING:
    from nomaflow.clock.blackout_effect import AtRisk, Concerned, Effect
    from nomaflow_api.context import Context

MOST_SHOWN = 500


@strawberry.input
class BlackoutInput:
    name: str
    from_: datetime = strawberry.field(name="from")
    until: datetime
    jobs: list[str] | None = strawberry.field(
        default=ABSENT, description='Names or patterns: ["*"], ["report-*"]'
    )
    connectors: list[str] | None = strawberry.field(
        default=ABSENT, description="Also every job with a step that uses one of these"
    )
    action: str | None = strawberry.field(
        default=ABSENT, description="skip (the default), or postpone: fire once when it is over"
    )

    def as_table(self) -> dict[str, Any]:
        """Return the same as a `[[blackouts]]` table."""
        table: dict[str, Any] = {"name": self.name, "from": self.from_, "until": self.until}
        for field in ("jobs", "connectors", "action"):
            value = getattr(self, field)
            if value is not ABSENT and value is not None:
                table[field] = value
        return table


@strawberry.type(
    description="What a window would do: slots skipped or postponed, dependants, alerts at risk"
)
class BlackoutPayload:
    effect: Json
    applied: bool
    errors: list[UserError]


@strawberry.type
class DeletePayload:
    deleted: str | None
    errors: list[UserError]


@strawberry.type
class PausePayload:
    paused: bool
    errors: list[UserError]


async def _effect(context: Context, blackout: Blackout) -> Effect:
    """Work out what it changes for all clocks in force."""
    moment = datetime.now(UTC)
    sky = await horizon.closed(context.db, moment)
    others = replace(
        sky, blackouts=tuple(one for one in sky.blackouts if one.name != blackout.name)
    )
    # With the new one among them, so that what jobs reach for is read when it names connectors.
    jobs = await job_pages.outlines(context.db)
    above = replace(sky, blackouts=(*others.blackouts, blackout))
    found = await horizon.clocks(context.db, above, jobs)
    return await asyncio.to_thread(
        blackout_effect.of,
        blackout,
        found,
        others,
        moment,
        depends_on={job.name: job.depends_on for job in jobs.values()},
        stale_after_hours={
            job.name: job.stale_after_hours for job in jobs.values() if job.stale_after_hours
        },
    )


def _shown(effect: Effect) -> Json:
    return Json(
        {
            "skipped": sum(one.skipped for one in effect.clocks),
            "postponed": sum(one.postponed for one in effect.clocks),
            "exact": effect.exact,
            "jobs": [_concerned(one) for one in effect.clocks[:MOST_SHOWN]],
            "jobsNotShown": max(0, len(effect.clocks) - MOST_SHOWN),
            "dependants": [
                {"job": job, "dependsOn": list(on)} for job, on in effect.dependants.items()
            ][:MOST_SHOWN],
            "alertsAtRisk": [_at_risk(one) for one in effect.at_risk],
        }
    )


def _concerned(one: Concerned) -> dict[str, Any]:
    return {
        "job": one.job,
        "schedule": one.schedule,
        "skipped": one.skipped,
        "postponed": one.postponed,
        "first": _time(one.first),
        "last": _time(one.last),
        "firesAfter": _time(one.fires_after),
    }


def _at_risk(one: AtRisk) -> dict[str, Any]:
    return {
        "job": one.job,
        "staleAfterHours": one.stale_after_hours,
        "gapHours": one.gap_hours,
    }


def _time(at: datetime | None) -> str | None:
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parsed(wanted: BlackoutInput) -> Blackout:
    """Read a blackout; SpecErrors lists all that is wrong with it."""
    table = wanted.as_table()
    if found := [Problem(path, message) for path, message in blackout_problems(table)]:
        raise SpecErrors(found)
    return Blackout.parse(table)


async def _blackout_set(
    info: Asked,
    input: BlackoutInput,
    apply: bool | None = False,  # noqa: FBT001, FBT002  an argument of the graph
) -> BlackoutPayload:
    context = info.context
    context.need(Permission.ADMIN)
    try:
        blackout = _parsed(input)
        await switches.check_blackout(context.db, blackout, datetime.now(UTC))
        effect = _shown(await _effect(context, blackout))
        if apply:
            await switches.set_blackout(context.db, blackout, by=context.caller.word)
    except (NomaflowError, SpecErrors) as error:
        return BlackoutPayload(effect=Json({}), applied=False, errors=mistakes(error))
    return BlackoutPayload(effect=effect, applied=bool(apply), errors=[])


async def _blackout_delete(info: Asked, name: str) -> DeletePayload:
    context = info.context
    context.need(Permission.ADMIN)
    try:
        await switches.delete_blackout(context.db, name, by=context.caller.word)
    except NomaflowError as error:
        return DeletePayload(deleted=None, errors=mistakes(error))
    return DeletePayload(deleted=name, errors=[])


async def _job_pause(info: Asked, name: str, until: datetime | None = ABSENT) -> JobPayload:
    context = info.context
    context.need(Permission.EDIT)
    bell, by = context.backing.bell, context.caller.word
    try:
        job = await switches.pause_job(context.db, bell, name, until or None, by=by)
    except NomaflowError as error:
        return JobPayload(job=None, errors=mistakes(error))
    return JobPayload(job=as_job(job), errors=[])


async def _schedule_enable(
    info: Asked,
    job: str,
    schedule: str,
    enabled: bool,  # noqa: FBT001  an argument of the graph
    reset_count: bool | None = False,  # noqa: FBT001, FBT002  an argument of the graph
) -> JobPayload:
    context = info.context
    context.need(Permission.EDIT)
    wanted = Switch(job, schedule, on=enabled, reset_count=bool(reset_count))
    bell, by = context.backing.bell, context.caller.word
    try:
        row = await switches.set_schedule(context.db, bell, wanted, by=by)
    except NomaflowError as error:
        return JobPayload(job=None, errors=mistakes(error, {"name": "job"}))
    return JobPayload(job=as_job(row), errors=[])


async def _scheduler_pause(info: Asked, paused: bool) -> PausePayload:  # noqa: FBT001  the switch
    context = info.context
    context.need(Permission.ADMIN)
    stands = await switches.pause_scheduler(context.db, paused=paused, by=context.caller.word)
    return PausePayload(paused=stands, errors=[])


@strawberry.type
class ClosingMutations:
    blackout_set: BlackoutPayload = strawberry.mutation(
        resolver=_blackout_set,
        description="Tells what a blackout would do; with apply = true it is saved, too",
    )
    blackout_delete: DeletePayload = strawberry.mutation(
        resolver=_blackout_delete,
        description="Ends a blackout; one of calendars.toml is a CONFLICT that names the file",
    )
    job_pause: JobPayload = strawberry.mutation(
        resolver=_job_pause,
        description="Stops the clocks of a job until then; null ends the pause. People and "
        "programs may still start it, and what was due meanwhile is never made up for.",
    )
    schedule_enable: JobPayload = strawberry.mutation(
        resolver=_schedule_enable,
        description="Switches one schedule; resetCount lets maxFires count from 0 again, and "
        "fireOnStart fire",
    )
    scheduler_pause: PausePayload = strawberry.mutation(
        resolver=_scheduler_pause,
        description="Stops every clock, or lets them go on from now; manual runs are free",
    )
