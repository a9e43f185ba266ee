"""Watermarks: how far a job has come, by names of its own.

A step proposes, the last move of a run that succeeded writes (`store.runs`); a person may set or
forget one at any time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class WatermarkRow:
    """A watermark; `run_id` is the run that moved it, None when a person set it."""

    job_name: str
    name: str
    value: str
    updated_at: datetime
    run_id: UUID | None


_COLUMNS = "job_name, name, value, updated_at, run_id"


async def of_job(connection: Connection | Database, job: str) -> dict[str, str]:
    """Read every watermark of a job: what `${state.<name>}` sees."""
    rows = await connection.fetch(
        "SELECT name, value FROM nomaflow.watermarks WHERE job_name = $1 ORDER BY name", job
    )
    return {row["name"]: row["value"] for row in rows}


async def of_jobs(
    connection: Connection | Database, jobs: Sequence[str]
) -> dict[str, list[WatermarkRow]]:
    """Read the watermarks of each job, by name."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM nomaflow.watermarks
            WHERE job_name = ANY ($1::text[]) ORDER BY job_name, name""",
        list(jobs),
    )
    found: defaultdict[str, list[WatermarkRow]] = defaultdict(list)
    for row in rows:
        found[row["job_name"]].append(WatermarkRow(*row))
    return found


async def get(connection: Connection | Database, job: str, name: str) -> WatermarkRow | None:
    """Read one; None when it was never set."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM nomaflow.watermarks WHERE job_name = $1 AND name = $2", job, name
    )
    return WatermarkRow(*row) if row else None


async def set(  # noqa: A001  watermarks.set says it best
    connection: Connection | Database, job: str, name: str, value: str, run_id: UUID | None = None
) -> None:
    """Set one, whatever it was before."""
    await connection.execute(
        """INSERT INTO nomaflow.watermarks (job_name, name, value, run_id)
           VALUES ($1, $2, $3, $4)
           ON CONFLICT (job_name, name) DO UPDATE
           SET value = excluded.value, updated_at = now(), run_id = excluded.run_id""",
        job,
        name,
        value,
        run_id,
    )


async def reset(connection: Connection | Database, job: str, name: str) -> bool:
    """Forget one, so that the next run reads its default; False when there was none."""
    return bool(
        await connection.fetchval(
            "DELETE FROM nomaflow.watermarks WHERE job_name = $1 AND name = $2 RETURNING true",
            job,
            name,
        )
    )
