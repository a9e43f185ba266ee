"""A run is born with its steps and its first event in one statement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nomaflow.lifecycle import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class NewStep:
    """A link at birth; `reason` is set when it is skipped before it could begin.

    A link kept from an earlier run brings that run's output along, whole where it was big.
    """

    name: str
    type: str
    reason: str | None = None
    output: Any = None
    whole_output: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """Everything a run is born with."""

    job_name: str
    trigger: str
    triggered_by: str
    kind: str = "job"
    job_id: UUID | None = None
    job_revision: int | None = None
    principal: str = ""
    status: RunStatus = RunStatus.QUEUED
    reason: str | None = None
    schedule_id: UUID | None = None
    schedule_name: str | None = None
    scheduled_for: datetime | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    log_level: str = "INFO"
    dry_run: bool = False
    worker_tag: str = "default"
    priority: int = 0
    serial: bool = False
    lock: str | None = None
    idempotency_key: str | None = None
    replay_of: UUID | None = None
    parent_run_id: UUID | None = None
    steps: Sequence[NewStep] = ()


_BORN = """
WITH run AS (
  INSERT INTO nomaflow.runs (
    kind, job_id, job_name, job_revision, status, reason, trigger, triggered_by, principal,
    schedule_id, schedule_name, scheduled_for, params, overrides, log_level, dry_run,
    worker_tag, priority, idempotency_key, replay_of, parent_run_id, serial, lock, finished_at, seq)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
    $20, $21, $22, $23, CASE WHEN $5 = 'skipped' THEN now() END, 1)
  RETURNING id
), steps AS (
  INSERT INTO nomaflow.step_runs
    (run_id, position, name, type, status, reason, output, finished_at)
  SELECT run.id, s.ord - 1, s.name, s.type,
    CASE WHEN s.reason IS NULL THEN 'pending' ELSE 'skipped' END, s.reason, s.output,
    CASE WHEN s.reason IS NOT NULL THEN now() END
  FROM run, unnest($24::text[], $25::text[], $26::text[], $27::jsonb[])
    WITH ORDINALITY AS s (name, type, reason, output, ord)
), outputs AS (
  INSERT INTO nomaflow.step_outputs (run_id, position, output)
  SELECT run.id, s.ord - 1, s.output
  FROM run, unnest($28::jsonb[]) WITH ORDINALITY AS s (output, ord) WHERE s.output IS NOT NULL
), event AS (
  INSERT INTO nomaflow.run_events (run_id, seq, kind, payload)
  SELECT run.id, 1, 'run', jsonb_build_object('status', $5::text, 'reason', $6::text) FROM run
)
SELECT id FROM run"""


_BORN_IN_FORCE = _BORN.replace("VALUES (", "SELECT ").replace(
    "END, 1)\n",
    """END, 1
  FROM nomaflow.jobs j
  WHERE j.id = $2 AND j.name = $3 AND j.revision = $4 AND j.deleted_at IS NULL AND NOT j.shadowed
""",
)


async def insert(connection: Connection, run: NewRun) -> UUID:
    """Write a run with its pending steps and its first event; one statement."""
    new_id: UUID = await connection.fetchval(_BORN, *_values(run))
    return new_id


async def insert_in_force(connection: Connection | Database, run: NewRun) -> UUID | None:
    """Write a run if its job is in force at that very revision; None when it is not."""
    new_id: UUID | None = await connection.fetchval(_BORN_IN_FORCE, *_values(run))
    return new_id


def _values(run: NewRun) -> tuple[Any, ...]:
    return (
        run.kind,
        run.job_id,
        run.job_name,
        run.job_revision,
        run.status.value,
        run.reason,
        run.trigger,
        run.triggered_by,
        run.principal,
        run.schedule_id,
        run.schedule_name,
        run.scheduled_for,
        dict(run.params),
        dict(run.overrides),
        run.log_level,
        run.dry_run,
        run.worker_tag,
        run.priority,
        run.idempotency_key,
        run.replay_of,
        run.parent_run_id,
        run.serial,
        run.lock,
        [s.name for s in run.steps],
        [s.type for s in run.steps],
        [s.reason for s in run.steps],
        [s.output for s in run.steps],
        [s.whole_output for s in run.steps],
    )


async def put_in_order(connection: Connection, run_ids: Sequence[UUID]) -> None:
    """Let runs of one transaction, which are queued at one instant, wait in this order."""
    await connection.execute(
        """UPDATE nomaflow.runs r SET queued_at = r.queued_at + o.ord * interval '1 microsecond'
           FROM unnest($1::uuid[]) WITH ORDINALITY AS o (id, ord) WHERE r.id = o.id""",
        list(run_ids),
    )
