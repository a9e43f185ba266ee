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
    """One clock of a job: due next at `next_fire_at`, looked at when its jitter is over."""

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
    catch_up: str = "none"
    catch_up_limit: int = 10
    catch_up_window_seconds: float | None = None
    jitter_seconds: float = 0.0
    calendar: str | None = None
    look_at: datetime | None = None
    warning: str | None = None

    @property
    def enabled(self) -> bool:
        """Declared enabled and switched on."""
        return self.declared_enabled and self.switched_on


COLUMNS = (
    "id, job_id, name, cron, every_seconds, timezone, params, declared_enabled, switched_on, "
    "fire_on_start, max_fires, preset, next_fire_at, last_fire_at, fire_count, catch_up, "
    "catch_up_limit, catch_up_window_seconds, jitter_seconds, calendar, look_at, warning"
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
    catch_up: str
    catch_up_limit: int
    catch_up_window_seconds: float | None
    jitter_seconds: float
    calendar: str | None
    next_fire_at: datetime | None
    look_at: datetime | None


async def of_job(connection: Connection | Database, job_id: UUID) -> list[ScheduleRow]:
    """The clocks a job has now, in the order of their names."""
    rows = await connection.fetch(
        f"""SELECT {COLUMNS} FROM nomaflow.schedules
            WHERE job_id = $1 AND retired_at IS NULL ORDER BY name""",
        job_id,
    )
    return [ScheduleRow(*r) for r in rows]


async def standing_still(connection: Connection | Database) -> set[UUID]:
    """Jobs with a clock that stopped because no due time could be worked out after its last one."""
    rows = await connection.fetch(
        """SELECT DISTINCT job_id FROM nomaflow.schedules
           WHERE next_fire_at IS NULL AND warning IS NOT NULL AND retired_at IS NULL"""
    )
    return {row["job_id"] for row in rows}


async def replace(connection: Connection, job_id: UUID, clocks: Sequence[DeclaredSchedule]) -> None:
    """Make these the clocks of the job; one that is gone is retired, and keeps its slots."""
    await connection.execute(
        """UPDATE nomaflow.schedules
           SET retired_at = now(), next_fire_at = NULL, look_at = NULL, warning = NULL
           WHERE job_id = $1 AND retired_at IS NULL AND NOT name = ANY ($2::text[])""",
        job_id,
        [c.name for c in clocks],
    )
    for clock in clocks:
        await connection.execute(
            """INSERT INTO nomaflow.schedules (job_id, name, cron, every_seconds, timezone, params,
                 declared_enabled, fire_on_start, max_fires, preset, catch_up, catch_up_limit,
                 catch_up_window_seconds, jitter_seconds, calendar, next_fire_at, look_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
               ON CONFLICT (job_id, name) DO UPDATE SET cron = $3, every_seconds = $4,
                 timezone = $5, params = $6, declared_enabled = $7, fire_on_start = $8,
                 max_fires = $9, preset = $10, catch_up = $11, catch_up_limit = $12,
                 catch_up_window_seconds = $13, jitter_seconds = $14, calendar = $15,
                 next_fire_at = $16, look_at = $17, retired_at = NULL, warning = NULL""",
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
            clock.catch_up,
            clock.catch_up_limit,
            clock.catch_up_window_seconds,
            clock.jitter_seconds,
            clock.calendar,
            clock.next_fire_at,
            clock.look_at,
        )


async def set_next(
    connection: Connection | Database,
    schedule_id: UUID,
    at: datetime | None,
    look_at: datetime | None = None,
) -> None:
    """Set when the clock fires next (None: never), looked at then or, with jitter, later."""
    await connection.execute(
        "UPDATE nomaflow.schedules SET next_fire_at = $2, look_at = $3 WHERE id = $1",
        schedule_id,
        at,
        look_at or at,
    )
