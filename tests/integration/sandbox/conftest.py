"""A real sandbox over a folder of plugins, and an ear that remembers what it heard."""

from __future__ import annotations

import asyncio
import shutil
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from nomaflow.errors import StepError
from nomaflow_worker.sandbox.pool import Sandbox
from nomaflow_worker.sandbox.request import ChildRequest, Limits


@dataclass
class Ear:
    """A listener: everything a child said, and the connectors it may ask for."""

    connectors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    fields: list[Mapping[str, Any]] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    reports: list[Mapping[str, Any]] = field(default_factory=list)
    backends: list[tuple[str, int]] = field(default_factory=list)
    called: list[tuple[str, Mapping[str, Any], bool, bool]] = field(default_factory=list)
    called_back: list[str] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def log(self, level: str, message: str, at: datetime, fields: Mapping[str, Any]) -> None:
        self.lines.append((level, message))
        self.fields.append(fields)
        self.times.append(at)
        self.heard.set()

    def progress(self, report: Mapping[str, Any]) -> None:
        self.reports.append(report)

    def backend_pid(self, connector: str, pid: int) -> None:
        self.backends.append((connector, pid))

    async def connector(self, name: str) -> Mapping[str, Any]:
        if name not in self.connectors:
            raise StepError(f"there is no connector {name!r}", retryable=False)
        return self.connectors[name]

    async def parents(self) -> list[tuple[str, str]]:
        return [("outer", "run-a"), ("inner", "run-b")]

    async def call_job(
        self, job: str, params: Mapping[str, Any], *, wait: bool, check: bool
    ) -> Mapping[str, Any]:
        if job == "refused":
            raise StepError("there is no job `refused`", retryable=False)
        self.called.append((job, params, wait, check))
        if job == "endless":
            try:
                await asyncio.Event().wait()
            finally:
                self.called_back.append(job)
        facts = {
            "status": "succeeded",
            "reason": None,
            "rows_affected": 3,
            "output": {"n": 1, "rows": 3},
        }
        return {"job": job, "run_id": f"run-{len(self.called)}", **facts}

    def said(self) -> str:
        return "\n".join(text for _, text in self.lines)

    async def pids(self, wanted: int) -> list[int]:
        """The numbers the function logged as `pid <n>`, once it has logged so many."""
        while len(found := [int(t.split()[1]) for _, t in self.lines if t[:4] == "pid "]) < wanted:
            self.heard.clear()
            await self.heard.wait()
        return found


@dataclass
class Workshop:
    """Writes plugins and calls them."""

    plugins: Path
    sandbox: Sandbox
    ear: Ear = field(default_factory=Ear)

    def write(self, name: str, source: str) -> Path:
        file = self.plugins / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        return file

    def request(self, callable: str, *, memory_mb=1024, cpu_seconds=0, **more) -> ChildRequest:
        limits = Limits(memory_mb=memory_mb, cpu_seconds=cpu_seconds)
        kinds = {name: table["kind"] for name, table in self.ear.connectors.items()}
        return ChildRequest(
            callable, "run-1", "job-1", "step-1", limits=limits, connectors=kinds, **more
        )

    async def call(self, callable: str, *, timeout_seconds: float = 20, **more) -> Any:
        request = self.request(callable, **more)
        return await self.sandbox.call(request, self.ear, timeout_seconds=timeout_seconds)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    plugins = tmp_path_factory.mktemp("project") / "plugins"
    plugins.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOMAFLOW_DATABASE_URL", "postgresql://nomaflow:secret@db/nomaflow")
        sandbox = Sandbox(plugins)
        await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest.fixture
def workshop(sandbox: Sandbox) -> Workshop:
    """The module's sandbox over an empty folder; tests that use it share the module's loop."""
    for entry in sandbox.plugins.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return Workshop(sandbox.plugins, sandbox)


@pytest_asyncio.fixture(loop_scope="module")
async def own_workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A sandbox for one test that breaks it."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    sandbox = Sandbox(plugins)
    await sandbox.start()
    yield Workshop(plugins, sandbox)
    await sandbox.stop()


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is more than a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether a process is gone; only where /proc can tell."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    return lambda pid: not is_alive(pid)
