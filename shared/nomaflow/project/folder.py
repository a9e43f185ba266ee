"""A project folder: jobs, connectors, calendars, alerts, plugins, secrets; read anew when changed.

The folder is trusted like code. Still nothing in it can take the catalogue down: what cannot be
read is a problem with file, line and path, and what was good stays in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from watchfiles import awatch

from nomaflow import alert_spec
from nomaflow.alert_spec import Channels
from nomaflow.job.problems import Problem
from nomaflow.plugins import discovery
from nomaflow.project import connectors, env, files, jobs, toml_text
from nomaflow.project.calendars import CalendarFile, Calendars
from nomaflow.project.connectors import Connectors
from nomaflow.project.env import EnvFile
from nomaflow.project.files import Stamp
from nomaflow.project.jobs import FileJob, FileProblem, JobFiles

__all__ = ["Calendars", "Connectors", "FileJob", "FileProblem", "JobFiles", "Project"]

_APP = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Some file systems report no changes (network and bind mounts), so files are looked at as well.
_LOOK_EVERY_MS = 5_000

T = TypeVar("T")


class Project:
    """The files under one root; `env_file` may lie elsewhere (NOMAFLOW_ENV_FILE)."""

    def __init__(self, root: Path, env_file: Path | None = None) -> None:
        self.root = root
        self.plugins = root / "plugins"
        self.env_path = env_file or root / ".env"
        self._env = _Kept(self.env_path, EnvFile())
        self._connectors = _Kept(root / "connectors.toml", Connectors())
        self._alerts = _Kept(root / "alerts.toml", Channels())
        self._calendars = CalendarFile(root)
        self._jobs: dict[tuple[Path, str], tuple[Stamp | None, JobFiles]] = {}

    def read_jobs(self, timezone: str = "UTC") -> JobFiles:
        """Read every file of jobs; unchanged files are not parsed again. Belongs in a thread.

        A name that is declared twice belongs to the first file in the order of `job_toml_paths`.
        """
        found = JobFiles()
        first: dict[str, FileJob] = {}
        for path, app in self._sources(found):
            part = self._read_file(path, app, timezone)
            found.problems += part.problems
            found.bad_jobs |= part.bad_jobs
            found.unreadable_files |= part.unreadable_files
            for job in part.jobs:
                there = first.setdefault(job.spec.name, job)
                if there is job:
                    found.jobs.append(job)
                else:
                    message = (
                        f"job `{job.spec.name}` is declared already in {there.file} line "
                        f"{there.line}; this one is not loaded"
                    )
                    problem = FileProblem(job.file, job.line, ("jobs", job.spec.name), message)
                    found.problems.append(problem)
        return found

    def job_toml_paths(self) -> list[Path]:
        """Return the files of jobs: jobs.toml, jobs/*.toml by name, plugins/<app>/jobs.toml."""
        return [path for path, _ in self._sources(JobFiles())]

    def env(self) -> Mapping[str, str]:
        """Return the secrets; the same object until the file changes."""
        return self._env.get(lambda raw, _: env.read(raw)).values

    @property
    def env_as_read(self) -> Mapping[str, str]:
        """The secrets as `env` returned them last, without a look at the file."""
        return self._env.value.values

    def connectors(self) -> Connectors:
        """Return the connectors of connectors.toml; `default` need not be among them."""
        path = self._connectors.path
        return self._connectors.get(
            lambda raw, before: connectors.read(raw, self._name(path), before)
        )

    @property
    def public_env(self) -> tuple[str, ...]:
        """Names of `.env` whose values are no secrets: `[env] public` of connectors.toml."""
        return self.connectors().public

    def alerts(self) -> Channels:
        """Return the channels of alerts.toml."""
        return self._alerts.get(lambda raw, before: _channels(raw, before)[0])

    def calendars(self) -> Calendars:
        """Return what calendars.toml says, with the days of its iCalendar files worked out."""
        return self._calendars.get()

    def other_problems(self) -> list[FileProblem]:
        """Return what is wrong in connectors.toml, alerts.toml, calendars.toml and `.env`."""
        self.env()
        name = self._name(self.env_path)
        found = [
            FileProblem(self._name(kept.path), 1, (), files.UNREADABLE)
            for kept in (self._env, self._connectors, self._alerts)
            if kept.is_hidden
        ]
        found += [FileProblem(name, line, (), said) for line, said in self._env.value.problems]
        found += self.connectors().problems
        found += self.calendars().problems
        raw = files.contents(self._alerts.path, toml_text.LARGEST)
        if raw is not None:
            file = self._name(self._alerts.path)
            channels, line_of = _channels(raw, Channels())
            found += [
                FileProblem(file, line_of(problem.path), problem.path, problem.message)
                for problem in channels.problems
            ]
        return found

    def changes(self) -> AsyncGenerator[None, None]:
        """Yield whenever a file that this class reads has changed, appeared or gone.

        Since the call: what happens before the first look at the iterator counts as well.
        """
        return self._changes(self._stamps())

    async def _changes(self, seen: dict[Path, Stamp | None]) -> AsyncGenerator[None, None]:
        while True:
            folders = self._folders()
            if not folders:
                await asyncio.sleep(_LOOK_EVERY_MS / 1000)
                continue
            watching = awatch(
                *folders, recursive=False, rust_timeout=_LOOK_EVERY_MS, yield_on_timeout=True
            )
            async with contextlib.aclosing(watching):
                async for _ in watching:
                    now = self._stamps()
                    if now != seen:
                        seen = now
                        yield
                    if self._folders() != folders:
                        break
            # A folder that just appeared may have been filled before it was watched.
            now = self._stamps()
            if now != seen:
                seen = now
                yield

    def _read_file(self, path: Path, app: str | None, timezone: str) -> JobFiles:
        stamp = files.stamp(path)
        kept = self._jobs.get((path, timezone))
        if kept is not None and kept[0] == stamp:
            return kept[1]
        if kept is not None:
            stamp = files.still(path, stamp)
        raw = files.contents(path, toml_text.LARGEST)
        file = self._name(path)
        if raw is None:
            problem = FileProblem(file, 1, (), files.UNREADABLE)
            return JobFiles(problems=[problem], unreadable_files={file})
        found = jobs.read(raw, file, app=app, timezone=timezone)
        self._jobs[path, timezone] = (stamp, found)
        return found

    def _sources(self, found: JobFiles) -> Iterator[tuple[Path, str | None]]:
        """Yield each file of jobs with its default app; what is passed over is a problem."""
        if (self.root / "jobs.toml").exists():
            yield self.root / "jobs.toml", None
        for path in _listed(self.root / "jobs"):
            if path.suffix == ".toml" and not path.name.startswith("."):
                yield path, None
        for folder in _listed(self.plugins):
            path = folder / "jobs.toml"
            if not path.exists():
                continue
            wrong = self._unwanted(folder, path)
            if wrong is None:
                yield path, folder.name
            else:
                found.problems.append(FileProblem(self._name(path), 1, (), wrong))

    def _unwanted(self, folder: Path, path: Path) -> str | None:
        if not _APP.fullmatch(folder.name):
            return (
                f"the file is not read: the folder `{folder.name}` must be named with small "
                "letters, digits and `_`, as a Python package"
            )
        if not path.resolve().is_relative_to(self.plugins.resolve()):
            return "the file is not read: it leads outside of the project's plugins"
        return None

    def _folders(self) -> list[Path]:
        folders = [self.root, self.root / "jobs", self.plugins, *_listed(self.plugins)]
        if self.env_path.parent != self.root:
            folders.append(self.env_path.parent)
        return [folder for folder in folders if folder.is_dir()]

    def _stamps(self) -> dict[Path, Stamp | None]:
        paths = [
            *(self.env_path, self._connectors.path, self._alerts.path),
            *self.job_toml_paths(),
            *self._calendars.paths,
            *discovery.files(self.plugins),
        ]
        return {path: files.stamp(path) for path in paths}

    def _name(self, path: Path) -> str:
        return (
            path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        )


@dataclass(slots=True)
class _Kept(Generic[T]):
    """A parsed file, and the stamp that tells whether it is still the same."""

    path: Path
    value: T
    stamp: Stamp | None = None

    def get(self, read: Callable[[bytes, T], T]) -> T:
        stamp = files.stamp(self.path)
        if stamp != self.stamp:
            raw = files.contents(self.path, toml_text.LARGEST)
            if raw is not None or stamp is None:
                self.value = read(raw or b"", self.value)
                self.stamp = stamp
        return self.value

    @property
    def is_hidden(self) -> bool:
        """Tell whether there is something of that name that this program may not read."""
        return (
            files.stamp(self.path) is not None
            and files.contents(self.path, toml_text.LARGEST) is None
        )


def _channels(raw: bytes, before: Channels) -> tuple[Channels, Callable[[tuple[str, ...]], int]]:
    try:
        text = toml_text.read(raw)
    except toml_text.BrokenTomlError as error:
        line = error.line
        return replace(before, problems=(Problem((), error.message),)), lambda _: line
    return alert_spec.parse(text.data), text.line_of


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
