"""The one way in for people, the API, the CLI and other jobs: each creates a run here.

Clocks fire in batches, in the scheduler, by the same birth and the same rule of overlap. A run is
written with its steps in one transaction and committed; only then is the doorbell rung. Whatever
was started is found again by the workers even when the ring is lost.
"""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nomaflow import birth, lifecycle, lineage, moves, overlap
from nomaflow.clock import dependencies
from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import definitions
from nomaflow.job.problems import SpecErrors
from nomaflow.lifecycle import IN_FLIGHT, RunStatus
from nomaflow.store import births, family, jobs, runs, standings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.birth import Request
    from nomaflow.broker.bell import Bell
    from nomaflow.job.spec import JobSpec
    from nomaflow.overlap import InFlight
    from nomaflow.store.database import Connection, Database

IDEMPOTENT_DAYS = 7


@dataclass(frozen=True, slots=True)
class Started:
    """The run that answers a request; `created` is False when the key found an earlier one."""

    run_id: UUID
    created: bool
    status: RunStatus
    reason: str | None


async def start(db: Database, bell: Bell, request: Request) -> Started:
    """Create a run of a job in force; commit, then ring.

    When a job that it depends on has not succeeded, the run is born `skipped` and says so (J24).
    Raises NomaflowError: NOT_FOUND (with the nearest names), BUSY when the job's overlap policy
    has no room for another run (S15), and SpecErrors for overrides that do not fit (T07).
    """
    plain = await _start_plainly(db, request)
    if plain is not None:
        announce(bell, plain, RunStatus.QUEUED)
        return Started(plain, created=True, status=RunStatus.QUEUED, reason=None)
    async with db.transaction() as connection:
        job = await _job(connection, request.job, lock=True)
        spec = definitions.of_job(job)
        if request.idempotency_key is not None:
            earlier = await _earlier(connection, request)
            if earlier is not None:
                return earlier
        if request.parent_run_id is not None:
            spec = await lineage.of_child(
                connection, job.id, spec, request.parent_run_id, detached=request.detached
            )
        born = _born(job, spec, request)
        if request.detached:
            born = replace(born, overrides={**born.overrides, family.DETACHED: True})
        status = RunStatus.QUEUED
        ended: tuple[InFlight, ...] = ()
        reason = None if request.dry_run else await _unmet(connection, spec)
        if reason is None:
            run_id, ended = await admit(connection, job.name, spec, born)
        else:
            status = RunStatus.SKIPPED
            run_id = await births.insert(connection, birth.skipped(born, reason))
    announce(bell, run_id, status, ended)
    return Started(run_id, created=True, status=status, reason=reason)


async def _start_plainly(db: Database, request: Request) -> UUID | None:
    """Start a run in one statement where nobody and nothing has to be asked; None where it has.

    The statement itself looks whether the job is still what this program saw last. Nothing is
    refused here, since a refusal must come from the definition in force.
    """
    job = definitions.seen(request.job)
    if job is None or request.idempotency_key is not None or request.parent_run_id is not None:
        return None
    if job.spec.overlap != "allow" or job.spec.depends_on:
        return None
    try:
        born = _born(job, job.spec, request)
    except (NomaflowError, SpecErrors):
        return None
    return await births.insert_in_force(db, replace(born, lock=job.spec.lock))


def _born(job: birth.Named, spec: JobSpec, request: Request) -> births.NewRun:
    return birth.of(
        job,
        spec,
        birth.wishes(spec, request),
        trigger=request.trigger,
        triggered_by=request.triggered_by,
        principal=request.principal,
        dry_run=request.dry_run,
        idempotency_key=request.idempotency_key,
        parent_run_id=request.parent_run_id,
    )


async def rehearse(db: Database, request: Request) -> None:
    """Refuse what `start` would refuse of the job, its parameters and its parents; write nothing.

    Raises what `start` raises, BUSY excepted.
    """
    async with db.transaction() as connection:
        job = await _job(connection, request.job, lock=False)
        spec = definitions.of_job(job)
        if (parent := request.parent_run_id) is not None:
            await lineage.of_child(connection, job.id, spec, parent, detached=request.detached)
        birth.wishes(spec, request)


async def _job(connection: Connection, name: str, *, lock: bool) -> jobs.JobRow:
    job = await jobs.find(connection, name, lock=lock)
    if job is None:
        raise _unknown(name, await jobs.names(connection))
    return job


async def _unmet(connection: Connection, spec: JobSpec) -> str | None:
    """Why the jobs that this one depends on do not let it run now; such a run does not wait."""
    if not spec.depends_on:
        return None
    found = await standings.of(connection, {one.job for one in spec.depends_on})
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return dependencies.decide(spec.depends_on, found, now, spec.timezone).reason


class BusyError(NomaflowError):
    """The job's overlap policy has no room; `refusal` is what a skipped run says of it."""

    def __init__(self, job: str, run_id: UUID, refusal: str) -> None:
        super().__init__(
            Code.BUSY,
            f"job `{job}` cannot start: {refusal.removeprefix('skipped: ')} (run {run_id}); wait "
            "for it, abort it, or change the job's `overlap`",
        )
        self.refusal = refusal


async def admit(
    connection: Connection, job_name: str, spec: JobSpec, born: births.NewRun
) -> tuple[UUID, tuple[InFlight, ...]]:
    """Write the run if the overlap policy has room; answers it and the runs it replaces.

    Decided under the lock on the job's row, whatever the trigger. Raises BusyError.
    """
    assert born.job_id is not None  # noqa: S101  only a job's run is admitted
    unbounded = spec.overlap == "allow"
    others = [] if unbounded else await runs.in_flight(connection, born.job_id)
    verdict = overlap.decide(spec.overlap, spec.queue_depth, others)
    if verdict.refusal is not None:
        raise BusyError(job_name, others[0].run_id, verdict.refusal)
    run_id = await births.insert(connection, replace(born, serial=verdict.serial, lock=spec.lock))
    for other in verdict.replaces:
        await end_for(connection, other, f"replaced by run {run_id}")
    return run_id, verdict.replaces


async def end_for(connection: Connection, other: InFlight, why: str) -> None:
    """Ask for the end of a run that makes room; one that nobody works on ends here."""
    asked = await runs.request_abort(connection, other.run_id, "nomaflow", why)
    held = await runs.held(connection, other.run_id)
    if asked and held and held.status is RunStatus.QUEUED:
        words = lifecycle.abort_words(asked.by, asked.reason)
        await runs.apply(connection, moves.abort(held, words))


async def abort(
    db: Database, bell: Bell, run_id: UUID, *, by: str, reason: str | None = None
) -> RunStatus:
    """Ask for a run's end: one that nobody works on ends here, a running one is told its owner.

    The runs that its steps started end with it. Asking again for a running run is fine; history
    keeps the first who asked (X20). Raises NomaflowError: NOT_FOUND for an unknown run,
    INVALID_STATE for one that is over (X23).
    """
    status = await _abort(db, bell, run_id, by, reason)
    await abort_children(db, bell, run_id, by=by, reason=f"its parent run {run_id} was aborted")
    return status


async def abort_children(db: Database, bell: Bell, run_id: UUID, *, by: str, reason: str) -> None:
    """Ask for the end of every run that the steps of `run_id` started, detached ones excepted."""
    for child in await family.in_flight(db, run_id):
        with contextlib.suppress(NomaflowError):  # it ended by itself meanwhile
            await abort(db, bell, child, by=by, reason=reason)


async def _abort(db: Database, bell: Bell, run_id: UUID, by: str, reason: str | None) -> RunStatus:
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
        asked = await runs.request_abort(db, run_id, by, reason)
        if asked is None or asked.status is not held.status:
            continue  # it moved on between the look and the write: look again
        if held.status is RunStatus.RUNNING and not asked.orphaned:
            bell.abort(run_id)
            return RunStatus.RUNNING
        words = lifecycle.abort_words(asked.by, asked.reason)
        seq = await runs.apply(db, moves.abort(held, words))
        if seq is not None:
            bell.news(run_id, seq, RunStatus.ABORTED.value)
            return RunStatus.ABORTED


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


def announce(
    bell: Bell, run_id: UUID, status: RunStatus, replaced: Sequence[InFlight] = ()
) -> None:
    """Ring for a run that waits, and tell listeners; called after the commit."""
    if status is RunStatus.QUEUED:
        bell.ring(run_id)
    bell.news(run_id, 1, status.value)
    for other in replaced:
        bell.abort(other.run_id)
        bell.news(other.run_id, 0)
