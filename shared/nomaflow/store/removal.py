"""Deletes the history of one job name, because someone asked for exactly that (Z11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nomaflow.store.database import Database

AT_A_TIME = 500


async def of_name(db: Database, name: str) -> int:
    """Delete all runs of that very name with all that is left of them; answers how many.

    A run in the hands of the engine, waiting or running, stays; an outside one goes as it is.
    """
    total = 0
    while True:
        tag = await db.execute(
            """DELETE FROM nomaflow.runs WHERE id = ANY (ARRAY(
                 SELECT id FROM nomaflow.runs
                 WHERE job_name = $1 AND (finished_at IS NOT NULL OR kind = 'external')
                 LIMIT $2))""",
            name,
            AT_A_TIME,
        )
        gone = int(tag.rpartition(" ")[2])
        total += gone
        if gone < AT_A_TIME:
            return total
