"""What is written when clocks fire: slots, runs with their steps, and the clocks set forward.

Called under the lock on the job's row; the unique due time is the net below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from nomaflow.lifecycle import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.births import NewRun
    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one due time; `born` is the run's place among the births."""

    schedule_id: UUID
    due_at: datetime
    outcome: str
    reason: str | None = None
    born: int | None = None
    look_at: datetime | None = None
    deadline: datetime | None = None
    waits_for: Sequence[str] | None = None
    """The jobs whose end is worth another look."""


@dataclass(frozen=True, slots=True)
class Birth:
    """A run on its way in: what all runs of its clock share, and what is its own."""

    run: NewRun
    scheduled_for: datetime
    status: RunStatus
    reason: str | None = None
    serial: bool = False


@dataclass(frozen=True, slots=True)
class Advance:
    """A clock set to its next due time."""

    schedule_id: UUID
    was: datetime | None
    next_fire_at: datetime | None
    look_at: datetime | None
    last_fire_at: datetime | None
    fires: int
    warning: str | None


class TakenError(Exception):
    """A due time of the batch has its row already; nothing of the batch may be kept."""


_WRITE = """
WITH slots AS (
  INSERT INTO nomaflow.slots
    (schedule_id, due_at, outcome, reason, run_id, look_at, deadline, waits_for, at)
  SELECT e.*, $8::timestamptz
  FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::uuid[],
    $6::timestamptz[], $7::timestamptz[], $37::jsonb[]) AS e
  ON CONFLICT (schedule_id, due_at) DO UPDATE SET outcome = excluded.outcome,
    reason = excluded.reason, run_id = excluded.run_id, look_at = excluded.look_at,
    deadline = excluded.deadline, waits_for = excluded.waits_for, at = excluded.at
    WHERE slots.outcome IN ('waiting', 'postponed')
  RETURNING 1
), runs AS (
  INSERT INTO nomaflow.runs (id, job_id, job_name, job_revision, status, reason, trigger,
    triggered_by, schedule_id, schedule_name, scheduled_for, params, overrides, log_level,
    worker_tag, priority, serial, lock, queued_at, finished_at, seq)
  SELECT b.id, b.job_id, b.job_name, b.job_revision, b.status, b.reason, 'cron', 'cron',
    b.schedule_id, b.schedule_name, b.scheduled_for, b.params, b.overrides, b.log_level,
    b.worker_tag, b.priority, b.serial, b.lock, $8::timestamptz + b.ord * interval '1 microsecond',
    CASE WHEN b.status = 'skipped' THEN $8::timestamptz + b.ord * interval '1 microsecond' END, 1
  FROM unnest($9::uuid[], $10::uuid[], $11::text[], $12::int[], $13::text[], $14::text[],
    $15::uuid[], $16::text[], $17::timestamptz[], $18::jsonb[], $19::jsonb[], $20::text[],
    $21::text[], $22::int[], $23::boolean[], $24::text[]) WITH ORDINALITY AS b (id, job_id,
    job_name, job_revision, status, reason, schedule_id, schedule_name, scheduled_for, params,
    overrides, log_level, worker_tag, priority, serial, lock, ord)
), steps AS (
  INSERT INTO nomaflow.step_runs (run_id, position, name, type, status, reason, finished_at)
  SELECT s.run_id, s.position, s.name, s.type,
    CASE WHEN s.reason IS NULL THEN 'pending' ELSE 'skipped' END, s.reason,
    CASE WHEN s.reason IS NOT NULL THEN $8::timestamptz END
  FROM unnest($25::uuid[], $26::int[], $27::text[], $28::text[], $29::text[])
    AS s (run_id, position, name, type, reason)
), events AS (
  INSERT INTO nomaflow.run_events (run_id, seq, at, kind, payload)
  SELECT b.id, 1, $8::timestamptz, 'run', jsonb_build_object('status', b.status, 'reason', b.reason)
  FROM unnest($9::uuid[], $13::text[], $14::text[]) AS b (id, status, reason)
), clocks AS (
  UPDATE nomaflow.schedules c SET next_fire_at = u.next_fire_at, look_at = u.look_at,
    last_fire_at = coalesce(u.last_fire_at, c.last_fire_at), fire_count = c.fire_count + u.fires,
    warning = u.warning
  FROM unnest($30::uuid[], $31::timestamptz[], $32::timestamptz[], $33::timestamptz[],
    $34::timestamptz[], $35::int[], $36::text[])
    AS u (id, was, next_fire_at, look_at, last_fire_at, fires, warning)
  WHERE c.id = u.id AND c.next_fire_at IS NOT DISTINCT FROM u.was
)
SELECT count(*) FROM slots"""


async def new_ids(connection: Connection, count: int) -> list[UUID]:
    """Make ids of runs that are about to be born, in order."""
    rows = await connection.fetch("SELECT uuidv7() FROM generate_series(1, $1)", count)
    return [row[0] for row in rows]


async def write(
    connection: Connection,
    entries: Sequence[Entry],
    births: Sequence[Birth],
    ids: Sequence[UUID],
    advances: Sequence[Advance],
    moment: datetime,
) -> None:
    """Write slots, runs with their steps and first events, and clocks: one statement.

    `moment` is when the runs are queued. Raises TakenError; then the transaction must be given up.
    """
    steps = [
        (run_id, position, step)
        for run_id, birth in zip(ids, births, strict=True)
        if birth.status is not RunStatus.SKIPPED
        for position, step in enumerate(birth.run.steps)
    ]
    written = await _written(
        connection,
        [e.schedule_id for e in entries],
        [e.due_at for e in entries],
        [e.outcome for e in entries],
        [e.reason for e in entries],
        [None if e.born is None else ids[e.born] for e in entries],
        [e.look_at for e in entries],
        [e.deadline for e in entries],
        moment,
        list(ids),
        [b.run.job_id for b in births],
        [b.run.job_name for b in births],
        [b.run.job_revision for b in births],
        [b.status.value for b in births],
        [b.reason for b in births],
        [b.run.schedule_id for b in births],
        [b.run.schedule_name for b in births],
        [b.scheduled_for for b in births],
        [b.run.params for b in births],
        [b.run.overrides for b in births],
        [b.run.log_level for b in births],
        [b.run.worker_tag for b in births],
        [b.run.priority for b in births],
        [b.serial for b in births],
        [b.run.lock for b in births],
        [s[0] for s in steps],
        [s[1] for s in steps],
        [s[2].name for s in steps],
        [s[2].type for s in steps],
        [s[2].reason for s in steps],
        [a.schedule_id for a in advances],
        [a.was for a in advances],
        [a.next_fire_at for a in advances],
        [a.look_at for a in advances],
        [a.last_fire_at for a in advances],
        [a.fires for a in advances],
        [a.warning for a in advances],
        [e.waits_for for e in entries],
    )
    if written != len(entries):
        raise TakenError


_ADVANCE = """
UPDATE nomaflow.schedules c SET next_fire_at = u.next_fire_at, look_at = u.look_at,
  last_fire_at = coalesce(u.last_fire_at, c.last_fire_at), fire_count = c.fire_count + u.fires,
  warning = u.warning
FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[],
  $6::int[], $7::text[]) AS u (id, version, next_fire_at, look_at, last_fire_at, fires, warning)
WHERE c.id = u.id AND c.xmin::text::bigint = u.version"""


async def advance(
    connection: Connection, advances: Sequence[Advance], versions: Mapping[UUID, int]
) -> None:
    """Set clocks forward, those that are as they were."""
    await connection.execute(
        _ADVANCE,
        [a.schedule_id for a in advances],
        [versions[a.schedule_id] for a in advances],
        [a.next_fire_at for a in advances],
        [a.look_at for a in advances],
        [a.last_fire_at for a in advances],
        [a.fires for a in advances],
        [a.warning for a in advances],
    )


async def _written(connection: Connection, *values: Any) -> int:
    try:
        count: int = await connection.fetchval(_WRITE, *values)
    except asyncpg.UniqueViolationError:  # its run is there already
        raise TakenError from None
    return count


async def take_back(connection: Connection, run_ids: Sequence[UUID]) -> None:
    """Unwrite runs that were prepared in this very transaction, and their slots."""
    await connection.execute(
        """WITH slots AS (DELETE FROM nomaflow.slots WHERE run_id = ANY ($1::uuid[]))
           DELETE FROM nomaflow.runs WHERE id = ANY ($1::uuid[])""",
        list(run_ids),
    )


async def flush(db: Database) -> None:
    """Bring to disk what other transactions have written so far.

    So that the commit of a prepared batch has only itself left to bring there.
    """
    await db.execute("SELECT pg_logical_emit_message(true, 'nomaflow', '')")


async def supersede(connection: Connection, newest: Mapping[UUID, datetime], reason: str) -> None:
    """Close the postponed due times of these clocks that are older than their newest one."""
    await connection.execute(
        """UPDATE nomaflow.slots t SET outcome = 'skipped', look_at = NULL, at = now(),
             reason = $3
           FROM unnest($1::uuid[], $2::timestamptz[]) AS k (id, due_at)
           WHERE t.schedule_id = k.id AND t.due_at < k.due_at AND t.outcome = 'postponed'""",
        list(newest),
        list(newest.values()),
        reason,
    )
