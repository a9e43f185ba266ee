"""What is declared becomes what is in force: files are synced, mutations saved, by one validator.

One bad job never takes the catalogue down: it is reported with file, line and path, and its last
good revision stays in force until the file is mended (J12).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import clocks, declarations, env_names, named_connectors, relations, upstream
from nomaflow.in_force.connector_changes import hidden_connectors
from nomaflow.in_force.env_names import EnvReach
from nomaflow.job.spec import JobSpec
from nomaflow.store import job_pages, jobs, problems, schedules

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.project.folder import Project
    from nomaflow.project.jobs import FileJob
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.jobs import JobRow

log = structlog.get_logger(__name__)

BY_FILE = "file"
_LOCK = 7266303
_UNSAID = EnvReach()


@dataclass(frozen=True, slots=True)
class Synced:
    """What bringing the files into the database did."""

    changed: list[str]
    removed: list[str]
    problems: int


async def sync(db: Database, bell: Bell, project: Project, *, timezone: str = "UTC") -> Synced:
    """Bring the project's job files into the database; the same files twice change nothing.

    Safe from several programs at once. `timezone` is the zone of a schedule that names none.
    """
    changed: list[str] = []
    async with db.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        # Read under the lock: what another program read before must not come after it.
        found = await asyncio.to_thread(project.read_jobs, timezone)
        trouble = [*found.problems, *project.other_problems()]
        before = await jobs.file_jobs(connection)
        kept = {
            name
            for name, job in before.items()
            if name in found.bad_jobs or job.source_file in found.unreadable_files
        }
        declared = {job.spec.name: job for job in found.jobs}
        in_force = await job_pages.definitions(connection)
        circular = [
            *relations.calling_circles(in_force, declared, kept),
            *upstream.depending_circles(in_force, declared, kept),
        ]
        for row in circular:
            declared.pop(row.path[1], None)
            kept |= {row.path[1]} & before.keys()
        looked_at = [
            *declarations.of_files(declared.values()),
            *declarations.of_api(in_force),
        ]
        absent = await asyncio.to_thread(
            lambda: list(relations.missing_functions(project.plugins, looked_at))
        )
        absent += relations.broken_packages()
        absent += await named_connectors.missing(connection, project.connectors(), looked_at)
        told = {*found.bad_jobs, *(row.path[1] for row in circular)}
        absent += await relations.missing_jobs(connection, declared, told)
        calendars = project.calendars()
        await upstream.keep_calendars(connection, calendars)
        absent += await upstream.missing(connection, declared, calendars)
        absent += await upstream.missing_of_api(connection, in_force, [*declared, *told])
        hidden = await jobs.shadow(connection, [*declared, *kept])
        changed += await _save_files(connection, declared, before)
        removed = [n for n in before if n not in declared and n not in kept]
        for name in removed:
            await jobs.delete(connection, before[name].id, BY_FILE)
        rows = [problems.ProblemRow(p.file, p.line, tuple(p.path), p.message) for p in trouble]
        rows += await hidden_connectors(connection, project)
        rows += [*circular, *absent, *(_shadowed(name, declared, before) for name in hidden)]
        new = await problems.replace(connection, rows)
    for name in [*changed, *removed]:
        bell.catalog(name)
    for row in new:
        log.warning("problem in a file", file=row.file, line=row.line, problem=row.message)
    if changed or removed:
        log.info("jobs loaded from files", changed=changed, removed=removed)
    return Synced(changed, removed, len(rows))


async def _save_files(
    connection: Connection, declared: Mapping[str, FileJob], before: Mapping[str, JobRow]
) -> list[str]:
    """Save the jobs that are not yet in force as the files say; answers the changed ones.

    The others are left alone and not even locked: whoever edits one job of thousands must not
    hold up the clocks of the rest.
    """
    changed: list[str] = []
    moved: list[tuple[UUID, str, int]] = []
    still = await schedules.standing_still(connection)
    as_declared = await asyncio.to_thread(
        lambda: {
            name: _declared(job.spec, "file", BY_FILE, file=job.file, line=job.line)
            for name, job in declared.items()
        }
    )
    for name, wanted in as_declared.items():
        there, job = before.get(name), declared[name]
        if there is None or there.definition != wanted.definition or there.id in still:
            saved = await jobs.save(connection, wanted)
            changed += [name] if saved.changed else []
            await clocks.set_for(connection, saved.id, job.spec)
        elif (there.source_file, there.source_line) != (job.file, job.line):
            moved.append((there.id, job.file, job.line))
    await jobs.move(connection, moved)
    return changed


async def watch(db: Database, bell: Bell, project: Project, *, timezone: str = "UTC") -> None:
    """Sync now and whenever a file of the project changes; runs until cancelled."""
    pause = 1.0
    while True:
        try:
            changes = project.changes()  # before the files are read, so that none is missed
            await sync(db, bell, project, timezone=timezone)
            async for _ in changes:
                await sync(db, bell, project, timezone=timezone)
        except Exception as error:  # noqa: BLE001  the database may be away; the files will not
            log.warning("jobs were not loaded; trying again", error=str(error), seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30.0)


async def create(
    db: Database,
    bell: Bell,
    raw: Mapping[str, Any],
    *,
    by: str,
    timezone: str = "UTC",
    env: EnvReach = _UNSAID,
) -> JobRow:
    """Declare a new job through the API. ALREADY_EXISTS, or SpecErrors with paths."""
    spec = JobSpec.parse(raw, timezone=timezone)
    env_names.refuse(spec, env)
    async with db.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        there = await jobs.find(connection, spec.name)
        if there is not None:
            where = f" in {there.source_file}" if there.source_file else ""
            raise NomaflowError(
                Code.ALREADY_EXISTS,
                f"there already is a job `{spec.name}`{where}; choose another name or update it",
                ("name",),
            )
        job = await _save(connection, spec, by, any_env=env.any_name)
    bell.catalog(spec.name)
    return job


async def update(
    db: Database,
    bell: Bell,
    raw: Mapping[str, Any],
    *,
    by: str,
    expected_revision: int | None = None,
    timezone: str = "UTC",
    env: EnvReach = _UNSAID,
) -> JobRow:
    """Replace the whole definition of an API job; runs in flight keep theirs (J15)."""
    spec = JobSpec.parse(raw, timezone=timezone)
    env_names.refuse(spec, env)
    async with db.transaction() as connection:
        old = await _own(connection, spec.name, "change it there")
        if expected_revision is not None and expected_revision != old.revision:
            raise NomaflowError(
                Code.CONFLICT,
                f"job `{spec.name}` is at revision {old.revision}, not {expected_revision}: "
                "someone changed it meanwhile; read it again and repeat your change",
                ("expectedRevision",),
            )
        job = await _save(connection, spec, by, any_env=env.any_name)
    bell.catalog(spec.name)
    return job


async def delete(db: Database, bell: Bell, name: str, *, by: str) -> None:
    """Take an API job out of force; its history stays (J16)."""
    async with db.transaction() as connection:
        job = await _own(connection, name, "delete it there")
        await jobs.delete(connection, job.id, by)
    bell.catalog(name)


async def enable(db: Database, bell: Bell, name: str, *, enabled: bool, by: str) -> JobRow:
    """Switch a job's clocks on or off; allowed for file jobs too, and kept over reloads (J14)."""
    async with db.transaction() as connection:
        job = await _found(connection, name)
        if enabled and not job.declared_enabled and job.origin == "file":
            raise NomaflowError(
                Code.CONFLICT,
                f"job `{name}` says `enabled = false` in {job.source_file}; the file wins, so "
                "change it there",
                ("name",),
            )
        if job.origin == "api" and not job.declared_enabled and enabled:
            spec = JobSpec.parse({**job.definition, "enabled": True})
            any_env = await jobs.reads_any_env(connection, job)
            job = await _save(connection, spec, by, any_env=any_env)
        await jobs.switch(connection, job.id, on=enabled, by=by)
        spec = JobSpec.restore(job.definition)
        await clocks.set_for(connection, job.id, spec)
        job = await _found(connection, name)
    bell.catalog(name)
    return job


async def _save(connection: Connection, spec: JobSpec, by: str, *, any_env: bool) -> JobRow:
    await relations.refuse_circle(connection, spec)
    await upstream.refuse(connection, spec)
    saved = await jobs.save(connection, replace(_declared(spec, "api", by), any_env=any_env))
    await clocks.set_for(connection, saved.id, spec)
    return await _found(connection, spec.name)


def _declared(
    spec: JobSpec, origin: str, by: str, file: str | None = None, line: int | None = None
) -> jobs.Declared:
    return jobs.Declared(
        name=spec.name,
        origin=origin,
        app=spec.app,
        tags=spec.tags,
        description=spec.description,
        definition=spec.canonical(),
        enabled=spec.enabled,
        by=by,
        source_file=file,
        source_line=line,
    )


async def _found(connection: Connection, name: str) -> JobRow:
    job = await jobs.find(connection, name, lock=True)
    if job is None:
        raise NomaflowError(Code.NOT_FOUND, f"there is no job `{name}`", ("name",))
    return job


async def _own(connection: Connection, name: str, advice: str) -> JobRow:
    job = await _found(connection, name)
    if job.origin == "file":
        raise NomaflowError(
            Code.CONFLICT,
            f"job `{name}` is declared in {job.source_file}; {advice}",
            ("name",),
        )
    return job


def _shadowed(
    name: str, declared: Mapping[str, Any], before: Mapping[str, JobRow]
) -> problems.ProblemRow:
    job = declared.get(name)
    file = job.file if job else (before[name].source_file or "")
    line = job.line if job else before[name].source_line
    return problems.ProblemRow(
        file,
        line,
        ("jobs", name),
        f"job `{name}` of the API is hidden by the one in this file; delete or rename one of them",
    )
