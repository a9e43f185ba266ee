"""How jobs stand for those that depend on them: how they last ended, whether they are at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow.clock.dependencies import Standing

if TYPE_CHECKING:
    from collections.abc import Collection

    from nomaflow.store.database import Connection, Database


async def of(connection: Connection | Database, names: Collection[str]) -> dict[str, Standing]:
    """Answer for each name.

    Dry runs, skipped ones and retries of failed batches do not count; outside runs do.
    """
    if not names:
        return {}
    rows = await connection.fetch(
        """SELECT n.name, e.status, e.finished_at, EXISTS (
             SELECT FROM nomaflow.jobs j JOIN nomaflow.runs r ON r.job_id = j.id
             WHERE j.name = n.name AND r.status IN ('queued', 'running')) AS in_flight
           FROM unnest($1::text[]) AS n (name)
           LEFT JOIN LATERAL (
             SELECT s.status, r.finished_at
             FROM unnest(ARRAY['succeeded', 'partial', 'failed', 'aborted']) AS s (status)
             CROSS JOIN LATERAL (
               SELECT finished_at FROM nomaflow.runs
               WHERE job_name = n.name AND status = s.status AND finished_at IS NOT NULL
                 AND NOT dry_run AND trigger <> 'retry'
               ORDER BY finished_at DESC LIMIT 1) AS r
             ORDER BY r.finished_at DESC LIMIT 1) AS e ON true""",
        sorted(names),
    )
    return {r["name"]: Standing(r["status"], r["finished_at"], r["in_flight"]) for r in rows}
