"""What the syncs of a run did, added up from the outputs of their steps."""

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
    """Read the result of each run that has a sync which ended, well or not."""
    rows = await db.fetch(
        """SELECT run_id, jsonb_agg(output ORDER BY position) AS outputs FROM nomaflow.step_runs
           WHERE run_id = ANY ($1::uuid[]) AND type = ANY ($2::text[]) AND output ? 'records'
             AND output ? 'duration_seconds'
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
    total["completed_at"] = max((o["completed_at"] for o in outputs), default=None)
    return total


def _listed(part: Any) -> list[Any]:
    return part if isinstance(part, list) else list(part.get("preview") or [])
