"""What queued runs wait for, by the rules of the claim: a moment, a turn, a lock, a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow.store.processes import ALIVE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class Waits:
    """All that keeps one queued run from running just now, and `at`, the database's time."""

    id: UUID
    at: datetime
    kind: str
    tag: str
    not_before: datetime | None
    """Set while that moment is still to come."""
    retry: str | None
    """The words of the step that waits for another try: `attempt 2 of 3 in 60 s`."""
    turn: UUID | None
    """The run of the same job that goes first."""
    lock: str | None
    holder: UUID | None
    holder_job: str | None
    served: bool
    """True when a worker is alive that takes runs with this tag."""


# As `claims` decides: who has started once needs no turn and no lock any more. Where nobody of
# the job has started, the first in line goes first.
_WAITS = """
WITH waiting AS (
  SELECT * FROM nomaflow.runs WHERE id = ANY ($1::uuid[]) AND status = 'queued'
), first AS (
  SELECT DISTINCT ON (h.job_id) h.job_id, h.id
  FROM nomaflow.runs h
  WHERE h.serial AND h.status IN ('queued', 'running')
    AND h.job_id IN (SELECT job_id FROM waiting WHERE serial AND started_at IS NULL)
  ORDER BY h.job_id, h.started_at IS NULL, h.priority DESC, h.queued_at, h.id
)
SELECT w.id, now() AS at, w.kind, w.worker_tag AS tag,
  CASE WHEN w.not_before > now() THEN w.not_before END AS not_before,
  (SELECT s.reason FROM nomaflow.step_runs s
   WHERE s.run_id = w.id AND s.status = 'retrying' ORDER BY s.position LIMIT 1) AS retry,
  first.id AS turn, w.lock, holder.id AS holder, holder.job_name AS holder_job,
  EXISTS (SELECT FROM nomaflow.processes p
    WHERE p.kind = 'worker' AND p.state <> 'draining'
      AND p.seen_at > now() - make_interval(secs => $2)
      AND p.details -> 'tags' ? w.worker_tag) AS served
FROM waiting w
LEFT JOIN first ON first.job_id = w.job_id AND first.id <> w.id
  AND w.serial AND w.started_at IS NULL
LEFT JOIN nomaflow.runs holder ON holder.lock = w.lock AND w.started_at IS NULL
  AND holder.started_at IS NOT NULL AND holder.finished_at IS NULL"""


async def of_runs(db: Connection | Database, ids: Sequence[UUID]) -> dict[UUID, Waits]:
    """Read what those of the runs that are queued wait for; one statement for all of them."""
    rows = await db.fetch(_WAITS, list(ids), float(ALIVE_SECONDS))
    return {row["id"]: Waits(*row) for row in rows}
