"""Where a step goes on when it is run again: kept under the claim, with what it could not write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from nomaflow.store.database import Connection, Database
    from nomaflow.store.failed_batches import NewFailedBatch


async def read(
    connection: Connection | Database, run_id: UUID, position: int
) -> Mapping[str, Any] | None:
    """Read how far earlier tries of this step have come; None when none got anywhere."""
    found: Mapping[str, Any] | None = await connection.fetchval(
        "SELECT checkpoint FROM nomaflow.step_runs WHERE run_id = $1 AND position = $2",
        run_id,
        position,
    )
    return found


_WRITE = """
WITH step AS (
  UPDATE nomaflow.step_runs s SET checkpoint = $4
  FROM nomaflow.runs r
  WHERE r.id = $1 AND r.fence = $2 AND r.status = 'running'
    AND s.run_id = r.id AND s.position = $3
  RETURNING s.run_id, s.position, s.name, r.job_name
), batches AS (
  INSERT INTO nomaflow.failed_batches
    (run_id, job_name, position, step, page, batch, items, payload, request, masked, error)
  SELECT step.run_id, step.job_name, step.position, step.name,
    b.page, b.batch, b.items, b.payload, b.request, b.masked, b.error
  FROM step, jsonb_to_recordset($5::jsonb) AS b
    (page int, batch int, items int, payload jsonb, request jsonb, masked boolean, error text)
  ON CONFLICT (run_id, position, batch) DO UPDATE SET page = excluded.page,
    items = excluded.items, payload = excluded.payload, request = excluded.request,
    masked = excluded.masked, error = excluded.error
)
SELECT true FROM step"""


async def write(
    connection: Connection | Database,
    run_id: UUID,
    fence: int,
    position: int,
    state: Mapping[str, Any] | None,
    failed: Sequence[NewFailedBatch] = (),
) -> bool:
    """Keep how far the step has come and the batches that failed on the way; one statement.

    False when the claim is lost: then nothing was written.
    """
    return bool(
        await connection.fetchval(
            _WRITE,
            run_id,
            fence,
            position,
            None if state is None else dict(state),
            [
                {
                    "page": batch.page,
                    "batch": batch.batch,
                    "items": len(batch.payload),
                    "payload": list(batch.payload),
                    "request": batch.request,
                    "masked": batch.masked,
                    "error": batch.error,
                }
                for batch in failed
            ],
        )
    )


async def begin_anew(
    connection: Connection | Database, run_id: UUID, fence: int, position: int
) -> bool:
    """Forget what earlier tries of this step kept: it begins at the beginning.

    False when the claim is lost.
    """
    return bool(
        await connection.fetchval(
            """WITH step AS (
                 UPDATE nomaflow.step_runs s SET checkpoint = NULL FROM nomaflow.runs r
                 WHERE r.id = $1 AND r.fence = $2 AND r.status = 'running'
                   AND s.run_id = r.id AND s.position = $3
                 RETURNING s.run_id, s.position
               ), gone AS (
                 DELETE FROM nomaflow.failed_batches f USING step
                 WHERE f.run_id = step.run_id AND f.position = step.position
               )
               SELECT true FROM step""",
            run_id,
            fence,
            position,
        )
    )
