"""Due times that wait for other jobs: woken when one of those begins or ends, found by an index.

What is told of one run comes by the doorbell, which may be lost. The net looks at what has ended
since it looked last, so that neither costs more when more due times wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database

_ANY = "EXISTS (SELECT FROM nomaflow.slots WHERE outcome = 'waiting')"
# A due time that is being decided just now is left alone: the net looks at it again.
_WAKE = """
), found AS (
  SELECT t.schedule_id, t.due_at FROM news n
  JOIN nomaflow.slots t ON t.outcome = 'waiting' AND t.waits_for ? n.job_name
    AND t.at < n.at AND t.look_at > now()
  FOR UPDATE OF t SKIP LOCKED
), woken AS (
  UPDATE nomaflow.slots t SET look_at = now() FROM found f
  WHERE t.schedule_id = f.schedule_id AND t.due_at = f.due_at AND t.outcome = 'waiting'
  RETURNING 1
)
SELECT count(*)::int, now() FROM woken"""


async def wake_for(db: Connection | Database, run_ids: Collection[UUID]) -> int:
    """Let what waits for the jobs of these runs be looked at now; answers how many due times."""
    woken: int = await db.fetchval(
        f"""WITH news AS MATERIALIZED (
              SELECT DISTINCT job_name, now() AS at FROM nomaflow.runs
              WHERE id = ANY ($1::uuid[]) AND {_ANY}
            {_WAKE}""",
        list(run_ids),
    )
    return woken


@dataclass(frozen=True, slots=True)
class Woken:
    """How many due times were woken, and when by the database's clock."""

    count: int
    at: datetime


async def wake_since(db: Connection | Database, since: datetime | None) -> Woken:
    """Do so for all runs that have ended since then (None: since anything waits).

    Ends that were written a little before are looked at too: what was decided while they were being
    written may not have seen them.
    """
    row = await db.fetchrow(
        f"""WITH news AS MATERIALIZED (
              SELECT job_name, max(finished_at) + interval '2 seconds' AS at FROM nomaflow.runs
              WHERE {_ANY} AND finished_at > interval '-5 seconds' + coalesce(
                $1, (SELECT min(at) FROM nomaflow.slots WHERE outcome = 'waiting'))
              GROUP BY job_name
            {_WAKE}""",
        since,
    )
    assert row is not None  # noqa: S101  an aggregate has one row
    return Woken(*row)


async def wake_of_job(connection: Connection, job_id: UUID) -> None:
    """Let the waiting due times of a job itself be looked at now: it was edited."""
    await connection.execute(
        """UPDATE nomaflow.slots t SET look_at = now() FROM nomaflow.schedules s
           WHERE s.id = t.schedule_id AND s.job_id = $1 AND t.look_at > now()
             AND t.outcome = 'waiting'""",
        job_id,
    )
