"""Leases: how long a worker holds what it claimed, and who wants which of its runs ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease that holds on, and whether someone asked to abort the run meanwhile."""

    run_id: UUID
    fence: int
    abort_requested_by: str | None
    abort_reason: str | None


async def renew(
    connection: Connection | Database, owner: str, held: Mapping[UUID, int], lease_seconds: float
) -> list[Renewed]:
    """Prolong these leases of a worker in one statement; a run not in the answer is lost.

    Only what the worker says it is at: a run that it gave up, or whose claim it never heard of,
    must run out and go to another.
    """
    rows = await connection.fetch(
        """UPDATE nomaflow.runs r
           SET lease_expires_at = clock_timestamp() + make_interval(secs => $4)
           FROM unnest($2::uuid[], $3::bigint[]) AS h (id, fence)
           WHERE r.id = h.id AND r.fence = h.fence AND r.status = 'running' AND lease_owner = $1
           RETURNING r.id, r.fence, r.abort_requested_by, r.abort_reason""",
        owner,
        list(held),
        list(held.values()),
        lease_seconds,
    )
    return [Renewed(*row) for row in rows]


async def abort_requests(connection: Connection | Database, owner: str) -> list[Renewed]:
    """Runs of this worker that someone asked to abort."""
    rows = await connection.fetch(
        """SELECT id, fence, abort_requested_by, abort_reason FROM nomaflow.runs
           WHERE status = 'running' AND lease_owner = $1 AND abort_requested_at IS NOT NULL""",
        owner,
    )
    return [Renewed(*row) for row in rows]
