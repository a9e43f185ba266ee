"""The steps of jobs as they were declared, in files and through the API, in one form for checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nomaflow.project.jobs import FileJob
    from nomaflow.store.jobs import JobRow

API = "(API)"
"""Where a problem is that no file has."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A job's steps, each with its name, type and settings, and where they were declared."""

    job: str
    steps: Sequence[Mapping[str, Any]]
    file: str
    line: int | None


def of_files(declared: Iterable[FileJob]) -> Iterator[Declaration]:
    """Yield the jobs of files as the files say now."""
    for job in declared:
        steps = [{**s.config, "name": s.name, "type": s.type} for s in job.spec.steps]
        yield Declaration(job.spec.name, steps, job.file, job.line)


def of_api(in_force: Iterable[JobRow]) -> Iterator[Declaration]:
    """Yield those jobs in force that were made through the API."""
    for job in in_force:
        if job.origin == "api":
            yield Declaration(job.name, job.definition.get("steps", []), API, None)
