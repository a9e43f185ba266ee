"""What jobs in force must agree on among themselves, and with the functions their steps call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import declarations, upstream
from nomaflow.job import circles
from nomaflow.job.problems import did_you_mean
from nomaflow.plugins import discovery
from nomaflow.steps import registry
from nomaflow.store import job_pages, jobs
from nomaflow.store.problems import ProblemRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from nomaflow.in_force.declarations import Declaration
    from nomaflow.job.spec import JobSpec
    from nomaflow.project.jobs import FileJob
    from nomaflow.store.database import Connection
    from nomaflow.store.jobs import JobRow


FUNCTIONS: Mapping[str, str] = {"python": "callable", "sql_copy": "transform"}
"""The settings of step types that name a function of the plugins."""
PACKAGES = "(installed packages)"
"""Where a problem is that no file has."""


def calling_circles(
    in_force: Iterable[JobRow], declared: Mapping[str, FileJob], kept: Collection[str]
) -> list[ProblemRow]:
    """Return a problem for each declared job whose calls lead back to it; it stays out of force.

    Jobs of files count as the files say now; those in `kept`, whose file cannot be read, and those
    of the API as they are in force.
    """
    edges = {name: _calls(job.spec) for name, job in declared.items()}
    if not any(edges.values()):
        return []
    for job in in_force:
        if job.name not in edges and (job.origin == "api" or job.name in kept):
            edges[job.name] = _calls_of_row(job)
    return list(_circles(declared, edges))


def among_files(plugins: Path, found: Iterable[FileJob]) -> list[ProblemRow]:
    """Return what is wrong between jobs and functions, as far as the files alone tell."""
    declared = {job.spec.name: job for job in found}
    edges = {name: _calls(job.spec) for name, job in declared.items()}
    return [
        *_circles(declared, edges),
        *upstream.circles_among(declared.values()),
        *missing_functions(plugins, declarations.of_files(declared.values())),
        *broken_packages(),
    ]


async def missing_jobs(
    connection: Connection, declared: Mapping[str, FileJob], told: Collection[str]
) -> list[ProblemRow]:
    """Return a problem for each job that a step calls and that is not there; it may come yet.

    `told` are jobs that have a problem of their own, which says enough.
    """
    called = {name: _calls(job.spec) for name, job in declared.items()}
    if not any(called.values()):
        return []
    known = {*await jobs.names(connection), *declared, *told}
    return [
        ProblemRow(
            declared[name].file,
            declared[name].line,
            ("jobs", name, "steps", str(at), "job"),
            f"job `{name}` calls `{other}`, and there is no such job{did_you_mean(other, known)}",
        )
        for name, others in called.items()
        for other, at in others.items()
        if other not in known
    ]


async def refuse_circle(connection: Connection, spec: JobSpec) -> None:
    """Refuse a job of the API whose calls would lead back to it; NomaflowError CYCLE."""
    own = _calls(spec)
    if not own:
        return
    edges = {job.name: _calls_of_row(job) for job in await job_pages.definitions(connection)}
    circle = circles.through(spec.name, {**edges, spec.name: own})
    if circle is not None:
        raise NomaflowError(
            Code.CYCLE,
            f"jobs would call each other in a circle: {circles.in_words(circle)}",
            ("steps", str(own[circle[1]]), "job"),
        )


def broken_packages() -> Iterator[ProblemRow]:
    """Yield a problem for each step type of a package that cannot be used."""
    for name, why in registry.broken().items():
        message = f"the step type `{name}` of a package cannot be used: {why}"
        yield ProblemRow(PACKAGES, None, ("steps", name), message)


def missing_functions(plugins: Path, declared: Iterable[Declaration]) -> Iterator[ProblemRow]:
    """Yield a problem for each function that a step names and the plugins do not hold.

    The job is in force all the same: the file may come before the run does, which fails if it
    does not (seed 000: a callable needs no registration).
    """
    for one in declared:
        for at, step in enumerate(one.steps):
            field = FUNCTIONS.get(str(step.get("type")))
            name = step.get(field) if field else None
            if field and isinstance(name, str) and "${" not in name:
                why = discovery.missing(plugins, name)
                if why is not None:
                    message = f"job `{one.job}`: step `{step.get('name')}`: `{name}`: {why}"
                    path = ("jobs", one.job, "steps", str(at), field)
                    yield ProblemRow(one.file, one.line, path, message)


def _circles(
    declared: Mapping[str, FileJob], edges: Mapping[str, Mapping[str, int]]
) -> Iterator[ProblemRow]:
    for name, job in declared.items():
        circle = circles.through(name, edges)
        if circle is not None:
            path = ("jobs", name, "steps", str(edges[name][circle[1]]), "job")
            words = f"job `{name}`: jobs call each other in a circle: {circles.in_words(circle)}"
            yield ProblemRow(job.file, job.line, path, words)


def _calls(spec: JobSpec) -> dict[str, int]:
    return circles.calls((step.type, step.config.get("job")) for step in spec.steps)


def _calls_of_row(job: JobRow) -> dict[str, int]:
    steps: list[Mapping[str, Any]] = job.definition.get("steps", [])
    return circles.calls((str(step.get("type")), step.get("job")) for step in steps)
