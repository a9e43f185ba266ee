"""The one statement that changes statuses: many moves at once, each compared and set by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow.lifecycle import FINAL_RUN, FINAL_STEP, RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nomaflow.lifecycle import Move, StepChange
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.runs import Line, NewDelivery


@dataclass(frozen=True, slots=True)
class Writing:
    """A move and what is written with it: lines before its events, alerts in the outbox."""

    move: Move
    lines: Sequence[Line] = ()
    deliveries: Sequence[NewDelivery] = ()


# `n` is the place of a move in its batch, `k` that of a line or an event in its move.
_APPLY = """
WITH given AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset($1::jsonb) AS g (n int, id uuid, fence bigint, was text,
    status text, reason text, lines int, events int, wait float8, interruptions int, rows bigint,
    error jsonb)
), {free}run AS (
  UPDATE nomaflow.runs r SET
    status = g.status, reason = g.reason, seq = r.seq + g.lines + g.events,
    log_lines = r.log_lines + g.lines,
    finished_at = CASE WHEN g.status IN ({ends}) THEN now() END,
    not_before = CASE WHEN g.status = 'queued' AND r.abort_requested_at IS NULL
      THEN now() + make_interval(secs => g.wait) END,  -- to be ended, a run waits for nothing
    lease_owner = CASE WHEN g.status = 'running' THEN r.lease_owner END,
    lease_expires_at = CASE WHEN g.status = 'running' THEN r.lease_expires_at END,
    interruptions = r.interruptions + g.interruptions,
    rows_affected = CASE WHEN g.rows IS NULL THEN r.rows_affected
                    ELSE coalesce(r.rows_affected, 0) + g.rows END,
    error = coalesce(g.error, r.error)
  FROM {source} g
  WHERE r.id = g.id AND r.fence = g.fence AND r.status = g.was
  RETURNING r.id, r.seq, r.worker, r.job_name, r.status, g.lines, g.events, g.n
), change AS MATERIALIZED (
  SELECT run.id, run.worker AS owner, run.job_name, run.status AS becomes, c.*
  FROM run JOIN jsonb_to_recordset($2::jsonb) AS c (
    n int, position int, status text, reason text, attempt int, tries int, interruptions int,
    input jsonb, output jsonb, whole_output jsonb, summary text, rows_affected bigint,
    error jsonb, ended_try text, worker text, watermarks jsonb) USING (n)
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
    finished_at = CASE WHEN c.status IN ({step_ends}) THEN now() END,
    backends = CASE WHEN c.status = 'running' THEN NULL ELSE s.backends END,
    watermarks = coalesce(c.watermarks, s.watermarks)
  FROM change c WHERE s.run_id = c.id AND s.position = c.position
  RETURNING s.run_id, s.position, old.tries, old.try_started_at, c.ended_try,
    CASE WHEN jsonb_typeof(c.error) = 'object' THEN c.error END AS error,
    coalesce(c.worker, c.owner) AS worker
), tries AS (
  INSERT INTO nomaflow.attempts
    (run_id, position, number, status, started_at, finished_at, error, worker)
  SELECT run_id, position, tries, ended_try, try_started_at, now(), error, worker
  FROM steps WHERE ended_try IS NOT NULL
), outputs AS (
  INSERT INTO nomaflow.step_outputs (run_id, position, output)
  SELECT c.id, c.position, c.whole_output FROM change c
  WHERE c.whole_output IS NOT NULL AND c.becomes <> 'succeeded'
  ON CONFLICT (run_id, position) DO UPDATE SET output = excluded.output
), lines AS (
  INSERT INTO nomaflow.log_lines (run_id, seq, at, level, step, message)
  SELECT run.id, run.seq - run.events - run.lines + l.k, l.at, l.level, l.step, l.message
  FROM run JOIN jsonb_to_recordset($3::jsonb) AS l (
    n int, k int, at timestamptz, level smallint, step text, message text) USING (n)
), events AS (
  INSERT INTO nomaflow.run_events (run_id, seq, kind, payload)
  SELECT run.id, run.seq - run.events + e.k, e.payload ->> 'kind', e.payload - 'kind'
  FROM run JOIN jsonb_to_recordset($4::jsonb) AS e (n int, k int, payload jsonb) USING (n)
), alerts AS (
  INSERT INTO nomaflow.deliveries (run_id, job_name, event, channel, recipient, payload)
  SELECT run.id, d.job_name, d.event, d.channel, d.recipient, d.payload
  FROM run JOIN jsonb_to_recordset($5::jsonb) AS d (
    n int, job_name text, event text, channel text, recipient text, payload jsonb) USING (n)
  ON CONFLICT DO NOTHING
){well}
SELECT n, seq FROM run"""

# Only a run that succeeds moves watermarks and forgets its outputs; no other pays for looking.
# Rows are written in one order, so that two batches never wait for each other.
_WELL = """, forgotten AS (
  DELETE FROM nomaflow.step_outputs o USING run
  WHERE o.run_id = run.id AND run.status = 'succeeded'  -- any other end may be resumed later
), marks AS (  -- what a move's own links propose is not in the table's snapshot yet
  INSERT INTO nomaflow.watermarks AS w (job_name, name, value, run_id)
  SELECT DISTINCT ON (proposed.job_name, mark.key)
    proposed.job_name, mark.key, mark.value, proposed.id
  FROM (
    SELECT run.id, run.n, run.job_name, s.position, s.watermarks
    FROM run JOIN nomaflow.step_runs s ON s.run_id = run.id WHERE run.status = 'succeeded'
    UNION ALL
    SELECT c.id, c.n, c.job_name, c.position, c.watermarks
    FROM change c WHERE c.becomes = 'succeeded'
  ) proposed, jsonb_each_text(proposed.watermarks) AS mark
  ORDER BY proposed.job_name, mark.key, proposed.n DESC, proposed.position DESC
  ON CONFLICT (job_name, name) DO UPDATE
  SET value = excluded.value, updated_at = now(), run_id = excluded.run_id
)"""

# A batch waits for nobody: a run that somebody else has locked is left out, and with it every
# way for two batches to wait for each other.
_FREE = """free AS (
  SELECT g.* FROM nomaflow.runs r JOIN given g ON r.id = g.id
  WHERE r.fence = g.fence AND r.status = g.was
  FOR NO KEY UPDATE OF r SKIP LOCKED
), """


def _statement(*, leave_locked: bool, well: bool) -> str:
    return _APPLY.format(
        free=_FREE if leave_locked else "",
        source="free" if leave_locked else "given",
        well=_WELL if well else "",
        ends=", ".join(f"'{status.value}'" for status in FINAL_RUN),
        step_ends=", ".join(f"'{status.value}'" for status in FINAL_STEP),
    )


_STATEMENTS = {
    (leave_locked, well): _statement(leave_locked=leave_locked, well=well)
    for leave_locked in (True, False)
    for well in (True, False)
}


async def write(
    connection: Connection | Database, batch: Sequence[Writing], *, leave_locked: bool
) -> dict[int, int]:
    """Write moves in one commit: those whose run is still where it was and whose claim holds.

    Answers, by place in the batch, the number of the run's last event. Nothing at all was written
    of those that are missing. With `leave_locked`, that also happens to a run whose row somebody
    else has locked at this moment.
    """
    well = any(one.move.status is RunStatus.SUCCEEDED for one in batch)
    rows = await connection.fetch(_STATEMENTS[leave_locked, well], *_values(batch))
    return {row[0] - 1: row[1] for row in rows}


def _values(batch: Sequence[Writing]) -> tuple[list[dict[str, Any]], ...]:
    """Five parameters of rows: the driver looks at every item of an array, JSON is one text."""
    runs: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    deliveries: list[dict[str, Any]] = []
    for n, writing in enumerate(batch, 1):
        told = writing.move.events()
        runs.append(_run(n, writing, len(told)))
        changes += [_change(n, change) for change in writing.move.steps]
        lines += [
            {
                "n": n,
                "k": k,
                "at": line.at,
                "level": line.level,
                "step": line.step,
                "message": line.message,
            }
            for k, line in enumerate(writing.lines, 1)
        ]
        events += [{"n": n, "k": k, "payload": event} for k, event in enumerate(told, 1)]
        deliveries += [_delivery(n, delivery) for delivery in writing.deliveries]
    return runs, changes, lines, events, deliveries


def _run(n: int, writing: Writing, events: int) -> dict[str, Any]:
    move = writing.move
    return {
        "n": n,
        "id": move.run_id,
        "fence": move.fence,
        "was": move.was.value,
        "status": move.status.value,
        "reason": move.reason,
        "lines": len(writing.lines),
        "events": events,
        "wait": move.not_before_seconds,
        "interruptions": move.interruptions,
        "rows": move.rows_affected,
        "error": move.error,
    }


def _change(n: int, change: StepChange) -> dict[str, Any]:
    row = {
        "n": n,
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
    return {name: value for name, value in row.items() if value is not None}


def _delivery(n: int, told: NewDelivery) -> dict[str, Any]:
    return {
        "n": n,
        "job_name": told.job_name,
        "event": told.event,
        "channel": told.channel,
        "recipient": told.recipient,
        "payload": dict(told.payload),
    }
