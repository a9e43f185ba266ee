"""Runs: moved by one compare-and-set, asked to end, looked up by who must decide about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow.lifecycle import Held, RunStatus, StepState, StepStatus
from nomaflow.overlap import InFlight
from nomaflow.store import transitions
from nomaflow.store.transitions import Writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nomaflow.lifecycle import Move
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.transitions import Line, NewDelivery


async def apply(
    connection: Connection | Database,
    move: Move,
    lines: Sequence[Line] = (),
    deliveries: Sequence[NewDelivery] = (),
) -> int | None:
    """Write one move if the run is still where it was and the claim still ours.

    Lines come before the move's events in the run's order. Answers the number of the last event,
    or None when the race is lost; then nothing at all was written.
    """
    written = await transitions.write(
        connection, [Writing(move, lines, deliveries)], leave_locked=False
    )
    return written.get(0)


async def held(connection: Connection | Database, run_id: UUID) -> Held | None:
    """Read what `lifecycle` needs to decide about a run; None when there is no such run."""
    row = await connection.fetchrow("SELECT fence, status FROM nomaflow.runs WHERE id = $1", run_id)
    if row is None:
        return None
    return Held(
        run_id=run_id,
        fence=row["fence"],
        status=RunStatus(row["status"]),
        steps=await steps_of(connection, run_id),
    )


async def steps_of(connection: Connection | Database, run_id: UUID) -> tuple[StepState, ...]:
    """Read the links of a run in order."""
    rows = await connection.fetch(
        """SELECT position, name, status, attempt, tries, interruptions, reason
           FROM nomaflow.step_runs WHERE run_id = $1 ORDER BY position""",
        run_id,
    )
    return tuple(
        StepState(
            r["position"],
            r["name"],
            StepStatus(r["status"]),
            r["attempt"],
            r["tries"],
            r["interruptions"],
            r["reason"],
        )
        for r in rows
    )


@dataclass(frozen=True, slots=True)
class AbortAsked:
    """Who was the first to ask for a run's end and why, and where the run was at that moment."""

    status: RunStatus
    orphaned: bool
    """True when it runs and no worker of ours is on it: a lease ran out, or it runs elsewhere."""
    by: str
    reason: str | None


async def request_abort(
    connection: Connection | Database, run_id: UUID, by: str, reason: str | None
) -> AbortAsked | None:
    """Write down that someone wants this run's end; None when it is over, or unknown.

    Whoever owns the run, or claims it next, ends it.
    """
    row = await connection.fetchrow(
        """UPDATE nomaflow.runs SET
             abort_requested_at = coalesce(abort_requested_at, now()),
             abort_requested_by = coalesce(abort_requested_by, $2),
             abort_reason =
               CASE WHEN abort_requested_at IS NULL THEN $3 ELSE abort_reason END
           WHERE id = $1 AND status IN ('queued', 'running')
           RETURNING status,
             coalesce(lease_expires_at < clock_timestamp(), kind = 'external') AS orphaned,
             abort_requested_by, abort_reason""",
        run_id,
        by,
        reason,
    )
    return AbortAsked(RunStatus(row[0]), *row[1:]) if row else None


async def in_flight(connection: Connection | Database, job_id: UUID) -> list[InFlight]:
    """Answer the queued and running runs of that job, the oldest first."""
    rows = await connection.fetch(
        """SELECT id, status = 'running' AS running, started_at IS NOT NULL AS started
           FROM nomaflow.runs WHERE job_id = $1 AND status IN ('queued', 'running')
           ORDER BY queued_at, id""",
        job_id,
    )
    return [InFlight(r["id"], running=r["running"], started=r["started"]) for r in rows]


async def in_flight_of(
    connection: Connection | Database, job_ids: Sequence[UUID]
) -> dict[UUID, list[InFlight]]:
    """Answer the queued and running runs of many jobs, each job's oldest first."""
    rows = await connection.fetch(
        """SELECT job_id, id, status = 'running' AS running, started_at IS NOT NULL AS started
           FROM nomaflow.runs WHERE job_id = ANY ($1::uuid[]) AND status IN ('queued', 'running')
           ORDER BY queued_at, id""",
        list(job_ids),
    )
    found: dict[UUID, list[InFlight]] = {}
    for r in rows:
        one = InFlight(r["id"], running=r["running"], started=r["started"])
        found.setdefault(r["job_id"], []).append(one)
    return found


async def take_turns(connection: Connection, run_ids: Sequence[UUID]) -> None:
    """Let runs in flight hold their job's turn, so that serial ones wait for them."""
    await connection.execute(
        "UPDATE nomaflow.runs SET serial = true WHERE id = ANY ($1::uuid[]) AND NOT serial",
        list(run_ids),
    )


async def waiting_long(database: Database, seconds: float) -> Sequence[UUID]:
    """Runs that have waited for longer than that, so their doorbell may have been lost."""
    rows = await database.fetch(
        """SELECT id FROM nomaflow.runs
           WHERE status = 'queued' AND queued_at < now() - make_interval(secs => $1)
             AND (not_before IS NULL OR not_before < now()) LIMIT 1000""",
        seconds,
    )
    return [r["id"] for r in rows]
