"""Switches of single clocks: state that lives in the database and survives reloads of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


async def set_schedule(
    connection: Connection, schedule_id: UUID, *, on: bool, reset_count: bool
) -> None:
    """Switch a clock on or off; with `reset_count` it begins to count its fires anew."""
    await connection.execute(
        """UPDATE nomaflow.schedules SET switched_on = $2,
             fire_count = CASE WHEN $3 THEN 0 ELSE fire_count END
           WHERE id = $1""",
        schedule_id,
        on,
        reset_count,
    )


async def touch(connection: Connection, job_id: UUID, by: str) -> None:
    """Say that someone changed how a job stands, without changing its definition."""
    await connection.execute(
        "UPDATE nomaflow.jobs SET updated_at = now(), updated_by = $2 WHERE id = $1", job_id, by
    )


async def now(connection: Connection | Database) -> datetime:
    """The database's clock."""
    moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return moment
