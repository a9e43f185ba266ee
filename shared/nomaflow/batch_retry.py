"""Failed batches once more: runs of their own that write what earlier runs could not.

Each follows the definition, parameters and earlier outputs of one run that failed, asks the API
for nothing but pages that could not be fetched, moves no watermark, and leaves the old run as it
was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nomaflow import birth, dispatch
from nomaflow.birth import Wishes
from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import definitions
from nomaflow.lifecycle import RunStatus
from nomaflow.store import births, failed_batches, jobs, runs, step_outputs
from nomaflow.store.births import NewStep
from nomaflow.store.failed_batches import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.job.spec import JobSpec
    from nomaflow.store.database import Connection, Database, Record
    from nomaflow.store.failed_batches import FailedBatchRow
    from nomaflow.store.jobs import JobRow

TRIGGER = "retry"
"""A run that was born so completes an older one; it is no new success of its job's own."""
OVERRIDE = "failed_batches"
LIMIT, MOST = 10, 1_000
MOST_RUNS = 100
"""So many failed runs are retried at a time, each by a run of its own."""
NOT_RETRIED = "skipped: only failed batches are retried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whose failed batches, how many at most, and who wants them written."""

    triggered_by: str
    principal: str = ""
    run_id: UUID | None = None
    job: str | None = None
    step: str | None = None
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class Retried:
    """The runs that retry so many batches in all; none and 0 when there was nothing to retry."""

    run_ids: tuple[UUID, ...]
    batches: int


async def start(db: Database, bell: Bell, asked: Asked) -> Retried:
    """Create a run for open batches of each failed run: the given one, or all of a job's.

    They take their turns, those of the oldest run first. Raises NomaflowError: INVALID for a wrong
    limit or nothing named, NOT_FOUND for an unknown run or job, BUSY when the job's overlap policy
    has no room.
    """
    if asked.run_id is None and asked.job is None:
        raise NomaflowError(Code.INVALID, "name a run or a job whose batches to retry", ("run",))
    if not 1 <= asked.limit <= MOST:
        raise NomaflowError(Code.INVALID, f"`limit` must be between 1 and {MOST}", ("limit",))
    wanted = Wanted(run_id=asked.run_id, job=asked.job, step=asked.step)
    run_ids: list[UUID] = []
    retried = 0
    async with db.transaction() as connection:
        found = await failed_batches.pick(connection, wanted, asked.limit)
        if not found:
            await _refuse_unknown(connection, asked)
            return Retried((), 0)
        locked = await _locked(connection, await _olds(connection, found))
        # Once more, now that nobody else starts a run of these jobs.
        found = await failed_batches.pick(connection, wanted, asked.limit)
        olds = await _olds(connection, found)
        for old_id, batches in list(found.items())[:MOST_RUNS]:
            job = locked.get(olds[old_id]["job_id"])
            if job is None:  # it has failed since the first look; the next retry finds it
                continue
            run_id = await _born(connection, job, olds[old_id], batches, asked, after=run_ids)
            await failed_batches.give(connection, [batch.id for batch in batches], run_id)
            run_ids.append(run_id)
            retried += len(batches)
        await births.put_in_order(connection, run_ids)
    for run_id in run_ids:
        dispatch.announce(bell, run_id, RunStatus.QUEUED)
    return Retried(tuple(run_ids), retried)


async def _locked(connection: Connection, olds: Mapping[UUID, Record]) -> dict[UUID, JobRow]:
    """Lock the jobs of these runs, in one order whoever asks."""
    locked = {}
    for job_id in sorted({old["job_id"] for old in olds.values()}):
        job = await jobs.find_by_id(connection, job_id, lock=True, in_force=False)
        if job is None:
            names = ", ".join(str(run) for run, old in olds.items() if old["job_id"] == job_id)
            raise NomaflowError(Code.NOT_FOUND, f"the job of run {names} was removed", ("run",))
        locked[job_id] = job
    return locked


async def _born(
    connection: Connection,
    job: JobRow,
    old: Record,
    batches: Sequence[FailedBatchRow],
    asked: Asked,
    *,
    after: Sequence[UUID],
) -> UUID:
    revision = old["job_revision"]
    spec = await definitions.of_run(connection, job.id, revision)
    born = birth.of(
        replace(job, revision=revision),
        spec,
        _wishes(old["overrides"]),
        trigger=TRIGGER,
        triggered_by=asked.triggered_by,
        principal=asked.principal,
        schedule_name=old["schedule_name"],
        scheduled_for=old["scheduled_for"],
        replay_of=old["id"],
    )
    outputs = await step_outputs.of_run(connection, old["id"])
    retried = {batch.step for batch in batches}
    told = {"run": str(old["id"]), "batches": len(batches)}
    born = replace(
        born,
        overrides={**born.overrides, OVERRIDE: told},
        steps=tuple(_step(step, retried, outputs) for step in born.steps),
    )
    if after and spec.overlap != "allow":
        await runs.take_turns(connection, after)
    run_id, _ = await dispatch.admit(connection, job.name, _gentle(spec, first=not after), born)
    return run_id


def _gentle(spec: JobSpec, *, first: bool) -> JobSpec:
    """Let a retry take its place like any run, but never end another one for it.

    Those that follow the first wait for it, unless the job's runs may run at once.
    """
    if spec.overlap == "allow":
        return spec
    if not first:
        return spec.model_copy(update={"overlap": "queue", "queue_depth": MOST_RUNS + 1})
    return spec.model_copy(update={"overlap": "skip"}) if spec.overlap == "replace" else spec


def _step(step: NewStep, retried: set[str], outputs: Mapping[str, Any]) -> NewStep:
    if step.name in retried:
        return replace(step, reason=None)
    kept = outputs.get(step.name, {})
    return replace(
        step, reason=NOT_RETRIED, output=kept.get("brief"), whole_output=kept.get("whole")
    )


def _wishes(before: Mapping[str, Any]) -> Wishes:
    return Wishes(
        params=before.get("params", {}),
        step_kwargs=before.get("step_kwargs", {}),
        step_enabled=before.get("step_enabled", {}),
        log_level=before.get("log_level"),
        preset=before.get("preset"),
    )


async def _olds(connection: Connection, run_ids: Iterable[UUID]) -> dict[UUID, Record]:
    rows = await connection.fetch(
        """SELECT id, job_id, job_revision, overrides, schedule_name, scheduled_for
           FROM nomaflow.runs WHERE id = ANY ($1::uuid[])""",
        list(run_ids),
    )
    return {row["id"]: row for row in rows}


async def _refuse_unknown(connection: Connection, asked: Asked) -> None:
    if asked.run_id is not None:
        known = await connection.fetchval(
            "SELECT true FROM nomaflow.runs WHERE id = $1", asked.run_id
        )
        if not known:
            raise NomaflowError(Code.NOT_FOUND, f"there is no run {asked.run_id}", ("run",))
    elif await jobs.find(connection, asked.job or "") is None:
        raise NomaflowError(Code.NOT_FOUND, f"there is no job `{asked.job}`", ("job",))
