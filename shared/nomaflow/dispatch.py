"""The one way in: cron, people, the API, the CLI and other jobs all create a run here.

A run is written with its steps in one transaction and committed; only then is the doorbell
rung. Whatever was started is found again by the workers even when the ring is lost.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asyncpg import UniqueViolationError

from nomaflow import definitions, lifecycle, parameters
from nomaflow.errors import Code, NomaflowError
from nomaflow.job_problems import SpecErrors
from nomaflow.lifecycle import IN_FLIGHT, RunStatus
from nomaflow.store import jobs, runs, schedules

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.job import JobSpec
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.jobs import JobRow
    from nomaflow.store.schedules import Due

IDEMPOTENT_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Someone wants a job to run now; `triggered_by` is the exact word of history (T01)."""

    job: str
    trigger: str
    triggered_by: str
    principal: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    step_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    step_enabled: Mapping[str, bool] = field(default_factory=dict)
    preset: str | None = None
    log_level: str | None = None
    dry_run: bool = False
    idempotency_key: str | None = None
    parent_run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The run that answers a request; `created` is False when the key found an earlier one."""

    run_id: UUID
    created: bool
    status: RunStatus
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Fire:
    """What one fire adds to the definition: its clock's, its preset's and its caller's wishes."""

    params: Mapping[str, Any]
    step_kwargs: Mapping[str, Mapping[str, Any]]
    step_enabled: Mapping[str, bool]
    log_level: str | None
    preset: str | None


async def start(db: Database, bell: Bell, request: Request) -> Started:
    """Create a run of a job in force; commit, then ring.

    Raises NomaflowError: NOT_FOUND (with the nearest names), BUSY when a run is in flight and
    the job does not allow two (S15), and SpecErrors for overrides that do not fit (T07).
    """
    async with db.transaction() as connection:
        job = await jobs.find(connection, request.job, lock=True)
        if job is None:
            raise _unknown(request.job, await jobs.names(connection))
        spec = definitions.of_job(job)
        if request.idempotency_key is not None:
            earlier = await _earlier(connection, request)
            if earlier is not None:
                return earlier
        fire = _fire_of(spec, request)
        busy = await runs.in_flight(connection, job.id) if spec.overlap == "skip" else None
        if busy is not None:
            raise NomaflowError(
                Code.BUSY,
                f"job `{job.name}` is already running (run {busy}); wait for it, abort it, or "
                'let the job overlap (overlap = "allow")',
            )
        run_id = await _insert(
            connection,
            _born(
                job,
                spec,
                fire,
                trigger=request.trigger,
                triggered_by=request.triggered_by,
                principal=request.principal,
                dry_run=request.dry_run,
                idempotency_key=request.idempotency_key,
                parent_run_id=request.parent_run_id,
            ),
        )
    _announce(bell, run_id, RunStatus.QUEUED)
    return Started(run_id, created=True, status=RunStatus.QUEUED, reason=None)


async def fire(db: Database, bell: Bell, due: Due, next_fire_at: datetime | None) -> Started | None:
    """Turn one due time into a run, or into a `skipped` run that says why (S13).

    Taking the slot, writing the run and advancing the clock are one transaction, so a due time
    is fired once however many schedulers try. None: another one has fired it.
    """
    clock = due.schedule
    due_at = clock.next_fire_at
    if due_at is None:
        return None
    async with db.transaction() as connection:
        job = await jobs.find_by_id(connection, clock.job_id, lock=True)
        if job is None or not job.enabled:
            await schedules.set_next(connection, clock.id, None)
            return None
        if not await schedules.take_slot(connection, clock.id, due_at, "fired"):
            await schedules.fired(connection, clock.id, due_at, next_fire_at, counts=False)
            return None
        spec = definitions.of_job(job)
        busy = await runs.in_flight(connection, job.id) if spec.overlap == "skip" else None
        status, reason = RunStatus.QUEUED, None
        if busy is not None:
            status, reason = RunStatus.SKIPPED, lifecycle.SKIPPED_OVERLAP
        born = _born(
            job,
            spec,
            _fire_of_clock(spec, due),
            trigger="cron",
            triggered_by="cron",
            status=status,
            reason=reason,
            schedule_id=clock.id,
            schedule_name=clock.name,
            scheduled_for=due_at,
        )
        run_id = await _insert(connection, born)
        outcome = "fired" if busy is None else "skipped"
        await schedules.fill_slot(connection, clock.id, due_at, outcome, reason, run_id)
        await schedules.fired(connection, clock.id, due_at, next_fire_at)
    _announce(bell, run_id, status)
    return Started(run_id, created=True, status=status, reason=reason)


async def abort(
    db: Database, bell: Bell, run_id: UUID, *, by: str, reason: str | None = None
) -> RunStatus:
    """Ask for a run's end: a queued one ends here, a running one is told to its owner.

    Asking again for a running run is fine (idempotent). Raises NomaflowError: NOT_FOUND for an
    unknown run, INVALID_STATE for one that is over (X23).
    """
    while True:
        held = await runs.held(db, run_id)
        if held is None:
            raise NomaflowError(Code.NOT_FOUND, f"there is no run {run_id}", ("run",))
        if held.status not in IN_FLIGHT:
            raise NomaflowError(
                Code.INVALID_STATE,
                f"run {run_id} is already {held.status.value}; only a run that is queued or "
                "running can be aborted",
                ("run",),
            )
        if held.status is RunStatus.QUEUED:
            move = lifecycle.abort(held, abort_words(by, reason))
            seq = await runs.apply(db, move)
            if seq is not None:
                bell.news(run_id, seq, RunStatus.ABORTED.value)
                return RunStatus.ABORTED
        elif await runs.request_abort(db, run_id, by, reason):
            bell.abort(run_id)
            return RunStatus.RUNNING
        # it moved on between the look and the write: look again


def abort_words(by: str | None, reason: str | None) -> str:
    """Say who ended a run and why, as its history keeps it."""
    who = f"aborted by {by or 'unknown'}"
    return f"{who}: {reason}" if reason else who


def _unknown(name: str, names: list[str]) -> NomaflowError:
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else ""
    return NomaflowError(Code.NOT_FOUND, f"there is no job `{name}`{hint}", ("job",))


async def _earlier(connection: Connection, request: Request) -> Started | None:
    row = await connection.fetchrow(
        """SELECT id, status, reason, queued_at < now() - make_interval(days => $3) AS old
           FROM nomaflow.runs WHERE job_name = $1 AND idempotency_key = $2 FOR UPDATE""",
        request.job,
        request.idempotency_key,
        IDEMPOTENT_DAYS,
    )
    if row is None:
        return None
    if row["old"]:
        await connection.execute(
            "UPDATE nomaflow.runs SET idempotency_key = NULL WHERE id = $1", row["id"]
        )
        return None
    return Started(row["id"], created=False, status=RunStatus(row["status"]), reason=row["reason"])


def _fire_of(spec: JobSpec, request: Request) -> _Fire:
    preset = None
    if request.preset is not None:
        preset = spec.preset(request.preset)
        if preset is None:
            known = ", ".join(f"`{p.name}`" for p in spec.presets) or "none"
            raise NomaflowError(
                Code.NOT_FOUND,
                f"job `{spec.name}` has no preset `{request.preset}`; it has {known}",
                ("preset",),
            )
    problems = parameters.validate_overrides(
        spec, request.params, request.step_kwargs, request.step_enabled
    )
    if problems:
        raise SpecErrors(problems)
    params, kwargs, enabled = dict(request.params), request.step_kwargs, request.step_enabled
    if preset is not None:
        params, kwargs, enabled = parameters.with_preset(preset, params, kwargs, enabled)
    return _Fire(
        params=params,
        step_kwargs=kwargs,
        step_enabled=enabled,
        log_level=request.log_level or (preset.log_level if preset else None),
        preset=request.preset,
    )


def _fire_of_clock(spec: JobSpec, due: Due) -> _Fire:
    preset = spec.preset(due.schedule.preset) if due.schedule.preset else None
    return _Fire(
        params={**(preset.params if preset else {}), **due.schedule.params},
        step_kwargs=preset.kwargs if preset else {},
        step_enabled=preset.steps if preset else {},
        log_level=preset.log_level if preset else None,
        preset=due.schedule.preset,
    )


def _born(job: JobRow, spec: JobSpec, fire: _Fire, **facts: Any) -> runs.NewRun:
    overrides = {
        "params": dict(fire.params),
        "step_kwargs": {k: dict(v) for k, v in fire.step_kwargs.items()},
        "step_enabled": dict(fire.step_enabled),
        "preset": fire.preset,
        "log_level": fire.log_level,
    }
    born_skipped = facts.get("status") is RunStatus.SKIPPED
    return runs.NewRun(
        job_name=job.name,
        job_id=job.id,
        job_revision=job.revision,
        params=parameters.coerce({**spec.params, **fire.params}, parameters.schema_of(spec)),
        overrides={k: v for k, v in overrides.items() if v},
        log_level=fire.log_level or spec.log_level,
        worker_tag=spec.worker,
        priority=spec.priority,
        steps=()
        if born_skipped
        else tuple(
            runs.NewStep(
                step.name,
                step.type,
                None
                if fire.step_enabled.get(step.name, step.enabled)
                else lifecycle.SKIPPED_DISABLED,
            )
            for step in spec.steps
        ),
        **facts,
    )


async def _insert(connection: Connection, run: runs.NewRun) -> UUID:
    try:
        return await runs.insert(connection, run)
    except UniqueViolationError as error:
        raise NomaflowError(
            Code.CONFLICT, f"another request is starting the same run: {error.constraint_name}"
        ) from error


def _announce(bell: Bell, run_id: UUID, status: RunStatus) -> None:
    if status is RunStatus.QUEUED:
        bell.ring(run_id)
    bell.news(run_id, 1, status.value)
