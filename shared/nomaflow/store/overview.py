"""The whole installation at a glance: what waits, what runs, what changed lately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow.store.history import COLUMNS, RunRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
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
    return Load(*row)


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
FROM nomaflow.runs r WHERE """


async def stages(
    db: Connection | Database, since: datetime, ids: Sequence[UUID]
) -> dict[UUID, str]:
    """Read where runs stand: those in flight, those finished since then, and `ids`.

    Two equal words look the same on a panel of what is in flight.
    """
    rows = await db.fetch(
        _STAGES
        + """r.status IN ('queued', 'running') OR r.finished_at >= $1 OR r.id = ANY ($2::uuid[])""",
        since,
        list(ids),
    )
    return {row["id"]: row["stage"] for row in rows}


async def now(db: Connection | Database) -> datetime:
    """Read the database's clock."""
    moment: datetime = await db.fetchval("SELECT clock_timestamp()")
    return moment
