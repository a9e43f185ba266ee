"""Runs and the runs their steps started: ancestors, children in flight, and how a child ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


DETACHED = "detached"
"""The word in a run's overrides that says: its parent does not wait for it."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A run above: the parent first, then its parent."""

    run_id: UUID
    job_name: str
    status: str
    lock: str | None
    serial: bool
    detached: bool


async def ancestors(connection: Connection, run_id: UUID) -> list[Ancestor]:
    """Read a parent-to-be and every run above it; the parent stays as it is until the commit."""
    # Shared, so that the parent cannot end between this look and the child's birth.
    await connection.fetchrow("SELECT FROM nomaflow.runs WHERE id = $1 FOR SHARE", run_id)
    return await _upward(connection, run_id)


async def above(db: Connection | Database, run_id: UUID) -> list[Ancestor]:
    """Read every run above this one, the outermost first."""
    return (await _upward(db, run_id))[:0:-1]


async def _upward(db: Connection | Database, run_id: UUID) -> list[Ancestor]:
    rows = await db.fetch(
        """WITH RECURSIVE up AS (
             SELECT id, job_name, status, lock, serial, overrides, parent_run_id, 0 AS depth
             FROM nomaflow.runs WHERE id = $1
             UNION ALL
             SELECT r.id, r.job_name, r.status, r.lock, r.serial, r.overrides, r.parent_run_id,
               up.depth + 1
             FROM nomaflow.runs r JOIN up ON r.id = up.parent_run_id WHERE up.depth < 100)
           SELECT id, job_name, status, lock, serial, overrides ? $2 FROM up ORDER BY depth""",
        run_id,
        DETACHED,
    )
    return [Ancestor(*row) for row in rows]


async def one_birth_at_a_time(connection: Connection) -> None:
    """Let one birth at a time look who waits for whom; until the commit."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('nomaflow.family'))")


_HOLDS = "h.started_at IS NOT NULL AND h.finished_at IS NULL"


@dataclass(frozen=True, slots=True)
class Wait:
    """A run that does not go on before another is over; `lock` is what that one holds."""

    waiter: UUID | None
    awaited: UUID
    job_name: str
    lock: str | None
    is_child: bool


async def holders(connection: Connection, lock: str | None, job_id: UUID | None) -> list[Wait]:
    """Read who holds a named lock, and who has the turn of a job whose runs queue."""
    rows = await connection.fetch(
        f"""SELECT NULL::uuid, h.id, h.job_name, h.lock, false
            FROM nomaflow.runs h WHERE h.lock = $1 AND {_HOLDS}
            UNION ALL
            SELECT NULL::uuid, h.id, h.job_name, NULL, false
            FROM nomaflow.runs h WHERE h.serial AND h.job_id = $2 AND {_HOLDS}""",
        lock,
        job_id,
    )
    return [Wait(*row) for row in rows]


async def waits(connection: Connection, run_ids: Sequence[UUID]) -> list[Wait]:
    """Read what these runs wait for: children of theirs, or who holds their lock or turn."""
    rows = await connection.fetch(
        f"""WITH asked AS (SELECT * FROM nomaflow.runs WHERE id = ANY ($1::uuid[])),
            queued AS (SELECT * FROM asked WHERE started_at IS NULL AND finished_at IS NULL)
            SELECT a.id, c.id, c.job_name, NULL, true
            FROM asked a JOIN nomaflow.runs c ON c.parent_run_id = a.id
            WHERE c.finished_at IS NULL AND NOT c.overrides ? $2
            UNION ALL
            SELECT q.id, h.id, h.job_name, h.lock, false
            FROM queued q JOIN nomaflow.runs h ON h.lock = q.lock WHERE {_HOLDS}
            UNION ALL
            SELECT q.id, h.id, h.job_name, NULL, false
            FROM queued q JOIN nomaflow.runs h ON h.serial AND h.job_id = q.job_id
            WHERE q.serial AND {_HOLDS}""",
        list(run_ids),
        DETACHED,
    )
    return [Wait(*row) for row in rows]


async def in_flight(db: Connection | Database, run_id: UUID) -> list[UUID]:
    """Read which children of a run are queued or running; a detached one is on its own."""
    rows = await db.fetch(
        """SELECT id FROM nomaflow.runs
           WHERE parent_run_id = $1 AND status IN ('queued', 'running') AND NOT overrides ? $2""",
        run_id,
        DETACHED,
    )
    return [row["id"] for row in rows]


async def over(db: Connection | Database, run_ids: Sequence[UUID]) -> list[UUID]:
    """Read which of these runs are over, or not there any more."""
    rows = await db.fetch(
        """SELECT asked.id FROM unnest($1::uuid[]) AS asked (id)
           LEFT JOIN nomaflow.runs r ON r.id = asked.id
           WHERE r.id IS NULL OR r.finished_at IS NOT NULL""",
        list(run_ids),
    )
    return [row["id"] for row in rows]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over; `output` is whole, that of the last step that put one out."""

    status: str
    reason: str | None
    rows_affected: int | None
    output: Mapping[str, Any]


async def end_of(db: Connection | Database, run_id: UUID) -> Ended | None:
    """Read how a run ended; None when it is not there any more."""
    row = await db.fetchrow(
        """SELECT r.status, r.reason, r.rows_affected, (
             SELECT coalesce(o.output, s.output) FROM nomaflow.step_runs s
             LEFT JOIN nomaflow.step_outputs o USING (run_id, position)
             WHERE s.run_id = r.id AND s.output IS NOT NULL AND s.status IN ('succeeded', 'failed')
             ORDER BY s.position DESC LIMIT 1) AS output
           FROM nomaflow.runs r WHERE r.id = $1""",
        run_id,
    )
    if row is None:
        return None
    return Ended(row["status"], row["reason"], row["rows_affected"], row["output"] or {})
