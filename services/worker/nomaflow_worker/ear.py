"""Who hears the child of a python step: what it says and asks for is the step's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow.plugins.state import MOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from nomaflow_worker.called_runs import CalledRuns
    from nomaflow_worker.context import Context


class Ear:
    """Hears a child: its lines, progress and server processes are the step's own."""

    def __init__(self, context: Context, called_runs: CalledRuns) -> None:
        self._context, self._called_runs = context, called_runs
        self.opened: list[tuple[str, int]] = []

    def log(self, level: str, message: str, at: datetime, fields: Mapping[str, Any]) -> None:
        self._context.log.line(level, message, fields, at)

    def progress(self, report: Mapping[str, Any]) -> None:
        self._context.progress(report)

    def backend_pid(self, connector: str, pid: int) -> None:
        self.opened.append((connector, pid))
        self._context.backend_pid(connector, pid)

    def watermark(self, name: str, value: str) -> None:
        if len(self._context.proposed) < MOST:  # whatever the child says
            self._context.proposed[name] = value

    async def connector(self, name: str) -> Mapping[str, Any]:
        return await self._context.connector(name)

    async def parents(self) -> Sequence[tuple[str, str]]:
        return await self._context.parents()

    async def call_job(
        self, job: str, params: Mapping[str, Any], *, wait: bool, check: bool
    ) -> Mapping[str, Any]:
        return await self._called_runs.start(job, params, wait=wait, check=check)
