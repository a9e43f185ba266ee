"""Deletes history that is old enough, in small statements; runs in flight are never touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database

# `finished_at` is set exactly when a run is over; the statuses are said again all the same.
_AGED = "finished_at < $1 AND status NOT IN ('queued', 'running')"


async def anything_aged(connection: Connection | Database, cutoff: datetime) -> bool:
    """Tell whether any run ended before `cutoff`."""
    return bool(
        await connection.fetchval(
            f"SELECT EXISTS (SELECT 1 FROM nomaflow.runs WHERE {_AGED})", cutoff
        )
    )


async def aged_runs(db: Database, cutoff: datetime, limit: int) -> list[UUID]:
    """Runs that ended before `cutoff`, the oldest first."""
    rows = await db.fetch(
        f"SELECT id FROM nomaflow.runs WHERE {_AGED} ORDER BY finished_at LIMIT $2",
        cutoff,
        limit,
    )
    return [row["id"] for row in rows]


async def delete_log_lines(db: Database, runs: Sequence[UUID], limit: int) -> int:
    """Delete up to `limit` log lines of these runs; answers how many."""
    return await _delete_some(db, "log_lines", runs, limit)


async def delete_events(db: Database, runs: Sequence[UUID], limit: int) -> int:
    """Delete up to `limit` events of these runs; answers how many."""
    return await _delete_some(db, "run_events", runs, limit)


async def _delete_some(db: Database, table: str, runs: Sequence[UUID], limit: int) -> int:
    tag = await db.execute(
        f"""DELETE FROM nomaflow.{table} WHERE ctid = ANY (ARRAY(
              SELECT ctid FROM nomaflow.{table} WHERE run_id = ANY ($1::uuid[]) LIMIT $2))""",
        list(runs),
        limit,
    )
    return _rows(tag)


async def delete_runs(db: Database, cutoff: datetime, runs: Sequence[UUID]) -> tuple[int, int]:
    """Delete these runs with all that is left of them; answers how many runs and step runs."""
    row = await db.fetchrow(
        f"""WITH aged AS (
              SELECT id FROM nomaflow.runs WHERE id = ANY ($2::uuid[]) AND {_AGED}
            ), steps AS (
              SELECT count(*) AS n FROM nomaflow.step_runs s JOIN aged ON s.run_id = aged.id
            ), gone AS (
              DELETE FROM nomaflow.runs USING aged WHERE runs.id = aged.id RETURNING 1
            )
            SELECT (SELECT count(*) FROM gone) AS runs, steps.n AS steps FROM steps""",
        cutoff,
        list(runs),
    )
    return (row["runs"], row["steps"]) if row else (0, 0)


async def schedules_with_aged_slots(db: Database, cutoff: datetime) -> list[UUID]:
    """Clocks whose record reaches back beyond `cutoff`."""
    rows = await db.fetch(
        """SELECT s.id FROM nomaflow.schedules s WHERE EXISTS (
             SELECT 1 FROM nomaflow.slots t WHERE t.schedule_id = s.id
               AND t.due_at < $1 AND coalesce(t.until, t.due_at) < $1)""",
        cutoff,
    )
    return [row["id"] for row in rows]


async def delete_slots(db: Database, schedule_id: UUID, cutoff: datetime, limit: int) -> int:
    """Delete up to `limit` due times of one clock that lie before `cutoff`."""
    tag = await db.execute(
        """DELETE FROM nomaflow.slots WHERE schedule_id = $1 AND due_at = ANY (ARRAY(
             SELECT due_at FROM nomaflow.slots
             WHERE schedule_id = $1 AND due_at < $2 AND coalesce(until, due_at) < $2 LIMIT $3))""",
        schedule_id,
        cutoff,
        limit,
    )
    return _rows(tag)


async def delete_deliveries(db: Database, cutoff: datetime, limit: int) -> int:
    """Delete up to `limit` alerts written before `cutoff` that are sent or given up."""
    tag = await db.execute(
        """DELETE FROM nomaflow.deliveries WHERE id = ANY (ARRAY(
             SELECT id FROM nomaflow.deliveries
             WHERE at < $1 AND status <> 'pending' LIMIT $2))""",
        cutoff,
        limit,
    )
    return _rows(tag)


def _rows(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
