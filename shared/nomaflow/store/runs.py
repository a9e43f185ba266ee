"""Runs: moved by one compare-and-set, asked to end, looked up by who must decide about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow.lifecycle import FINAL_RUN, FINAL_STEP, Held, RunStatus, StepState, StepStatus
from nomaflow.overlap import InFlight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.lifecycle import Move, StepChange
    from nomaflow.store.database import Connection, Database

_FINAL_RUN = [s.value for s in FINAL_RUN]
_FINAL_STEP = [s.value for s in FINAL_STEP]


@dataclass(frozen=True, slots=True)
class Line:
    """A log line on its way into history."""

    at: datetime
    level: int
    step: str | None
    message: str


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """An alert that goes into the outbox with the move it tells of."""

    job_name: str
    event: str
    channel: str
    recipient: str
    payload: Mapping[str, Any]


_APPLY = """
WITH run AS (
  UPDATE nomaflow.runs SET
    status = $4, reason = $5, seq = seq + $6 + $7, log_lines = log_lines + $6,
    finished_at = CASE WHEN $4 = ANY ($8::text[]) THEN now() END,
    not_before = CASE WHEN $4 = 'queued' AND abort_requested_at IS NULL
      THEN now() + make_interval(secs => $9) END,  -- to be ended, a run waits for nothing
    lease_owner = CASE WHEN $4 = 'running' THEN lease_owner END,
    lease_expires_at = CASE WHEN $4 = 'running' THEN lease_expires_at END,
    interruptions = interruptions + $10,
    rows_affected = CASE WHEN $11::bigint IS NULL THEN rows_affected
                    ELSE coalesce(rows_affected, 0) + $11 END,
    error = coalesce($12, error)
  WHERE id = $1 AND fence = $2 AND status = $3
  RETURNING id, seq, worker, job_name
), steps AS (
  UPDATE nomaflow.step_runs s SET
    status = c.status, reason = c.reason, attempt = c.attempt, tries = c.tries,
    interruptions = c.interruptions,
    input = coalesce(c.input, s.input), output = coalesce(c.output, s.output),
    summary = coalesce(c.summary, s.summary),
    rows_affected = coalesce(c.rows_affected, s.rows_affected),
    error = CASE WHEN jsonb_typeof(c.error) = 'object' THEN c.error
                 WHEN c.status = 'succeeded' THEN NULL ELSE s.error END,
    try_started_at = CASE WHEN c.status = 'running' THEN now() ELSE s.try_started_at END,
    started_at = CASE WHEN c.status = 'running' THEN coalesce(s.started_at, now())
                 ELSE s.started_at END,
    finished_at = CASE WHEN c.status = ANY ($13::text[]) THEN now() END,
    backends = CASE WHEN c.status = 'running' THEN NULL ELSE s.backends END,
    watermarks = coalesce(c.watermarks, s.watermarks)
  FROM run, jsonb_to_recordset($14::jsonb) AS c (
    position int, status text, reason text, attempt int, tries int, interruptions int,
    input jsonb, output jsonb, summary text, rows_affected bigint, error jsonb, watermarks jsonb)
  WHERE s.run_id = run.id AND s.position = c.position
), tries AS (
  INSERT INTO nomaflow.attempts
    (run_id, position, number, status, started_at, finished_at, error, worker)
  SELECT run.id, c.position, s.tries, c.ended_try, s.try_started_at, now(),
    CASE WHEN jsonb_typeof(c.error) = 'object' THEN c.error END, coalesce(c.worker, run.worker)
  FROM run, jsonb_to_recordset($14::jsonb) AS c (
    position int, ended_try text, error jsonb, worker text)
  JOIN nomaflow.step_runs s ON s.run_id = $1 AND s.position = c.position
  WHERE c.ended_try IS NOT NULL
), outputs AS (
  INSERT INTO nomaflow.step_outputs (run_id, position, output)
  SELECT run.id, c.position, c.whole_output
  FROM run, jsonb_to_recordset($14::jsonb) AS c (position int, whole_output jsonb)
  WHERE c.whole_output IS NOT NULL AND $4 <> 'succeeded'
  ON CONFLICT (run_id, position) DO UPDATE SET output = excluded.output
), forgotten AS (
  DELETE FROM nomaflow.step_outputs o USING run
  WHERE o.run_id = run.id AND $4 = 'succeeded'  -- any other end may be resumed later
), lines AS (
  INSERT INTO nomaflow.log_lines (run_id, seq, at, level, step, message)
  SELECT run.id, run.seq - $7 - $6 + l.ord, l.at, l.level, l.step, l.message
  FROM run, unnest($15::timestamptz[], $16::smallint[], $17::text[], $18::text[])
    WITH ORDINALITY AS l (at, level, step, message, ord)
), events AS (
  INSERT INTO nomaflow.run_events (run_id, seq, kind, payload)
  SELECT run.id, run.seq - $7 + e.ord, e.value ->> 'kind', e.value - 'kind'
  FROM run, jsonb_array_elements($19::jsonb) WITH ORDINALITY AS e (value, ord)
), alerts AS (
  INSERT INTO nomaflow.deliveries (run_id, job_name, event, channel, recipient, payload)
  SELECT run.id, d.job_name, d.event, d.channel, d.recipient, d.payload
  FROM run, jsonb_to_recordset($20::jsonb) AS d (
    job_name text, event text, channel text, recipient text, payload jsonb)
  ON CONFLICT DO NOTHING
)
SELECT seq FROM run"""

# Watermarks move with the one move that succeeds; no other pays for looking.
_APPLY_WELL = _APPLY.replace(
    ")\nSELECT seq FROM run",
    """), marks AS (  -- what this move's own links propose is not in the table's snapshot yet
  INSERT INTO nomaflow.watermarks AS w (job_name, name, value, run_id)
  SELECT DISTINCT ON (mark.key) run.job_name, mark.key, mark.value, run.id
  FROM run, (
    SELECT s.position, s.watermarks FROM nomaflow.step_runs s
    WHERE s.run_id = $1 AND $4 = 'succeeded'
    UNION ALL
    SELECT c.position, c.watermarks
    FROM jsonb_to_recordset($14::jsonb) AS c (position int, watermarks jsonb)
    WHERE $4 = 'succeeded'
  ) proposed, jsonb_each_text(proposed.watermarks) AS mark
  ORDER BY mark.key, proposed.position DESC
  ON CONFLICT (job_name, name) DO UPDATE
  SET value = excluded.value, updated_at = now(), run_id = excluded.run_id
)
SELECT seq FROM run""",
)


def _as_row(change: StepChange) -> dict[str, Any]:
    return {
        "position": change.position,
        "status": change.status.value,
        "reason": change.reason,
        "attempt": change.attempt,
        "tries": change.tries,
        "interruptions": change.interruptions,
        "input": change.input,
        "output": change.output,
        "whole_output": change.whole_output,
        "summary": change.summary,
        "rows_affected": change.rows_affected,
        "error": change.error,
        "ended_try": change.ended_try.value if change.ended_try else None,
        "worker": change.worker,
        "watermarks": change.watermarks,
    }


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if v is not None}


async def apply(
    connection: Connection | Database,
    move: Move,
    lines: Sequence[Line] = (),
    deliveries: Sequence[NewDelivery] = (),
) -> int | None:
    """Write one move if the run is still where it was and the claim still ours.

    Lines come before the move's events in the run's order. Answers the number of the last event,
    or None when the race is lost; then nothing at all was written.
    """
    events = move.events()
    seq: int | None = await connection.fetchval(
        _APPLY_WELL if move.status is RunStatus.SUCCEEDED else _APPLY,
        move.run_id,
        move.fence,
        move.was.value,
        move.status.value,
        move.reason,
        len(lines),
        len(events),
        _FINAL_RUN,
        move.not_before_seconds,
        move.interruptions,
        move.rows_affected,
        move.error,
        _FINAL_STEP,
        [_without_nulls(_as_row(c)) for c in move.steps],
        [line.at for line in lines],
        [line.level for line in lines],
        [line.step for line in lines],
        [line.message for line in lines],
        events,
        [
            {
                "job_name": d.job_name,
                "event": d.event,
                "channel": d.channel,
                "recipient": d.recipient,
                "payload": dict(d.payload),
            }
            for d in deliveries
        ],
    )
    return seq


async def held(connection: Connection | Database, run_id: UUID) -> Held | None:
    """Read what `lifecycle` needs to decide about a run; None when there is no such run."""
    row = await connection.fetchrow("SELECT fence, status FROM nomaflow.runs WHERE id = $1", run_id)
    if row is None:
        return None
    return Held(
        run_id=run_id,
        fence=row["fence"],
        status=RunStatus(row["status"]),
        steps=await steps_of(connection, run_id),
    )


async def steps_of(connection: Connection | Database, run_id: UUID) -> tuple[StepState, ...]:
    """Read the links of a run in order."""
    rows = await connection.fetch(
        """SELECT position, name, status, attempt, tries, interruptions, reason
           FROM nomaflow.step_runs WHERE run_id = $1 ORDER BY position""",
        run_id,
    )
    return tuple(
        StepState(
            r["position"],
            r["name"],
            StepStatus(r["status"]),
            r["attempt"],
            r["tries"],
            r["interruptions"],
            r["reason"],
        )
        for r in rows
    )


@dataclass(frozen=True, slots=True)
class AbortAsked:
    """Who was the first to ask for a run's end and why, and where the run was at that moment."""

    status: RunStatus
    orphaned: bool
    """True when it runs and no worker of ours is on it: a lease ran out, or it runs elsewhere."""
    by: str
    reason: str | None


async def request_abort(
    connection: Connection | Database, run_id: UUID, by: str, reason: str | None
) -> AbortAsked | None:
    """Write down that someone wants this run's end; None when it is over, or unknown.

    Whoever owns the run, or claims it next, ends it.
    """
    row = await connection.fetchrow(
        """UPDATE nomaflow.runs SET
             abort_requested_at = coalesce(abort_requested_at, now()),
             abort_requested_by = coalesce(abort_requested_by, $2),
             abort_reason =
               CASE WHEN abort_requested_at IS NULL THEN $3 ELSE abort_reason END
           WHERE id = $1 AND status IN ('queued', 'running')
           RETURNING status,
             coalesce(lease_expires_at < clock_timestamp(), kind = 'external') AS orphaned,
             abort_requested_by, abort_reason""",
        run_id,
        by,
        reason,
    )
    return AbortAsked(RunStatus(row[0]), *row[1:]) if row else None


async def in_flight(connection: Connection | Database, job_id: UUID) -> list[InFlight]:
    """Answer the queued and running runs of that job, the oldest first."""
    rows = await connection.fetch(
        """SELECT id, status = 'running' AS running, started_at IS NOT NULL AS started
           FROM nomaflow.runs WHERE job_id = $1 AND status IN ('queued', 'running')
           ORDER BY queued_at, id""",
        job_id,
    )
    return [InFlight(r["id"], running=r["running"], started=r["started"]) for r in rows]


async def in_flight_of(
    connection: Connection | Database, job_ids: Sequence[UUID]
) -> dict[UUID, list[InFlight]]:
    """Answer the queued and running runs of many jobs, each job's oldest first."""
    rows = await connection.fetch(
        """SELECT job_id, id, status = 'running' AS running, started_at IS NOT NULL AS started
           FROM nomaflow.runs WHERE job_id = ANY ($1::uuid[]) AND status IN ('queued', 'running')
           ORDER BY queued_at, id""",
        list(job_ids),
    )
    found: dict[UUID, list[InFlight]] = {}
    for r in rows:
        one = InFlight(r["id"], running=r["running"], started=r["started"])
        found.setdefault(r["job_id"], []).append(one)
    return found


async def take_turns(connection: Connection, run_ids: Sequence[UUID]) -> None:
    """Let runs in flight hold their job's turn, so that serial ones wait for them."""
    await connection.execute(
        "UPDATE nomaflow.runs SET serial = true WHERE id = ANY ($1::uuid[]) AND NOT serial",
        list(run_ids),
    )


async def waiting_long(database: Database, seconds: float) -> Sequence[UUID]:
    """Runs that have waited for longer than that, so their doorbell may have been lost."""
    rows = await database.fetch(
        """SELECT id FROM nomaflow.runs
           WHERE status = 'queued' AND queued_at < now() - make_interval(secs => $1)
             AND (not_before IS NULL OR not_before < now()) LIMIT 1000""",
        seconds,
    )
    return [r["id"] for r in rows]
