"""Installations as they stand: jobs with an install step, and the runs that one installation began.

An installation is nothing but its runs: each carries its key, which names the installation. So
there is no state beside history that could be lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow.store.jobs import IN_FORCE

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.store.database import Connection, Database

PREFIX = "nomaflow-install:"
_LOCK = 7266305


@dataclass(frozen=True, slots=True)
class InstallJob:
    """A job with an install step, and whether any run of it ever succeeded."""

    name: str
    step: int
    succeeded: bool


@dataclass(frozen=True, slots=True)
class InstallRun:
    """A run that an installation began, and who is behind it."""

    job: str
    run_id: UUID
    status: str
    trigger: str
    triggered_by: str
    principal: str


async def alone(connection: Connection) -> None:
    """Let nobody else begin an installation until this transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def jobs(db: Connection | Database) -> list[InstallJob]:
    """Read the jobs of an installation in their order: by step, then by name."""
    rows = await db.fetch(
        f"""SELECT name, (definition ->> 'install_step')::int AS step,
              EXISTS (SELECT FROM nomaflow.runs r WHERE r.job_name = jobs.name
                AND r.status = 'succeeded' AND NOT r.dry_run) AS succeeded
            FROM nomaflow.jobs WHERE {IN_FORCE} AND definition ->> 'install_step' IS NOT NULL
            ORDER BY 2, 1"""
    )
    return [InstallJob(*row) for row in rows]


async def newest_key(db: Connection | Database, days: int) -> str | None:
    """Read the key of the installation that began a run last, if one did lately."""
    key: str | None = await db.fetchval(
        f"""SELECT r.idempotency_key FROM nomaflow.jobs CROSS JOIN LATERAL (
              SELECT idempotency_key, queued_at FROM nomaflow.runs
              WHERE job_name = jobs.name AND starts_with(idempotency_key, $1)
                AND queued_at > now() - make_interval(days => $2)
              ORDER BY queued_at DESC LIMIT 1) AS r
            WHERE {IN_FORCE} AND definition ->> 'install_step' IS NOT NULL
            ORDER BY r.queued_at DESC LIMIT 1""",
        PREFIX,
        days,
    )
    return key


async def runs(db: Connection | Database, key: str) -> list[InstallRun]:
    """Read the runs of one installation in the order in which they began."""
    rows = await db.fetch(
        """SELECT job_name, id, status, trigger, triggered_by, principal FROM nomaflow.runs
           WHERE idempotency_key = $1 ORDER BY queued_at, id""",
        key,
    )
    return [InstallRun(*row) for row in rows]
