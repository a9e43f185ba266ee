"""Claims: which worker owns which run, by the database's clock alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from asyncpg import UniqueViolationError

from nomaflow.lifecycle import Held, RunStatus, StepState, StepStatus
from nomaflow.store import pulse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database, Record


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that is now this worker's, with what its execution needs."""

    held: Held
    kind: str
    job_id: UUID | None
    job_name: str
    job_revision: int | None
    trigger: str
    triggered_by: str
    principal: str
    schedule_name: str | None
    scheduled_for: datetime | None
    queued_at: datetime
    started_at: datetime
    elapsed_seconds: float
    """Since its first start, by the database's clock: what the run's own timeout counts."""
    params: Mapping[str, Any]
    overrides: Mapping[str, Any]
    log_level: str
    dry_run: bool
    log_lines: int
    abort_requested_by: str | None
    abort_reason: str | None
    rescued: bool
    """True when it was taken over from a worker whose lease ran out."""
    left_by: str | None
    """The worker that had it before."""
    origin: str | None
    """Who declared the job, `file` or `api`: it decides which secrets and hosts it may use."""
    any_env: bool
    """Whether whoever saved an API job's definition might let it read any name of `.env`."""
    serial: bool
    lock: str | None
    opened: int | None
    """Position of the step that this claim started; None when it was running already."""
    seq: int

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        return self.held.run_id

    @property
    def reads_listed_env(self) -> bool:
        """True when it reads only those names of `.env` that the installation lists."""
        return self.origin == "api" and not self.any_env

    @property
    def takes_turns(self) -> bool:
        """True when another run may be waiting for this one's end."""
        return self.serial or self.lock is not None


_WAITING = """
  SELECT id, fence, worker, false AS rescued FROM nomaflow.runs
  WHERE status = 'queued' AND (not_before IS NULL OR not_before <= now())
    AND NOT serial AND lock IS NULL AND worker_tag = ANY ($4::text[])
  ORDER BY priority DESC, queued_at LIMIT $2 FOR UPDATE SKIP LOCKED"""

# One that has its turn (it started before) comes back without asking; any other waits until
# nobody of its job, and nobody with its lock, is between its start and its end.
_TAKING_TURNS = """
  SELECT id, fence, worker, false AS rescued FROM nomaflow.runs w
  WHERE status = 'queued' AND (not_before IS NULL OR not_before <= now())
    AND (serial OR lock IS NOT NULL) AND worker_tag = ANY ($4::text[])
    AND (started_at IS NOT NULL
      OR NOT (serial AND EXISTS (
        SELECT FROM nomaflow.runs h WHERE h.serial AND h.job_id = w.job_id
          AND h.started_at IS NOT NULL AND h.finished_at IS NULL))
      AND NOT EXISTS (
        SELECT FROM nomaflow.runs h WHERE h.lock = w.lock
          AND h.started_at IS NOT NULL AND h.finished_at IS NULL))
  ORDER BY priority DESC, queued_at LIMIT $2 FOR UPDATE SKIP LOCKED"""

# What waits, and beside it one that has to be asked for by itself, if there is room for it.
_WAITING_AND_TURN = f"""
  WITH plain AS ({_WAITING}
  ), turn AS ({_TAKING_TURNS.replace("LIMIT $2", "LIMIT (SELECT (count(*) < $2)::int FROM plain)")}
  )
  SELECT * FROM plain UNION ALL SELECT * FROM turn"""


# For a worker in which so many runs wait for others that it takes only such others.
def _awaited(due: str) -> str:
    return due.replace("WHERE status", "WHERE parent_run_id IS NOT NULL AND status")


# A lease also counts as held for one full lease after PostgreSQL was out of reach: nobody could
# renew it then, and its owner may be well.
_EXPIRED = f"""
  SELECT id, fence, worker, true AS rescued FROM nomaflow.runs
  WHERE status = 'running' AND lease_expires_at < clock_timestamp()
    AND {pulse.WITHIN_REACH}
    AND worker_tag = ANY ($4::text[])
  LIMIT $2 FOR UPDATE SKIP LOCKED"""

# Claimed by this worker, which never heard of it: the answer was lost with the connection.
_UNHEARD = """
  SELECT id, fence, worker, true AS rescued FROM nomaflow.runs
  WHERE status = 'running' AND lease_owner = $1 AND NOT id = ANY ($4::uuid[])
  LIMIT $2 FOR UPDATE SKIP LOCKED"""

# `due` locks and so sees the newest row, the rest of the statement sees its snapshot: `seen`
# leaves out a run that someone claimed and handed back in between.
_CLAIM = """
WITH due AS ({due}
), seen AS (
  SELECT r.id, r.fence FROM nomaflow.runs r JOIN due ON r.id = due.id
), opening AS (
  SELECT DISTINCT ON (s.run_id) s.run_id, s.position
  FROM nomaflow.step_runs s JOIN due ON s.run_id = due.id JOIN seen USING (id, fence)
  WHERE s.status IN ('pending', 'running', 'retrying')
  ORDER BY s.run_id, s.position
), mine AS (
  UPDATE nomaflow.runs r SET
    status = 'running', lease_owner = $1, worker = $1, fence = nextval('nomaflow.fence'),
    lease_expires_at = clock_timestamp() + make_interval(secs => $3),
    started_at = coalesce(r.started_at, clock_timestamp()), not_before = NULL, reason = NULL,
    seq = r.seq + (CASE WHEN due.rescued THEN 0 ELSE 1 END)
      + (SELECT count(*) FROM opening o JOIN nomaflow.step_runs s USING (run_id, position)
         WHERE o.run_id = r.id AND s.status <> 'running')
  FROM due JOIN seen USING (id, fence) WHERE r.id = due.id
  RETURNING r.*, due.rescued, due.worker AS left_by
), opened AS (
  UPDATE nomaflow.step_runs s SET
    status = 'running', reason = NULL, attempt = s.attempt + 1, tries = s.tries + 1,
    try_started_at = clock_timestamp(), started_at = coalesce(s.started_at, clock_timestamp()),
    backends = NULL
  FROM opening o
  WHERE s.run_id = o.run_id AND s.position = o.position AND s.status IN ('pending', 'retrying')
  RETURNING s.run_id, s.position, s.name, s.attempt
), told AS (
  INSERT INTO nomaflow.run_events (run_id, seq, at, kind, payload)
  SELECT m.id, m.seq - (SELECT count(*) FROM opened o WHERE o.run_id = m.id), clock_timestamp(),
    'run', jsonb_build_object('status', 'running', 'reason', NULL)
  FROM mine m WHERE NOT m.rescued
  UNION ALL
  SELECT m.id, m.seq, clock_timestamp(), 'step', jsonb_build_object('step', o.name,
    'position', o.position, 'status', 'running', 'attempt', o.attempt, 'reason', NULL)
  FROM mine m JOIN opened o ON o.run_id = m.id
)
SELECT m.*, extract(epoch FROM clock_timestamp() - m.started_at)::float8 AS elapsed_seconds,
  (SELECT j.origin FROM nomaflow.jobs j WHERE j.id = m.job_id) AS origin,
  coalesce((SELECT r.any_env FROM nomaflow.job_revisions r
    WHERE r.job_id = m.job_id AND r.revision = m.job_revision), false) AS any_env,
  (SELECT o.position FROM opened o WHERE o.run_id = m.id) AS opened,
  (SELECT jsonb_agg(jsonb_build_object('position', s.position, 'name', s.name,
      'status', CASE WHEN o.position IS NULL THEN s.status ELSE 'running' END,
      'attempt', coalesce(o.attempt, s.attempt),
      'tries', s.tries + (o.position IS NOT NULL)::int,
      'interruptions', s.interruptions,
      'reason', CASE WHEN o.position IS NULL THEN s.reason END) ORDER BY s.position)
   FROM nomaflow.step_runs s
   LEFT JOIN opened o ON o.run_id = s.run_id AND o.position = s.position
   WHERE s.run_id = m.id) AS steps
FROM mine m ORDER BY m.priority DESC, m.queued_at"""

_CLAIM_NEXT = _CLAIM.format(due=_WAITING_AND_TURN)
_CLAIM_AWAITED_NEXT = _CLAIM.format(due=_awaited(_WAITING_AND_TURN))
_CLAIM_WAITING = _CLAIM.format(due=_WAITING)
_CLAIM_AWAITED = _CLAIM.format(due=_awaited(_WAITING))
_CLAIM_TURN = _CLAIM.format(due=_TAKING_TURNS)
_CLAIM_AWAITED_TURN = _CLAIM.format(due=_awaited(_TAKING_TURNS))
_CLAIM_EXPIRED = _CLAIM.format(due=_EXPIRED)
_CLAIM_UNHEARD = _CLAIM.format(due=_UNHEARD)


async def claim(
    connection: Connection | Database,
    owner: str,
    *,
    limit: int,
    lease_seconds: float,
    tags: Sequence[str],
    expired: bool = False,
    awaited_only: bool = False,
) -> list[Claimed]:
    """Take up to `limit` runs: waiting ones with their first step started, or expired ones.

    Of those that take turns, or wait for a named lock, one is taken at most; `claim_turn` asks
    for more. `awaited_only` leaves out waiting ones that no other run waits for.

    One statement, so a run is either wholly this worker's or not at all. A run taken over has
    its interrupted step still marked running: `moves.interrupt` decides about it.
    """
    given = (owner, limit, lease_seconds, list(tags))
    if expired:
        rows = await connection.fetch(_CLAIM_EXPIRED, *given)
    else:
        try:
            rows = await connection.fetch(
                _CLAIM_AWAITED_NEXT if awaited_only else _CLAIM_NEXT, *given
            )
        except UniqueViolationError:  # another worker was first with the turn
            rows = await connection.fetch(
                _CLAIM_AWAITED if awaited_only else _CLAIM_WAITING, *given
            )
    return [_claimed(row) for row in rows]


def _claimed(row: Record) -> Claimed:
    steps = tuple(
        StepState(
            s["position"],
            s["name"],
            StepStatus(s["status"]),
            s["attempt"],
            s["tries"],
            s["interruptions"],
            s["reason"],
        )
        for s in row["steps"] or ()
    )
    facts = (name for name in Claimed.__dataclass_fields__ if name != "held")
    return Claimed(
        held=Held(row["id"], row["fence"], RunStatus.RUNNING, steps),
        **{name: row[name] for name in facts},
    )


async def claim_turn(
    connection: Connection | Database,
    owner: str,
    *,
    lease_seconds: float,
    tags: Sequence[str],
    awaited_only: bool = False,
) -> Claimed | None:
    """Take one run that waits for its turn or for a named lock, if it may start now.

    Two workers may find two runs of one job free in the same moment; the unique index lets one
    of them have it, and the other takes its turn later.
    """
    try:
        statement = _CLAIM_AWAITED_TURN if awaited_only else _CLAIM_TURN
        rows = await connection.fetch(statement, owner, 1, lease_seconds, list(tags))
    except UniqueViolationError:
        return None
    return _claimed(rows[0]) if rows else None


async def claim_unheard(
    connection: Connection | Database,
    owner: str,
    known: Sequence[UUID],
    *,
    lease_seconds: float,
    expired: bool,
) -> list[Claimed]:
    """Take what an earlier claim of this worker took although its answer was lost.

    `expired` says what kind of claim that was: a waiting run's step has only been marked
    running, an expired one's was interrupted.
    """
    rows = await connection.fetch(_CLAIM_UNHEARD, owner, 1000, lease_seconds, list(known))
    return [replace(_claimed(row), rescued=expired) for row in rows]
