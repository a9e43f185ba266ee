"""Schedules: each job's clocks, with the one indexed column that a tick looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One clock of a job."""

    id: UUID
    job_id: UUID
    name: str
    cron: str | None
    every_seconds: float | None
    timezone: str
    params: Mapping[str, Any]
    declared_enabled: bool
    switched_on: bool
    fire_on_start: bool
    max_fires: int
    preset: str | None
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    fire_count: int

    @property
    def enabled(self) -> bool:
        """Declared enabled and switched on."""
        return self.declared_enabled and self.switched_on


COLUMNS = (
    "id, job_id, name, cron, every_seconds, timezone, params, declared_enabled, switched_on, "
    "fire_on_start, max_fires, preset, next_fire_at, last_fire_at, fire_count"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSchedule:
    """A clock on its way in, with the next fire its owner worked out."""

    name: str
    cron: str | None
    every_seconds: float | None
    timezone: str
    params: Mapping[str, Any]
    enabled: bool
    fire_on_start: bool
    max_fires: int
    preset: str | None
    next_fire_at: datetime | None


async def of_job(connection: Connection | Database, job_id: UUID) -> list[ScheduleRow]:
    """The clocks a job has now, in the order of their names."""
    rows = await connection.fetch(
        f"""SELECT {COLUMNS} FROM nomaflow.schedules
            WHERE job_id = $1 AND retired_at IS NULL ORDER BY name""",
        job_id,
    )
    return [ScheduleRow(**r) for r in rows]


async def replace(connection: Connection, job_id: UUID, clocks: Sequence[DeclaredSchedule]) -> None:
    """Make these the clocks of the job; one that is gone is retired, and keeps its slots."""
    await connection.execute(
        """UPDATE nomaflow.schedules SET retired_at = now(), next_fire_at = NULL, look_at = NULL
           WHERE job_id = $1 AND retired_at IS NULL AND NOT name = ANY ($2::text[])""",
        job_id,
        [c.name for c in clocks],
    )
    for clock in clocks:
        await connection.execute(
            """INSERT INTO nomaflow.schedules (job_id, name, cron, every_seconds, timezone, params,
                 declared_enabled, fire_on_start, max_fires, preset, next_fire_at, look_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
               ON CONFLICT (job_id, name) DO UPDATE SET cron = $3, every_seconds = $4,
                 timezone = $5, params = $6, declared_enabled = $7, fire_on_start = $8,
                 max_fires = $9, preset = $10, next_fire_at = $11, look_at = $11,
                 retired_at = NULL""",
            job_id,
            clock.name,
            clock.cron,
            clock.every_seconds,
            clock.timezone,
            dict(clock.params),
            clock.enabled,
            clock.fire_on_start,
            clock.max_fires,
            clock.preset,
            clock.next_fire_at,
        )


async def set_next(
    connection: Connection | Database, schedule_id: UUID, at: datetime | None
) -> None:
    """Set when the clock fires next (None: never)."""
    await connection.execute(
        "UPDATE nomaflow.schedules SET next_fire_at = $2, look_at = $2 WHERE id = $1",
        schedule_id,
        at,
    )


@dataclass(frozen=True, slots=True)
class Due:
    """A clock whose time has come, with the job it belongs to."""

    schedule: ScheduleRow
    job_name: str
    now: datetime
    """The database's clock when it was read."""


async def due(connection: Connection | Database, at: datetime | None, limit: int) -> list[Due]:
    """Clocks due at `at` (None: now by the database's clock), the most overdue first."""
    columns = ", ".join(f"s.{c}" for c in COLUMNS.split(", "))
    rows = await connection.fetch(
        f"""SELECT {columns}, j.name AS job_name, now() AS moment
            FROM nomaflow.schedules s JOIN nomaflow.jobs j ON j.id = s.job_id
            WHERE s.look_at <= coalesce($1, now())
            ORDER BY s.look_at LIMIT $2""",
        at,
        limit,
    )
    return [
        Due(
            ScheduleRow(**{k: v for k, v in r.items() if k not in {"job_name", "moment"}}),
            r["job_name"],
            r["moment"],
        )
        for r in rows
    ]


async def seconds_to_next(connection: Connection | Database) -> float | None:
    """Seconds until the next clock is due, by the database's clock; None when none is set."""
    seconds: float | None = await connection.fetchval(
        """SELECT extract(epoch FROM min(look_at) - clock_timestamp())::float8
           FROM nomaflow.schedules WHERE look_at IS NOT NULL"""
    )
    return seconds


async def take_slot(
    connection: Connection,
    schedule_id: UUID,
    due_at: datetime,
    outcome: str,
    reason: str | None = None,
    run_id: UUID | None = None,
) -> bool:
    """Record what became of one due time; False when it is recorded already (someone fired it)."""
    return bool(
        await connection.fetchval(
            """INSERT INTO nomaflow.slots (schedule_id, due_at, outcome, reason, run_id)
               VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (schedule_id, due_at) DO NOTHING RETURNING true""",
            schedule_id,
            due_at,
            outcome,
            reason,
            run_id,
        )
    )


async def fill_slot(
    connection: Connection,
    schedule_id: UUID,
    due_at: datetime,
    outcome: str,
    reason: str | None,
    run_id: UUID,
) -> None:
    """Say of a slot just taken which run it became."""
    await connection.execute(
        """UPDATE nomaflow.slots SET outcome = $3, reason = $4, run_id = $5
           WHERE schedule_id = $1 AND due_at = $2""",
        schedule_id,
        due_at,
        outcome,
        reason,
        run_id,
    )


async def fired(
    connection: Connection,
    schedule_id: UUID,
    due_at: datetime,
    next_fire_at: datetime | None,
    *,
    counts: bool = True,
) -> None:
    """Advance the clock past `due_at`, unless someone already has."""
    await connection.execute(
        """UPDATE nomaflow.schedules SET next_fire_at = $3, look_at = $3, last_fire_at = $2,
             fire_count = fire_count + $4
           WHERE id = $1 AND next_fire_at <= $2""",
        schedule_id,
        due_at,
        next_fire_at,
        int(counts),
    )
