"""`ctx` as a plugin's function has it in the child process."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nomaflow import step_context
from nomaflow.connectors import spec, sql
from nomaflow.connectors.http import connector as http
from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow.errors import StepError
from nomaflow.plugins import job_calls
from nomaflow.plugins.http import StepHttp
from nomaflow.plugins.level_log import LevelLog
from nomaflow.plugins.state import State
from nomaflow.step_context import CalledRun, ParentRun
from nomaflow_worker.sandbox import wire
from nomaflow_worker.sandbox.channel import Channel

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
_MOST_FIELDS = 16 * 1024
_PROGRESS_SECONDS = 0.1


class ChildLog(LevelLog):
    """Lines to the worker, from the run's log level up."""

    def __init__(self, channel: Channel, level: str) -> None:
        self._channel = channel
        self._from = _LEVELS.get(level, _LEVELS["INFO"])

    def write(self, level: str, message: object, fields: Mapping[str, Any]) -> None:
        if _LEVELS[level] < self._from:
            return
        text = json.dumps(fields, default=str)
        kept = f'{{"fields left out": {len(text)}}}' if len(text) > _MOST_FIELDS else text
        words = json.dumps(str(message)[: wire.MOST_TEXT])
        self._channel.send_text(f'{{"log":["{level}",{words},{time.time()},{kept}]}}')


class LoggingBridge(logging.Handler):
    """Lines of Python's `logging` become lines of the run's log."""

    def __init__(self, log: ChildLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        known = [name for name, number in _LEVELS.items() if number <= record.levelno]
        with contextlib.suppress(StepError):  # in a process forked by the user's code
            self._log.write(known[-1] if known else "DEBUG", self.format(record), {})


class Earlier:
    """A step that has ended; its output is fetched from the worker when it is first looked at."""

    def __init__(self, channel: Channel, name: str, status: str, rows_affected: int | None) -> None:
        self.name = name
        self.status = status
        self.rows_affected = rows_affected
        self._channel = channel
        self._output: Mapping[str, Any] | None = None

    @property
    def output(self) -> Mapping[str, Any]:
        if self._output is None:
            self._output = self._channel.ask("output", self.name)
        return self._output

    def __repr__(self) -> str:
        return f"<step {self.name}: {self.status}>"


class ChildContext:
    """Answers to `nomaflow.StepContext`; `facts` is what the worker sent of the step."""

    def __init__(self, channel: Channel, facts: Mapping[str, Any]) -> None:
        self._channel = channel
        self.run_id: str = facts["run_id"]
        self.job_id: str = facts["job"]
        self.step_name: str = facts["step"]
        self.attempt: int = facts["attempt"]
        self.trigger: str = facts["trigger"]
        self.triggered_by: str = facts["triggered_by"]
        self.session_user: str = facts["session_user"]
        self.scheduled_for: str | None = facts["scheduled_for"]
        self.dry_run: bool = facts["dry_run"]
        self.log_level: str = facts["log_level"]
        self.params: Mapping[str, Any] = MappingProxyType(facts["params"])
        self.state: step_context.State = State(
            facts["state"], lambda name, value: channel.send({"state": [name, value]})
        )
        self.log = ChildLog(channel, self.log_level)
        self._policy = HttpPolicy.from_json(facts["policy"])
        self.http = StepHttp(http.HttpSettings(policy=self._policy))
        self.kinds: Mapping[str, str] = facts["connectors"]
        self._steps = {
            name: Earlier(channel, name, *known) for name, known in facts["earlier"].items()
        }
        self._parents: tuple[ParentRun, ...] | None = None
        self._opened: dict[str, Any] = {}
        self._cancelled = False
        self._next_report = 0.0
        self._last_report: dict[str, Any] | None = None

    @property
    def last_step(self) -> Earlier | None:
        """The step just before this one."""
        return next(reversed(self._steps.values()), None)

    @property
    def prev_rows_affected(self) -> int | None:
        return None if self.last_step is None else self.last_step.rows_affected

    @property
    def parent_chain(self) -> Sequence[ParentRun]:
        if self._parents is None:
            asked = self._channel.ask("parents", self.run_id)
            self._parents = tuple(ParentRun(job, run_id) for job, run_id in asked)
        return self._parents

    async def call_job(
        self,
        job: str,
        params: Mapping[str, Any] | None = None,
        *,
        wait: bool = True,
        check: bool = True,
    ) -> CalledRun:
        given = job_calls.parameters(job, params)
        answer = await self._channel.call_job(job, given, wait=wait, check=check)
        return CalledRun(**answer)

    def previous_step(self, name: str) -> Earlier:
        try:
            return self._steps[name]
        except KeyError:
            known = ", ".join(self._steps) or "none"
            raise StepError(
                f"no step {name!r} has run before this one; earlier steps: {known}",
                retryable=False,
            ) from None

    def get_connector(self, name: str) -> Any:
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _open(self, name: str) -> Any:
        # One made through the API may be younger than this step.
        kind = self.kinds.get(name) or self._channel.ask("connector", name)["kind"]
        if kind == "sql":

            def on_backend_pid(pid: int) -> None:
                self._channel.send({"backend": [name, pid]})

            # Named as the worker names its own connections, so that it can end this one.
            application = f"nomaflow:{self.run_id}:{self.step_name}"[:63]
            session = sql.Session(application, on_backend_pid)
            return sql.open(name, self._settings(name, spec.SqlConnectorSpec), session)
        if kind == "http":
            settings = self._settings(name, spec.HttpConnectorSpec)
            return StepHttp(http.settings(settings, self._policy))
        raise StepError(
            f"connector {name!r} is of kind {kind}, which a function cannot open", retryable=False
        )

    def _settings(self, name: str, wanted: type[Any]) -> Any:
        found = spec.parse(self._channel.ask("connector", name))
        if not isinstance(found, wanted):
            raise StepError(f"connector {name!r} has just changed its kind")
        return found

    def progress(
        self,
        done: int,
        total: int | None = None,
        unit: str = "rows",
        message: str | None = None,
        **batch: Any,
    ) -> None:
        report = {"done": done, "total": total, "unit": unit, "message": message, **batch}
        now = time.monotonic()
        if now < self._next_report:  # people read ten a second at most; the last one is kept
            self._last_report = report
            return
        self._next_report = now + _PROGRESS_SECONDS
        self._report(report)

    def _report(self, report: dict[str, Any]) -> None:
        self._last_report = None
        self._channel.send_text(f'{{"progress":{json.dumps(report, default=str)}}}')

    def is_cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """The step is to stop."""
        self._cancelled = True

    async def close(self) -> None:
        """Say the last progress and give every connection back."""
        if self._last_report is not None:
            self._report(self._last_report)
        for connector in self._opened.values():
            if isinstance(connector, sql.SqlConnector):
                # One opened in a loop of the function's own cannot be closed from here.
                with contextlib.suppress(Exception):
                    await connector.close()
