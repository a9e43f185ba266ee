"""Jobs and their revisions: what is declared, by file or by mutation, and what is in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow.store import waits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in force."""

    id: UUID
    name: str
    origin: str
    app: str
    tags: Sequence[str]
    description: str
    revision: int
    definition: Mapping[str, Any]
    declared_enabled: bool
    switched_on: bool
    enabled: bool
    source_file: str | None
    source_line: int | None
    paused_from: datetime | None
    paused_until: datetime | None
    created_at: datetime
    updated_at: datetime
    updated_by: str


COLUMNS = (
    "id, name, origin, app, tags, description, revision, definition, declared_enabled, "
    "switched_on, enabled, source_file, source_line, paused_from, paused_until, created_at, "
    "updated_at, updated_by"
)
IN_FORCE = "deleted_at IS NULL AND NOT shadowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A definition on its way in."""

    name: str
    origin: str
    app: str
    tags: Sequence[str]
    description: str
    definition: Mapping[str, Any]
    enabled: bool
    by: str
    source_file: str | None = None
    source_line: int | None = None
    any_env: bool = False
    """Whether whoever saves it may let it read any name of `.env`; kept with the revision."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What saving did: `changed` is False when the same definition was already there."""

    id: UUID
    revision: int
    changed: bool
    created: bool


async def find(
    connection: Connection | Database, name: str, *, lock: bool = False
) -> JobRow | None:
    """Answer the job in force under that name; `lock` keeps others from starting it meanwhile."""
    suffix = " FOR NO KEY UPDATE" if lock else ""
    row = await connection.fetchrow(
        f"SELECT {COLUMNS} FROM nomaflow.jobs WHERE name = $1 AND {IN_FORCE}{suffix}",
        name,
    )
    return JobRow(**row) if row else None


async def find_by_id(
    connection: Connection | Database,
    job_id: UUID,
    *,
    lock: bool = False,
    in_force: bool = True,
) -> JobRow | None:
    """Answer the job with that id, if it is in force (or at all, with `in_force` False)."""
    suffix = f" AND {IN_FORCE}" if in_force else ""
    suffix += " FOR NO KEY UPDATE" if lock else ""
    row = await connection.fetchrow(
        f"SELECT {COLUMNS} FROM nomaflow.jobs WHERE id = $1{suffix}",
        job_id,
    )
    return JobRow(**row) if row else None


async def names(connection: Connection | Database) -> list[str]:
    """Names of every job in force (for near-miss suggestions)."""
    rows = await connection.fetch(f"SELECT name FROM nomaflow.jobs WHERE {IN_FORCE}")
    return [r["name"] for r in rows]


async def definition(
    connection: Connection | Database, job_id: UUID, revision: int
) -> Mapping[str, Any] | None:
    """Answer the definition of one revision; it never changes, so callers may keep it."""
    found: Mapping[str, Any] | None = await connection.fetchval(
        "SELECT definition FROM nomaflow.job_revisions WHERE job_id = $1 AND revision = $2",
        job_id,
        revision,
    )
    return found


async def definitions_of(
    connection: Connection | Database, keys: Sequence[tuple[UUID, int]]
) -> dict[tuple[UUID, int], Mapping[str, Any]]:
    """Answer the definitions in force of these jobs, where they still are at that revision."""
    rows = await connection.fetch(
        """SELECT j.id, j.revision, j.definition FROM unnest($1::uuid[], $2::int[]) AS k (id, r)
           JOIN nomaflow.jobs j ON j.id = k.id AND j.revision = k.r""",
        [key[0] for key in keys],
        [key[1] for key in keys],
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def save(connection: Connection, job: Declared) -> Saved:
    """Write a definition; a new one becomes the next revision, the same one changes nothing.

    Runs inside the caller's transaction. A job deleted earlier comes back under its old id, so
    its history stays with it.
    """
    old = await connection.fetchrow(
        """SELECT id, revision, definition, deleted_at, declared_enabled FROM nomaflow.jobs
           WHERE name = $1 AND origin = $2 FOR NO KEY UPDATE""",
        job.name,
        job.origin,
    )
    if old is None:
        new_id = await connection.fetchval(
            """INSERT INTO nomaflow.jobs (name, origin, app, tags, description, definition,
                 declared_enabled, updated_by, source_file, source_line)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id""",
            *_columns(job),
        )
        await _keep_revision(connection, new_id, 1, job)
        return Saved(new_id, 1, changed=True, created=True)
    gone = old["deleted_at"] is not None
    if not gone and old["definition"] == job.definition:
        await connection.execute(
            "UPDATE nomaflow.jobs SET source_file = $2, source_line = $3 WHERE id = $1",
            old["id"],
            job.source_file,
            job.source_line,
        )
        if job.any_env:
            await connection.execute(
                "UPDATE nomaflow.job_revisions SET any_env = true "
                "WHERE job_id = $1 AND revision = $2",
                old["id"],
                old["revision"],
            )
        return Saved(old["id"], old["revision"], changed=False, created=False)
    revision = old["revision"] + 1
    await connection.execute(
        """UPDATE nomaflow.jobs SET app = $3, tags = $4, description = $5, definition = $6,
             declared_enabled = $7, updated_by = $8, source_file = $9, source_line = $10,
             revision = $11, updated_at = now(), deleted_at = NULL,
             switched_on = switched_on OR deleted_at IS NOT NULL
           WHERE name = $1 AND origin = $2""",
        *_columns(job),
        revision,
    )
    await _keep_revision(connection, old["id"], revision, job)
    await waits.wake_of_job(connection, old["id"])
    return Saved(old["id"], revision, changed=True, created=gone)


async def move(connection: Connection, places: Sequence[tuple[UUID, str, int]]) -> None:
    """Note where jobs that are as they were are declared now: file and line."""
    await connection.execute(
        """UPDATE nomaflow.jobs j SET source_file = k.file, source_line = k.line
           FROM unnest($1::uuid[], $2::text[], $3::int[]) AS k (id, file, line)
           WHERE j.id = k.id""",
        [place[0] for place in places],
        [place[1] for place in places],
        [place[2] for place in places],
    )


def _columns(job: Declared) -> tuple[Any, ...]:
    return (
        job.name,
        job.origin,
        job.app,
        list(job.tags),
        job.description,
        dict(job.definition),
        job.enabled,
        job.by,
        job.source_file,
        job.source_line,
    )


async def _keep_revision(
    connection: Connection, job_id: UUID, revision: int, job: Declared
) -> None:
    await connection.execute(
        """INSERT INTO nomaflow.job_revisions (job_id, revision, definition, by, any_env)
           VALUES ($1, $2, $3, $4, $5)""",
        job_id,
        revision,
        dict(job.definition),
        job.by,
        job.any_env,
    )


async def reads_any_env(connection: Connection, job: JobRow) -> bool:
    """Tell whether the definition in force may read any name of `.env`."""
    return bool(
        await connection.fetchval(
            "SELECT any_env FROM nomaflow.job_revisions WHERE job_id = $1 AND revision = $2",
            job.id,
            job.revision,
        )
    )


async def switch(connection: Connection, job_id: UUID, *, on: bool, by: str) -> None:
    """Turn the job's own switch; what its file declares is not touched."""
    await connection.execute(
        """UPDATE nomaflow.jobs SET switched_on = $2, updated_at = now(), updated_by = $3
           WHERE id = $1""",
        job_id,
        on,
        by,
    )


async def delete(connection: Connection, job_id: UUID, by: str) -> None:
    """Take the job out of force; its runs, revisions and schedules' slots stay (J16)."""
    await connection.execute(
        """UPDATE nomaflow.jobs SET deleted_at = now(), updated_at = now(), updated_by = $2
           WHERE id = $1""",
        job_id,
        by,
    )
    await connection.execute(
        """UPDATE nomaflow.schedules SET next_fire_at = NULL, look_at = NULL, retired_at = now()
           WHERE job_id = $1""",
        job_id,
    )


async def file_jobs(connection: Connection | Database) -> dict[str, JobRow]:
    """Jobs that files declare, by name."""
    rows = await connection.fetch(
        f"""SELECT {COLUMNS} FROM nomaflow.jobs
            WHERE origin = 'file' AND deleted_at IS NULL"""
    )
    return {r["name"]: JobRow(**r) for r in rows}


async def shadow(connection: Connection, names_in_files: Sequence[str]) -> list[str]:
    """Hide API jobs whose name a file now declares, show those it no longer does.

    Answers the hidden ones. Called before the files' jobs are saved, so that a name has one
    job in force at every moment.
    """
    rows = await connection.fetch(
        """UPDATE nomaflow.jobs SET shadowed = name = ANY ($1::text[])
           WHERE origin = 'api' AND deleted_at IS NULL
             AND shadowed IS DISTINCT FROM (name = ANY ($1::text[]))
           RETURNING id, name, shadowed""",
        list(names_in_files),
    )
    await connection.execute(
        """UPDATE nomaflow.schedules SET next_fire_at = NULL, look_at = NULL
           WHERE job_id = ANY ($1::uuid[])""",
        [r["id"] for r in rows if r["shadowed"]],
    )
    hidden = await connection.fetch(
        "SELECT name FROM nomaflow.jobs WHERE origin = 'api' AND shadowed AND deleted_at IS NULL"
    )
    return [r["name"] for r in hidden]
