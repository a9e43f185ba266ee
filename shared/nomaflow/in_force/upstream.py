"""What jobs in force must find: the jobs they depend on, without a circle, and their calendars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force.declarations import API
from nomaflow.job import circles
from nomaflow.job.problems import did_you_mean
from nomaflow.store import closures, job_pages, jobs
from nomaflow.store.problems import ProblemRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from nomaflow.job.spec import JobSpec
    from nomaflow.project.folder import Calendars
    from nomaflow.project.jobs import FileJob
    from nomaflow.store.database import Connection
    from nomaflow.store.jobs import JobRow


async def keep_calendars(connection: Connection, files: Calendars) -> None:
    """Store what calendars.toml says; what cannot be read in it stays as it was."""
    if files.unreadable:
        return
    windows = [
        closures.BlackoutRow(
            name=one.name,
            from_at=one.from_at,
            until=one.until,
            jobs=one.jobs,
            connectors=one.connectors,
            action=one.action.value,
            origin="file",
            by="file",
        )
        for one in files.blackouts.values()
    ]
    await closures.replace_files(
        connection,
        files.definitions,
        windows,
        kept_calendars=files.bad_calendars,
        kept_blackouts=files.bad_blackouts,
    )


def depending_circles(
    in_force: Iterable[JobRow], declared: Mapping[str, FileJob], kept: Collection[str]
) -> list[ProblemRow]:
    """Return a problem for each declared job that would wait for itself; it stays out of force.

    Jobs of files count as the files say now, those in `kept` and of the API as they are in force.
    """
    edges = {name: _upstream(job.spec) for name, job in declared.items()}
    if not any(edges.values()):
        return []
    for job in in_force:
        if job.name not in edges and (job.origin == "api" or job.name in kept):
            edges[job.name] = _upstream_of_row(job)
    return list(circles_among(declared.values(), edges))


def circles_among(
    declared: Iterable[FileJob], edges: Mapping[str, Collection[str]] | None = None
) -> Iterator[ProblemRow]:
    """Yield a problem for each job whose dependencies lead back to it."""
    jobs_of_files = list(declared)
    if edges is None:
        edges = {job.spec.name: _upstream(job.spec) for job in jobs_of_files}
    for job in jobs_of_files:
        circle = circles.through(job.spec.name, edges)
        if circle is not None:
            words = f"job `{job.spec.name}`: jobs depend on each other in a circle: "
            path = ("jobs", job.spec.name, "depends_on")
            yield ProblemRow(job.file, job.line, path, words + circles.in_words(circle))


async def missing_of_api(
    connection: Connection, in_force: Iterable[JobRow], in_files: Collection[str]
) -> list[ProblemRow]:
    """Return a problem for each job that one of the API depends on and that is not there."""
    found: list[ProblemRow] = []
    waiting = [job for job in in_force if job.origin == "api"]
    if any(_upstream_of_row(job) for job in waiting):
        named = {*await jobs.names(connection), *in_files}
        for job in waiting:
            found += _not_there(job.name, _upstream_of_row(job), named, API, None)
    return found


async def missing(
    connection: Connection, declared: Mapping[str, FileJob], files: Calendars
) -> list[ProblemRow]:
    """Return a problem for each calendar and each job that is named and not there.

    The job is in force all the same: without its calendar it is always open, and what depends on
    a job that is not there is skipped with the reason.
    """
    if not any(job.spec.depends_on or _calendars(job.spec) for job in declared.values()):
        return []
    named = {*await jobs.names(connection), *declared}
    calendars = {*await closures.calendars(connection), *files.bad_calendars}
    return list(_missing(declared.values(), named, calendars))


def missing_calendars(declared: Iterable[FileJob], files: Calendars) -> list[ProblemRow]:
    """Return a problem for each calendar that is named and that no file declares."""
    if files.unreadable:
        return []
    known = {*files.definitions, *files.bad_calendars}
    return [row for job in declared for row in _without_calendar(job, known)]


def _missing(
    declared: Iterable[FileJob], named: Collection[str], calendars: Collection[str]
) -> Iterator[ProblemRow]:
    for job in declared:
        yield from _without_calendar(job, calendars)
        yield from _not_there(job.spec.name, _upstream(job.spec), named, job.file, job.line)


def _not_there(
    job: str, wanted: Iterable[str], named: Collection[str], file: str, line: int | None
) -> Iterator[ProblemRow]:
    for at, other in enumerate(wanted):
        if other not in named:
            words = f"job `{job}` depends on `{other}`, and there is no such job"
            yield ProblemRow(
                file,
                line,
                ("jobs", job, "depends_on", str(at)),
                f"{words}{did_you_mean(other, named)}; its runs are skipped until one of that name "
                "has succeeded",
            )


def _without_calendar(job: FileJob, calendars: Collection[str]) -> Iterator[ProblemRow]:
    for name in _calendars(job.spec):
        if name not in calendars:
            hint = did_you_mean(name, calendars)
            words = f"job `{job.spec.name}`: there is no calendar `{name}`{hint}; until there is, "
            path = ("jobs", job.spec.name, "calendar")
            yield ProblemRow(job.file, job.line, path, f"{words}it closes nothing")


async def refuse(connection: Connection, spec: JobSpec) -> None:
    """Refuse a job of the API that would wait for itself, or names a calendar that is not there.

    Raises NomaflowError CYCLE or INVALID.
    """
    for name in _calendars(spec):
        known = await closures.calendars(connection)
        if name not in known:
            hint = did_you_mean(name, known)
            message = f"there is no calendar `{name}`{hint}; calendars are declared in a file"
            raise NomaflowError(Code.INVALID, message, ("calendar",))
    if not spec.depends_on:
        return
    edges = {job.name: _upstream_of_row(job) for job in await job_pages.definitions(connection)}
    circle = circles.through(spec.name, {**edges, spec.name: _upstream(spec)})
    if circle is not None:
        at = [one.job for one in spec.depends_on].index(circle[1])
        raise NomaflowError(
            Code.CYCLE,
            f"jobs would depend on each other in a circle: {circles.in_words(circle)}",
            ("depends_on", str(at)),
        )


def _calendars(spec: JobSpec) -> list[str]:
    named = [spec.calendar, *(clock.calendar for clock in spec.schedules)]
    return list(dict.fromkeys(name for name in named if name))


def _upstream(spec: JobSpec) -> list[str]:
    return [one.job for one in spec.depends_on]


def _upstream_of_row(job: JobRow) -> list[str]:
    wanted = job.definition.get("depends_on", [])
    return [one if isinstance(one, str) else one["job"] for one in wanted]
