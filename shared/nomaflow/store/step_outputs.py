"""What links of a run put out, for those that come after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


async def of_run(connection: Connection | Database, run_id: UUID) -> dict[str, Any]:
    """Outputs of earlier links by step name: whole, as later links read them, and in brief.

    A run that was taken over, handed back or resumed reads them here.
    """
    rows = await connection.fetch(
        """SELECT s.name, coalesce(o.output, s.output) AS output, o.output AS whole,
             s.output AS brief, s.status, s.rows_affected
           FROM nomaflow.step_runs s
           LEFT JOIN nomaflow.step_outputs o USING (run_id, position)
           WHERE s.run_id = $1 AND (s.status IN ('succeeded', 'failed')
             OR s.status = 'skipped' AND s.output IS NOT NULL)  -- kept from an earlier run
           ORDER BY s.position""",
        run_id,
    )
    return {
        r["name"]: {
            "status": r["status"],
            "output": r["output"] or {},
            "whole": r["whole"],
            "brief": r["brief"],
            "rows_affected": r["rows_affected"],
        }
        for r in rows
    }
