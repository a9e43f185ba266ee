"""A second, small implementation of the step's context: real connectors, a log kept in a list."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from nomaflow.connectors import sql
from nomaflow.connectors.http import connector as http
from nomaflow.connectors.http.client import HttpClient
from nomaflow.connectors.http.connector import HttpPolicy, HttpSettings
from nomaflow.connectors.ldap import connector as ldap
from nomaflow.connectors.ldap.connector import LdapSettings
from nomaflow.connectors.spec import (
    ConnectorSpec,
    HttpConnectorSpec,
    LdapConnectorSpec,
    SqlConnectorSpec,
)
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.base import EarlierStep, Step, StepResult
from nomaflow.steps.calls import PythonCall


@dataclass
class Lines:
    """The run's log."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def debug(self, message: str, **fields: Any) -> None:
        self.lines.append(("DEBUG", f"{message} {fields or ''}".strip()))

    def info(self, message: str, **_fields: Any) -> None:
        self.lines.append(("INFO", message))

    def warning(self, message: str, **_fields: Any) -> None:
        self.lines.append(("WARNING", message))

    def error(self, message: str, **_fields: Any) -> None:
        self.lines.append(("ERROR", message))

    def at(self, level: str) -> list[str]:
        return [message for found, message in self.lines if found == level]


@dataclass
class RealContext:
    """What a step reaches while a test runs it."""

    connectors: Mapping[str, ConnectorSpec] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, EarlierStep] = field(default_factory=dict)
    dry_run: bool = False
    policy: HttpPolicy = field(default_factory=HttpPolicy)
    python: Callable[[PythonCall], Awaitable[Any]] | None = None
    run_id: UUID = field(default_factory=uuid4)
    job: str = "a-job"
    step: str = "a-step"
    attempt: int = 1
    triggered_by: str = "api"
    scheduled_for: datetime | None = None
    log_level: str = "INFO"
    seconds_left: float = 3600.0
    log: Lines = field(default_factory=Lines)
    events: list[dict[str, Any]] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    clients: dict[str | None, HttpClient] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def progress(
        self,
        done: int,
        total: int | None = None,
        unit: str = "rows",
        message: str | None = None,
        **batch: Any,
    ) -> None:
        self.events.append(
            {"done": done, "total": total, "unit": unit, "message": message, **batch}
        )

    async def sql(self, name: str) -> SqlConnector:
        spec = self.connectors.get(name)
        if not isinstance(spec, SqlConnectorSpec):
            raise StepError(f"there is no SQL connector {name!r}")
        application = f"nomaflow:{self.run_id}:{self.step}"
        session = sql.Session(application, lambda pid: self.backend_pid(name, pid))
        opened = sql.open(name, spec, session)
        self.stack.push_async_callback(opened.close)
        return opened

    def http(self, name: str | None) -> HttpClient:
        if name not in self.clients:
            self.clients[name] = HttpClient(self._http_settings(name), self.secrets.append)
            self.stack.push_async_callback(self.clients[name].close)
        return self.clients[name]

    def _http_settings(self, name: str | None) -> HttpSettings:
        if name is None:
            return HttpSettings(policy=self.policy)
        spec = self.connectors.get(name)
        if not isinstance(spec, HttpConnectorSpec):
            raise StepError(f"there is no HTTP connector {name!r}")
        return http.settings(spec, self.policy)

    def ldap(self, given: str | LdapConnectorSpec) -> LdapSettings:
        spec = self.connectors.get(given) if isinstance(given, str) else given
        if not isinstance(spec, LdapConnectorSpec):
            raise StepError(f"there is no LDAP connector {given!r}")
        return ldap.settings(spec, None if isinstance(given, str) else self.policy)

    async def call_python(self, call: PythonCall) -> Any:
        assert self.python is not None
        return await self.python(call)

    def is_cancelled(self) -> bool:
        return False

    def backend_pid(self, connector: str, pid: int) -> None:
        self.pids.append(pid)

    async def run(self, step: Step) -> StepResult:
        """Run a step and give its connections back, as the worker does."""
        async with self.stack:
            return await step.run(self)
