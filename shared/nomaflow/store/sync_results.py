"""What the syncs of a run did, added up from what their steps told, or kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from nomaflow.store.database import Connection, Database

SYNCING = ("http_sync",)
COUNTS = ("records", "pages", "batches", "inserted", "updated", "failed_batches")


async def of_runs(
    db: Connection | Database, run_ids: Sequence[UUID]
) -> dict[UUID, Mapping[str, Any]]:
    """Read the result of each run that has a sync which ended, well or not.

    A sync that was aborted or whose worker died told nothing: what counts then is the checkpoint
    of its last whole page, also beside what an earlier try of it told.
    """
    rows = await db.fetch(
        """SELECT run_id, jsonb_agg(figures ORDER BY position) AS outputs
           FROM nomaflow.step_runs
           CROSS JOIN LATERAL (SELECT
             CASE WHEN output ? 'records' AND output ? 'duration_seconds' THEN output END AS told,
             CASE WHEN finished_at IS NOT NULL AND checkpoint ? 'records' THEN checkpoint
               || jsonb_build_object('failed_batches', checkpoint -> 'failed',
                 'duration_seconds', checkpoint -> 'seconds') END AS kept) AS known
           CROSS JOIN LATERAL (SELECT CASE
             WHEN told IS NULL OR (kept ->> 'records')::bigint > (told ->> 'records')::bigint
             THEN coalesce(kept, told) ELSE told END AS figures) AS chosen
           WHERE run_id = ANY ($1::uuid[]) AND type = ANY ($2::text[]) AND figures IS NOT NULL
           GROUP BY run_id""",
        list(run_ids),
        list(SYNCING),
    )
    return {row["run_id"]: _added(row["outputs"]) for row in rows}


def _added(outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {name: sum(o.get(name) or 0 for o in outputs) for name in COUNTS}
    errors = [o["errors"] for o in outputs if o.get("errors")]
    # An output too big for history holds a note of its errors instead of the list.
    total["errors"] = [error for part in errors for error in _listed(part)]
    total["duration_seconds"] = sum(float(o["duration_seconds"]) for o in outputs)
    ends = [o["completed_at"] for o in outputs if o.get("completed_at")]
    total["completed_at"] = max(ends) if len(ends) == len(outputs) else None
    return total


def _listed(part: Any) -> list[Any]:
    return part if isinstance(part, list) else list(part.get("preview") or [])
