"""What every step type is: a frozen model of its settings, and a deed that answers in JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from nomaflow.connectors.http.client import HttpClient
from nomaflow.connectors.ldap.connector import LdapSettings
from nomaflow.connectors.spec import LdapConnectorSpec
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.calls import ChildEnd, JobCall, PythonCall
from nomaflow.steps.failed_items import DueBatch, FailedItems

Interrupt = Literal["retry", "fail"]
MOST_ROWS = 10**14
"""Rows that one step may count: so many, of every step of a run, still have a sum."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did.

    `output` is small JSON for later steps and for history, `summary` the words of the
    timeline (`status=200 · body=30 items`), `rows_affected` what the run's total adds up
    (None: this step does not count rows). `reason` is set when something was left undone, as
    `1 batch failed`: the step succeeded, its run becomes `partial`. `watermarks` are proposed;
    they are written when the whole run has succeeded. `shown` is what history keeps of an
    output that is whole only for later steps (None: all of it).
    """

    output: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
    rows_affected: int | None = None
    reason: str | None = None
    watermarks: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse a count that history cannot add up."""
        if self.rows_affected is not None and not 0 <= self.rows_affected <= MOST_ROWS:
            said = self.rows_affected if abs(self.rows_affected) < MOST_ROWS**2 else "so many"
            words = f"{said} rows are no count of rows: it is from 0 to {MOST_ROWS}"
            raise StepError(words, retryable=False)


@dataclass(frozen=True, slots=True)
class EarlierStep:
    """A step of the same run that has ended; `output` is whole, not history's preview."""

    name: str
    status: str
    output: Mapping[str, Any]
    rows_affected: int | None = None


class StepLog(Protocol):
    """Lines of the run's log; fields are kept beside the message."""

    def debug(self, message: str, **fields: Any) -> None: ...

    def info(self, message: str, **fields: Any) -> None: ...

    def warning(self, message: str, **fields: Any) -> None: ...

    def error(self, message: str, **fields: Any) -> None: ...


class StepRunContext(Protocol):
    """What a running step may know and reach.

    `params` are the merged and rendered parameters of this step. With `dry_run` a step
    changes nothing and says what it would do.
    """

    @property
    def run_id(self) -> UUID: ...

    @property
    def job(self) -> str: ...

    @property
    def step(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def dry_run(self) -> bool: ...

    @property
    def triggered_by(self) -> str: ...

    @property
    def scheduled_for(self) -> datetime | None: ...

    @property
    def started_at(self) -> datetime:
        """When the run started, the first time if it was taken over; by the database's clock."""

    @property
    def position(self) -> int:
        """The step's place in the chain, from 0."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the step's `timeout_seconds` is over."""

    @property
    def params(self) -> Mapping[str, Any]: ...

    @property
    def outputs(self) -> Mapping[str, EarlierStep]: ...

    @property
    def log(self) -> StepLog: ...

    @property
    def log_level(self) -> str: ...

    def progress(
        self,
        done: int,
        total: int | None = None,
        unit: str = "rows",
        message: str | None = None,
        **batch: Any,
    ) -> None:
        """Tell listeners how far the step has come."""

    async def sql(self, name: str) -> SqlConnector:
        """Open the SQL connector `name` for this step; the context closes it after the step.

        StepError when it is unknown or not SQL.
        """

    def http(self, name: str | None) -> HttpClient:
        """The client of the HTTP connector `name`, or the plain one of a step without connector.

        Its connections, tokens and bounds are shared by all steps of the worker.

        StepError when it is unknown or not HTTP.
        """

    def ldap(self, given: str | LdapConnectorSpec) -> LdapSettings:
        """Where a directory is: by its connector's name, or as the step itself describes it.

        StepError when it is unknown, not LDAP, or may not be reached so.
        """

    async def call_python(self, call: PythonCall) -> Any:
        """Run a function of the plugins in a child process and answer its return value."""

    async def call_job(self, call: JobCall) -> ChildEnd:
        """Start a child run, or find the one this try started before, and wait for its end.

        StepError when it cannot start: no such job, params that do not fit, no room (overlap),
        a circle of jobs that call each other.
        """

    @property
    def state(self) -> Mapping[str, str]:
        """The job's watermarks as they were when the run, or what is left of it, began."""

    @property
    def retries_batches(self) -> bool:
        """True when this run only retries what the step failed to write in an earlier run."""

    async def checkpoint(self) -> Mapping[str, Any] | None:
        """What an earlier try of this step kept with `keep`; None: begin at the beginning."""

    async def keep(
        self, state: Mapping[str, Any] | None, failed: Sequence[FailedItems] = ()
    ) -> None:
        """Keep how far the step has come, and items it could not write, in one commit.

        State that holds a secret is not kept: another try then begins at the beginning.
        """

    async def begin_anew(self) -> None:
        """Forget what earlier tries of this step kept."""

    async def due_batches(self) -> Sequence[DueBatch]:
        """The failed batches that this run is to write, each with a way to its items."""

    def is_cancelled(self) -> bool: ...

    def backend_pid(self, connector: str, pid: int) -> None:
        """Record a server process working for this step, so that an abort can cancel it."""


class Step(BaseModel):
    """A step type: subclass it, declare the settings as fields, write `run`.

    Settings a person writes are checked when the job is declared, with `${...}` still in them
    (`nomaflow.steps.registry.problems`), and again after substitution, just before `run`.
    `verbatim` names the settings substitutions never touch, by path: SQL text takes bound
    parameters instead. `secret` names those that are kept as references only, `${env:NAME}`:
    a definition is history, and shown. `tuning` names those that whoever may run a job may change
    for one run; all others say what the step is, and changing them takes the right to edit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    type_name: ClassVar[str]
    title: ClassVar[str]
    verbatim: ClassVar[tuple[tuple[str, ...], ...]] = ()
    secret: ClassVar[tuple[tuple[str, ...], ...]] = ()
    tuning: ClassVar[frozenset[str]] = frozenset()
    dry_runs: ClassVar[bool] = False

    @classmethod
    def prepare(cls, config: Mapping[str, Any], render: Callable[[Any], Any]) -> Step:
        """Build the step from its raw `config`, every value but the verbatim ones rendered."""
        return cls.model_validate(_rendered(config, render, cls.verbatim))

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Do the deed; StepError when it cannot be done."""
        raise NotImplementedError

    async def carry_out(self, ctx: StepRunContext) -> StepResult:
        """Run, or in a dry run say what would be run where the type cannot say it itself."""
        if ctx.dry_run and not self.dry_runs:
            words = f"would run the {self.type_name} step `{ctx.step}`"
            return StepResult({"dry_run": True, "executed": False, "would": words}, words)
        return await self.run(ctx)

    def interrupt_default(self) -> Interrupt:
        """What happens when a worker dies in the middle, unless the job says: repeat or fail."""
        return "fail"


def _rendered(
    config: Mapping[str, Any],
    render: Callable[[Any], Any],
    verbatim: tuple[tuple[str, ...], ...],
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        below = tuple(path[1:] for path in verbatim if path[0] == key)
        if () in below:
            out[key] = value
        elif below and isinstance(value, Mapping):
            out[key] = _rendered(value, render, below)
        else:
            out[key] = render(value)
    return out
