"""What the worker asks of a child process, and what it hears from it while the function runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow.errors import ClaimLostError
from nomaflow.plugins import values
from nomaflow.step_context import EarlierStep

if TYPE_CHECKING:
    from nomaflow.steps.calls import RowTalk


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call may use, its child and everything it starts taken together.

    0 means no bound, for `cpu_seconds` and `memory_mb` alike.
    """

    memory_mb: int = 1024
    cpu_seconds: int = 0
    descendants: int = 64


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """One call of a plugin's function.

    `kwargs` are the step's own arguments with their final values: one the function does not
    take fails. `params` are the merged parameters of the step: those it takes are passed.
    `environ` is all the child finds in `os.environ` beside PATH, HOME, LANG and the like.
    `connectors` names what `get_connector` may ask for, and of which kind each is; their
    settings are asked of the listener when first needed, as are the outputs of `earlier`, which
    is in the order of the steps. `policy` says where `ctx.http` may go.
    """

    callable: str
    run_id: str
    job: str
    step: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1
    trigger: str = "user"
    triggered_by: str = "system"
    session_user: str = "system"
    scheduled_for: datetime | None = None
    dry_run: bool = False
    log_level: str = "INFO"
    earlier: Mapping[str, EarlierStep] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    connectors: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    policy: HttpPolicy = field(default_factory=HttpPolicy)
    limits: Limits = field(default_factory=Limits)
    rows: RowTalk | None = None

    def call(self) -> str:
        """The message for the child, as JSON; without outputs and settings, which it asks for."""
        return values.to_json(
            {
                "call": {
                    "callable": self.callable,
                    "run_id": self.run_id,
                    "job": self.job,
                    "step": self.step,
                    "kwargs": self.kwargs,
                    "params": self.params,
                    "attempt": self.attempt,
                    "trigger": self.trigger,
                    "triggered_by": self.triggered_by,
                    "session_user": self.session_user,
                    "scheduled_for": self.scheduled_for,
                    "dry_run": self.dry_run,
                    "log_level": self.log_level,
                    "earlier": {
                        name: [step.status, step.rows_affected]
                        for name, step in self.earlier.items()
                    },
                    "state": self.state,
                    "connectors": self.connectors,
                    "environ": self.environ,
                    "rows": None if self.rows is None else self.rows.given(),
                    "policy": self.policy.as_json(),
                }
            },
            f"the call of {self.callable} holds",
        )


class LeaseOverError(ClaimLostError):
    """The guardian ended the call because the worker's lease was over: so is the worker's claim."""


class ChildListener(Protocol):
    """Who hears of a call; the worker's step context. Nothing it is told has been masked."""

    def log(self, level: str, message: str, at: datetime, fields: Mapping[str, Any]) -> None:
        """A line of the function's log (level DEBUG, INFO, WARNING or ERROR), or of its output."""

    def progress(self, report: Mapping[str, Any]) -> None:
        """How far it has come: `done`, `total`, `unit`, `message` and the function's own fields."""

    def backend_pid(self, connector: str, pid: int) -> None:
        """A process of a database server that works for this step."""

    def watermark(self, name: str, value: str) -> None:
        """A move of a watermark that the function proposes."""

    async def connector(self, name: str) -> Mapping[str, Any]:
        """The rendered table of connectors.toml for `name`; StepError when there is none."""

    async def parents(self) -> Sequence[tuple[str, str]]:
        """The job and the run of each run above this one, the outermost first."""

    async def call_job(
        self, job: str, params: Mapping[str, Any], *, wait: bool, check: bool
    ) -> Mapping[str, Any]:
        """Start a run of another job; told to stop, it ends what it waits for. StepError."""
