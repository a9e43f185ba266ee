"""What one file of jobs says: each job that is right, a problem with its line otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nomaflow.job.problems import Path, SpecErrors, did_you_mean, written
from nomaflow.job.spec import JobSpec
from nomaflow.project import toml_text

KEYS = ("jobs", "step_defaults")


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Something to put right in a file; `file` is relative to the project, lines count from 1."""

    file: str
    line: int
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class FileJob:
    """A job and where it is declared."""

    spec: JobSpec
    file: str
    line: int


EMPTY = "the file is empty: write jobs into it or delete it; what it declared before stays in force"


@dataclass(slots=True)
class JobFiles:
    """What all files say together.

    A job whose name is in `bad_jobs`, or whose file is in `unreadable_files`, is still declared: it
    cannot be read just now, and its last good definition stays in force (J12).
    """

    jobs: list[FileJob] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)
    bad_jobs: set[str] = field(default_factory=set)
    unreadable_files: set[str] = field(default_factory=set)


def read(raw: bytes, file: str, *, app: str | None, timezone: str) -> JobFiles:
    """Read one file's bytes; `app` is the default of its jobs. Nothing is raised."""
    found = JobFiles()
    if not raw.strip():
        # Many editors empty a file before they write it anew: its jobs must not go meanwhile.
        found.problems.append(FileProblem(file, 1, (), EMPTY))
        found.unreadable_files.add(file)
        return found
    try:
        text = toml_text.read(raw)
    except toml_text.BrokenTomlError as error:
        found.problems.append(FileProblem(file, error.line, (), error.message))
        found.unreadable_files.add(file)
        return found
    whole = list(_of_file(text, file))
    if whole:
        found.problems += whole
        found.unreadable_files.add(file)
    jobs = text.data.get("jobs", [])
    for at, job in enumerate(jobs if isinstance(jobs, list) else []):
        _read_job(job, at, text, file, app, timezone, found)
    found.problems = list(dict.fromkeys(found.problems))
    return found


def _of_file(text: toml_text.TomlText, file: str) -> Iterator[FileProblem]:
    for key in text.data:
        if key not in KEYS:
            message = f"there is no table `{key}` in a file of jobs{did_you_mean(key, KEYS)}"
            yield FileProblem(file, text.line_of((key,)), (key,), message)
    jobs = text.data.get("jobs", [])
    if not isinstance(jobs, list):
        hint = (
            "write [[jobs]] in double brackets" if isinstance(jobs, Mapping) else "write [[jobs]]"
        )
        message = f"`jobs` must be a list of tables, not {written(jobs)}; {hint}"
        yield FileProblem(file, text.line_of(("jobs",)), ("jobs",), message)


def _read_job(
    raw: Any,
    at: int,
    text: toml_text.TomlText,
    file: str,
    app: str | None,
    timezone: str,
    found: JobFiles,
) -> None:
    place = ("jobs", str(at))
    name = raw.get("name", raw.get("id")) if isinstance(raw, dict) else None
    defaults = text.data.get("step_defaults", {})
    if app is not None and isinstance(raw, dict):
        raw = {"app": app, **raw}
    try:
        spec = JobSpec.parse(raw, where=file, timezone=timezone, step_defaults=defaults)
    except SpecErrors as errors:
        whose = f"job `{name}`: " if isinstance(name, str) else f"job number {at + 1}: "
        for problem in errors.problems:
            inside = problem.path[:1] != ("step_defaults",)
            path = (*place, *problem.path) if inside else problem.path
            message = f"{whose}{problem.message}" if inside else problem.message
            found.problems.append(FileProblem(file, text.line_of(path), path, message))
        if isinstance(name, str):
            found.bad_jobs.add(name)
        else:  # which job this was meant to be, nobody knows: none of the file's may go
            found.unreadable_files.add(file)
    else:
        found.jobs.append(FileJob(spec, file, text.line_of(place)))
