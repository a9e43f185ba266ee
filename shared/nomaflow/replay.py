"""Run it again: a new run from an old one's snapshot, whole or from the step where it stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nomaflow import batch_retry, birth, dispatch
from nomaflow.birth import Wishes
from nomaflow.dispatch import Started
from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import definitions
from nomaflow.lifecycle import IN_FLIGHT, RunStatus
from nomaflow.store import jobs, runs, step_outputs
from nomaflow.store.births import NewStep

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.job.spec import JobSpec
    from nomaflow.store.database import Connection, Database, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Which run, from where, and what is different this time.

    `from_step` None is the first, `dry_run` None is as the earlier run was.
    """

    run_id: UUID
    triggered_by: str
    principal: str = ""
    from_step: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    step_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    step_enabled: Mapping[str, bool] = field(default_factory=dict)
    log_level: str | None = None
    dry_run: bool | None = None
    may_edit: bool = True


async def start(db: Database, bell: Bell, again: Again) -> Started:
    """Create a run with the revision, parameters and due time of an earlier one, plus edits.

    With `from_step` the steps before it are kept: recorded as `skipped: kept from run <id>`,
    their outputs whole, so later steps read them (X26, X27). Raises NomaflowError: NOT_FOUND,
    INVALID_STATE while the old run is in flight or where only a preview of an output is left,
    BUSY; SpecErrors for edits that do not fit.
    """
    async with db.transaction() as connection:
        old = await _old(connection, again.run_id)
        job = await jobs.find_by_id(connection, old["job_id"], lock=True, in_force=False)
        if batch_retry.OVERRIDE in old["overrides"]:
            raise NomaflowError(
                Code.INVALID_STATE,
                f"run {again.run_id} retried failed batches; what failed again is retried in the "
                "same way, not by a replay",
                ("run",),
            )
        if job is None or old["job_revision"] is None:
            raise NomaflowError(
                Code.INVALID_STATE,
                f"run {again.run_id} is not a run of a job, so there is nothing to run again",
                ("run",),
            )
        spec = await definitions.of_run(connection, job.id, old["job_revision"])
        born = birth.of(
            replace(job, revision=old["job_revision"]),
            spec,
            _wishes(spec, old["overrides"], again),
            trigger="replay",
            triggered_by=again.triggered_by,
            principal=again.principal,
            schedule_name=old["schedule_name"],
            scheduled_for=old["scheduled_for"],
            dry_run=old["dry_run"] if again.dry_run is None else again.dry_run,
            replay_of=again.run_id,
        )
        if again.from_step is not None:
            kept = await _kept(connection, spec, born.steps, again)
            born = replace(born, steps=kept)
        run_id, ended = await dispatch.admit(connection, job.name, spec, born)
    dispatch.announce(bell, run_id, RunStatus.QUEUED, ended)
    return Started(run_id, created=True, status=RunStatus.QUEUED, reason=None)


async def _old(connection: Connection, run_id: UUID) -> Record:
    old = await connection.fetchrow(
        """SELECT job_id, job_revision, status, overrides, schedule_name, scheduled_for, dry_run
           FROM nomaflow.runs WHERE id = $1""",
        run_id,
    )
    if old is None:
        raise NomaflowError(Code.NOT_FOUND, f"there is no run {run_id}", ("run",))
    if RunStatus(old["status"]) in IN_FLIGHT:
        raise NomaflowError(
            Code.INVALID_STATE,
            f"run {run_id} is still {old['status']}; wait for its end or abort it first",
            ("run",),
        )
    return old


def _wishes(spec: JobSpec, before: Mapping[str, Any], again: Again) -> Wishes:
    asked = birth.wishes(
        spec,
        birth.Request(
            job=spec.name,
            trigger="replay",
            triggered_by=again.triggered_by,
            params=again.params,
            step_kwargs=again.step_kwargs,
            step_enabled=again.step_enabled,
            log_level=again.log_level,
            may_edit=again.may_edit,
        ),
    )
    kwargs = before.get("step_kwargs", {})
    steps = {*kwargs, *asked.step_kwargs}
    return Wishes(
        params={**before.get("params", {}), **asked.params},
        step_kwargs={s: {**kwargs.get(s, {}), **asked.step_kwargs.get(s, {})} for s in steps},
        step_enabled={**before.get("step_enabled", {}), **asked.step_enabled},
        log_level=asked.log_level or before.get("log_level"),
        preset=before.get("preset"),
    )


async def _kept(
    connection: Connection, spec: JobSpec, steps: Sequence[NewStep], again: Again
) -> tuple[NewStep, ...]:
    names = [step.name for step in spec.steps]
    if again.from_step not in names:
        known = ", ".join(f"`{name}`" for name in names)
        raise NomaflowError(
            Code.INVALID,
            f"job `{spec.name}` has no step `{again.from_step}`; its steps: {known}",
            ("fromStep",),
        )
    earlier = names[: names.index(again.from_step)]
    outputs = await step_outputs.of_run(connection, again.run_id)
    for name in earlier:
        if name in outputs and outputs[name]["whole"] is None and _is_cut(outputs[name]["brief"]):
            raise NomaflowError(
                Code.INVALID_STATE,
                f"run {again.run_id} succeeded, and of the big output of its step `{name}` history "
                f"keeps a preview, which later steps cannot read; begin at `{name}` or before",
                ("fromStep",),
            )
    before = {s.name: s for s in await runs.steps_of(connection, again.run_id)}
    kept = f"skipped: kept from run {again.run_id}"
    return tuple(
        step
        if step.name not in earlier
        else replace(
            step,
            reason=kept if step.name in outputs else before[step.name].reason or kept,
            output=outputs.get(step.name, {}).get("brief"),
            whole_output=outputs.get(step.name, {}).get("whole"),
        )
        for step in steps
    )


def _is_cut(output: Any) -> bool:
    """Tell an output that history shortened, as a whole or in one of its fields."""
    parts = [output, *output.values()] if isinstance(output, dict) else []
    return any(isinstance(p, dict) and p.get("truncated") is True and "bytes" in p for p in parts)
