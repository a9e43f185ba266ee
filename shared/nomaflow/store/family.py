"""Runs and the runs their steps started: ancestors, children in flight, and how a child ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A run above: the parent first, then its parent."""

    run_id: UUID
    job_name: str
    status: str
    lock: str | None


async def ancestors(connection: Connection, run_id: UUID) -> list[Ancestor]:
    """Read a parent-to-be and every run above it; the parent stays as it is until the commit."""
    # Shared, so that the parent cannot end between this look and the child's birth.
    await connection.fetchrow("SELECT FROM nomaflow.runs WHERE id = $1 FOR SHARE", run_id)
    rows = await connection.fetch(
        """WITH RECURSIVE up AS (
             SELECT id, job_name, status, lock, parent_run_id, 0 AS depth
             FROM nomaflow.runs WHERE id = $1
             UNION ALL
             SELECT r.id, r.job_name, r.status, r.lock, r.parent_run_id, up.depth + 1
             FROM nomaflow.runs r JOIN up ON r.id = up.parent_run_id WHERE up.depth < 100)
           SELECT id, job_name, status, lock FROM up ORDER BY depth""",
        run_id,
    )
    return [Ancestor(*row) for row in rows]


async def in_flight(db: Connection | Database, run_id: UUID) -> list[UUID]:
    """Read which children of a run are queued or running."""
    rows = await db.fetch(
        """SELECT id FROM nomaflow.runs
           WHERE parent_run_id = $1 AND status IN ('queued', 'running')""",
        run_id,
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
