"""The whole installation at a glance: what waits, what runs, what changed lately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow.store.history import COLUMNS, RunRow

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class Load:
    """How many runs wait and how many run."""

    queued: int
    running: int


async def load(db: Connection | Database) -> Load:
    """Count what is in flight."""
    row = await db.fetchrow(
        """SELECT (SELECT count(*) FROM nomaflow.runs WHERE status = 'queued') AS queued,
             (SELECT count(*) FROM nomaflow.runs WHERE status = 'running') AS running"""
    )
    return Load(row["queued"], row["running"]) if row else Load(0, 0)


async def last_failures(db: Connection | Database, limit: int) -> list[RunRow]:
    """Read the newest failed runs."""
    rows = await db.fetch(
        f"""SELECT {COLUMNS} FROM nomaflow.runs r WHERE r.status = 'failed'
            ORDER BY r.queued_at DESC, r.id DESC LIMIT $1""",
        limit,
    )
    return [RunRow(*row) for row in rows]


_STAGES = """
SELECT r.id, r.status || coalesce(' ' || r.reason, '') || coalesce((
  SELECT string_agg(s.status || s.tries, ',' ORDER BY s.position)
  FROM nomaflow.step_runs s WHERE s.run_id = r.id), '') AS stage
FROM (
  SELECT id, status, reason FROM nomaflow.runs WHERE status IN ('queued', 'running')
  UNION ALL
  SELECT id, status, reason FROM nomaflow.runs WHERE finished_at >= clock_timestamp() - $1::interval
) r"""


async def stages(db: Connection | Database, look_back: timedelta) -> dict[UUID, str]:
    """Read where runs stand: those in flight, and those that ended no longer ago than that.

    Two equal words look the same on a panel of what is in flight.
    """
    return {row["id"]: row["stage"] for row in await db.fetch(_STAGES, look_back)}
