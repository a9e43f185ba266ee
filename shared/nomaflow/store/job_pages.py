"""Jobs in force as lists show them: by page of names, with the filters people use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow.store import jobs, keyset
from nomaflow.store.jobs import JobRow
from nomaflow.store.keyset import Page, Where, Window
from nomaflow.store.schedules import COLUMNS as SCHEDULE_COLUMNS
from nomaflow.store.schedules import ScheduleRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs; None does not narrow.

    `search` looks into name, description and tags. `last_status` is the status of the newest run.
    """

    name: str | None = None
    search: str | None = None
    app: str | None = None
    tags: Sequence[str] | None = None
    enabled: bool | None = None
    last_status: Sequence[str] | None = None


def _where(wanted: JobFilter) -> Where:
    where = Where()
    where.add(jobs.IN_FORCE)
    if wanted.name is not None:
        where.add("name = {}", wanted.name)
    if wanted.search is not None:
        text = "name || ' ' || description || ' ' || array_to_string(tags, ' ')"
        where.add(f"strpos(lower({text}), lower({{}})) > 0", wanted.search)
    if wanted.app is not None:
        where.add("app = {}", wanted.app)
    if wanted.tags is not None:
        where.add("tags && {}::text[]", list(wanted.tags))
    if wanted.enabled is not None:
        where.add("enabled = {}", wanted.enabled)
    if wanted.last_status is not None:
        where.add(
            """(SELECT r.status FROM nomaflow.runs r
                WHERE r.job_name = jobs.name AND r.job_id = jobs.id
                ORDER BY r.queued_at DESC, r.id DESC LIMIT 1) = ANY ({}::text[])""",
            list(wanted.last_status),
        )
    return where


async def page(db: Connection | Database, wanted: JobFilter, window: Window) -> Page[JobRow]:
    """Read one page in the order of names."""
    where = _where(wanted)
    tail = keyset.narrow(where, window, {"name": "text"}, descending=False)
    rows = await db.fetch(
        f"SELECT {jobs.COLUMNS} FROM nomaflow.jobs WHERE {where.sql} {tail}",
        *where.values,
    )
    return keyset.page([JobRow(*row) for row in rows], window)


async def count(db: Connection | Database, wanted: JobFilter) -> int:
    """Count the jobs of a list."""
    where = _where(wanted)
    found: int = await db.fetchval(
        f"SELECT count(*) FROM nomaflow.jobs WHERE {where.sql}",
        *where.values,
    )
    return found


async def by_id(db: Connection | Database, ids: Sequence[UUID]) -> dict[UUID, JobRow]:
    """Read jobs in force by id."""
    rows = await db.fetch(
        f"""SELECT {jobs.COLUMNS} FROM nomaflow.jobs
            WHERE id = ANY ($1::uuid[]) AND {jobs.IN_FORCE}""",
        list(ids),
    )
    return {row["id"]: JobRow(*row) for row in rows}


async def by_name(db: Connection | Database, names: Sequence[str]) -> dict[str, JobRow]:
    """Read jobs in force by name."""
    rows = await db.fetch(
        f"""SELECT {jobs.COLUMNS} FROM nomaflow.jobs
            WHERE name = ANY ($1::text[]) AND {jobs.IN_FORCE}""",
        list(names),
    )
    return {row["name"]: JobRow(*row) for row in rows}


async def clocks(
    db: Connection | Database, job_ids: Sequence[UUID]
) -> dict[UUID, list[ScheduleRow]]:
    """Read the clocks each job has now, in the order of their names."""
    rows = await db.fetch(
        f"""SELECT {SCHEDULE_COLUMNS} FROM nomaflow.schedules
            WHERE job_id = ANY ($1::uuid[]) AND retired_at IS NULL
            ORDER BY job_id, name""",
        list(job_ids),
    )
    found: dict[UUID, list[ScheduleRow]] = {job_id: [] for job_id in job_ids}
    for row in rows:
        found[row["job_id"]].append(ScheduleRow(*row))
    return found


@dataclass(frozen=True, slots=True)
class Outline:
    """What a forecast looks at of a job in force; the rest of its definition is not read."""

    id: UUID
    name: str
    revision: int
    tags: Sequence[str]
    paused_until: datetime | None
    depends_on: Sequence[str]
    stale_after_hours: float | None


async def outlines(
    db: Connection | Database, names: Sequence[str] | None = None
) -> dict[UUID, Outline]:
    """Read the outlines of every job in force, or of those named, in the order of names."""
    where = Where()
    where.add(jobs.IN_FORCE)
    if names is not None:
        where.add("name = ANY ({}::text[])", list(names))
    rows = await db.fetch(
        f"""SELECT id, name, revision, tags, paused_until, definition -> 'depends_on',
              definition -> 'alerts' -> 'stale_after_hours'
            FROM nomaflow.jobs WHERE {where.sql} ORDER BY name""",
        *where.values,
    )
    found: dict[UUID, Outline] = {}
    for job_id, name, revision, tags, paused_until, needs, hours in rows:
        depends_on = [_named(need) for need in needs or ()]
        found[job_id] = Outline(job_id, name, revision, tags, paused_until, depends_on, hours)
    return found


def _named(need: Any) -> str:
    return need if isinstance(need, str) else need["job"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells whether a job was changed: its revision and its last change of any kind."""

    name: str
    revision: int
    enabled: bool
    updated_at: datetime
    paused_until: datetime | None


async def marks(db: Connection | Database) -> dict[str, Mark]:
    """Read the marks of every job in force."""
    rows = await db.fetch(
        f"""SELECT name, revision, enabled, updated_at,
              CASE WHEN paused_until > clock_timestamp() THEN paused_until END
            FROM nomaflow.jobs WHERE {jobs.IN_FORCE}"""
    )
    return {row["name"]: Mark(*row) for row in rows}


async def definitions(db: Connection | Database) -> list[JobRow]:
    """Read every job in force."""
    rows = await db.fetch(
        f"SELECT {jobs.COLUMNS} FROM nomaflow.jobs WHERE {jobs.IN_FORCE} ORDER BY name"
    )
    return [JobRow(*row) for row in rows]
