"""The one statement that changes statuses: many moves at once, each compared and set by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow.lifecycle import FINAL_RUN, FINAL_STEP, RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from nomaflow.lifecycle import Move, StepChange
    from nomaflow.store.database import Connection, Database


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


@dataclass(frozen=True, slots=True)
class Writing:
    """A move and what is written with it: lines before its events, alerts in the outbox."""

    move: Move
    lines: Sequence[Line] = ()
    deliveries: Sequence[NewDelivery] = ()


# Every batch is one list of JSON; what belongs to a move stays with it, so that nothing has to be
# brought together again. `k` is the place of a line or an event in its move. A status is compared
# so that no index on it comes into question: full of runs that were there, it would be slow.
_APPLY = """
WITH given AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset($1::jsonb) AS g (n int, id uuid, fence bigint, was text,
    status text, reason text, seconds float8, interruptions int, rows bigint, error jsonb,
    steps jsonb, lines jsonb, events jsonb, alerts jsonb, line_count int, event_count int)
), {free}run AS (
  UPDATE nomaflow.runs r SET
    status = g.status, reason = g.reason, seq = r.seq + g.line_count + g.event_count,
    log_lines = r.log_lines + g.line_count,
    finished_at = CASE WHEN g.status IN ({ends}) THEN now() END,
    not_before = CASE WHEN g.status = 'queued' AND r.abort_requested_at IS NULL
      THEN now() + make_interval(secs => g.seconds) END,  -- to be ended, a run waits for nothing
    lease_owner = CASE WHEN g.status = 'running' THEN r.lease_owner END,
    lease_expires_at = CASE WHEN g.status = 'running' THEN r.lease_expires_at END,
    interruptions = r.interruptions + g.interruptions,
    rows_affected = CASE WHEN g.rows IS NULL THEN r.rows_affected
                    ELSE coalesce(r.rows_affected, 0) + g.rows END,
    error = coalesce(g.error, r.error)
  FROM {source} g
  WHERE r.id = g.id AND r.fence = g.fence AND r.status IS NOT DISTINCT FROM g.was
  RETURNING r.id, r.seq, r.worker, r.job_name, r.status, g.n, g.steps, g.lines, g.events,
    g.alerts, r.seq - g.event_count AS before_events,
    r.seq - g.event_count - g.line_count AS before_lines
), change AS MATERIALIZED (
  SELECT run.id, run.n, run.worker AS owner, run.job_name, run.status AS becomes, c.*
  FROM run, jsonb_to_recordset(run.steps) AS c (
    position int, status text, reason text, attempt int, tries int, interruptions int,
    input jsonb, output jsonb, whole_output jsonb, summary text, rows_affected bigint,
    error jsonb, ended_try text, worker text, watermarks jsonb)
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
  SELECT run.id, run.before_lines + l.k, l.at, l.level, l.step, l.message
  FROM run, jsonb_to_recordset(run.lines) AS l (
    k int, at timestamptz, level smallint, step text, message text)
), events AS (
  INSERT INTO nomaflow.run_events (run_id, seq, kind, payload)
  SELECT run.id, run.before_events + e.k, e.value ->> 'kind', e.value - 'kind'
  FROM run, jsonb_array_elements(run.events) WITH ORDINALITY AS e (value, k)
), alerts AS (
  INSERT INTO nomaflow.deliveries (run_id, job_name, event, channel, recipient, payload)
  SELECT run.id, d.job_name, d.event, d.channel, d.recipient, d.payload
  FROM run, jsonb_to_recordset(run.alerts) AS d (
    job_name text, event text, channel text, recipient text, payload jsonb)
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
  WHERE r.fence = g.fence AND r.status IS NOT DISTINCT FROM g.was
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
    rows = await connection.fetch(
        _STATEMENTS[leave_locked, well], [_as_json(n, writing) for n, writing in enumerate(batch)]
    )
    return {row[0]: row[1] for row in rows}


def _as_json(n: int, writing: Writing) -> dict[str, Any]:
    move = writing.move
    events = move.events()
    return {
        "n": n,
        "id": move.run_id,
        "fence": move.fence,
        "was": move.was.value,
        "status": move.status.value,
        "reason": move.reason,
        "seconds": move.not_before_seconds,
        "interruptions": move.interruptions,
        "rows": move.rows_affected,
        "error": move.error,
        "steps": [_change(change) for change in move.steps],
        "lines": [_line(k, line) for k, line in enumerate(writing.lines, 1)],
        "events": events,
        "alerts": [_alert(told) for told in writing.deliveries],
        "line_count": len(writing.lines),
        "event_count": len(events),
    }


def _line(k: int, line: Line) -> dict[str, Any]:
    return {
        "k": k,
        "at": line.at,
        "level": line.level,
        "step": line.step,
        "message": line.message,
    }


def _change(change: StepChange) -> dict[str, Any]:
    row = {
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


def _alert(told: NewDelivery) -> dict[str, Any]:
    return {
        "job_name": told.job_name,
        "event": told.event,
        "channel": told.channel,
        "recipient": told.recipient,
        "payload": dict(told.payload),
    }
