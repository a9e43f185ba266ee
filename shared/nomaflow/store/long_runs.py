"""Runs that take longer than their job's `on_long_run_minutes`, each told of once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class LongRun:
    """A run over its limit; `minutes` since its first start."""

    id: UUID
    job_id: UUID
    job_name: str
    job_revision: int
    status: str
    trigger: str
    triggered_by: str
    started_at: datetime
    fence: int
    minutes: float


async def unwarned(db: Database, at: datetime | None = None) -> list[LongRun]:
    """Runs in flight that are over their limit at `at` (None: now) and not warned of yet.

    A run that waits for its next try counts too: it has begun and is not over.
    """
    rows = await db.fetch(
        """SELECT r.id, r.job_id, r.job_name, r.job_revision, r.status, r.trigger, r.triggered_by,
             r.started_at, r.fence,
             extract(epoch FROM coalesce($1, now()) - r.started_at)::float8 / 60 AS minutes
           FROM nomaflow.runs r
           JOIN nomaflow.job_revisions v ON v.job_id = r.job_id AND v.revision = r.job_revision
           WHERE r.status IN ('queued', 'running') AND r.started_at IS NOT NULL
             AND r.long_run_alerted_at IS NULL
             AND r.started_at + make_interval(
                   secs => 60 * (v.definition #>> '{alerts,on_long_run_minutes}')::float8)
                 <= coalesce($1, now())
           ORDER BY r.started_at LIMIT 500""",
        at,
    )
    return [LongRun(**row) for row in rows]


async def mark(connection: Connection, run_id: UUID) -> bool:
    """Take the one warning of this run; False when it is over or someone was faster."""
    return bool(
        await connection.fetchval(
            """UPDATE nomaflow.runs SET long_run_alerted_at = now()
               WHERE id = $1 AND long_run_alerted_at IS NULL AND status IN ('queued', 'running')
               RETURNING true""",
            run_id,
        )
    )
