"""What a plugin's function receives first: its step, its run, and the ways to the outside.

Two classes answer to it: the one of the child process that runs a step, and the one of
`nomaflow.testing` for a plugin's own tests. Nothing but words of Python's own library is imported
here, so `from nomaflow import StepContext` costs a plugin nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Row = Mapping[str, Any]


class EarlierStep(Protocol):
    """A step of the same run that has ended."""

    @property
    def name(self) -> str: ...

    @property
    def status(self) -> str:
        """`succeeded`, `failed` (with `continue_on_error`) or `skipped`."""

    @property
    def output(self) -> Mapping[str, Any]:
        """Its whole output, not the preview kept in history."""

    @property
    def rows_affected(self) -> int | None:
        """The rows it counts for the run, None when it counts none."""


@dataclass(frozen=True, slots=True)
class CalledRun:
    """A run of another job that this step has called."""

    job: str
    run_id: str | None
    """Its UUID as text; None in a dry run, which starts nothing."""
    status: str
    """`succeeded` or `partial`; `queued` when it is not waited for; `skipped` in a dry run.

    With `check=False` also `failed`, `aborted`, or `skipped` because it might not run.
    """
    reason: str | None
    rows_affected: int | None
    output: Mapping[str, Any]
    """Whole, that of its last step that put one out; empty when it is not waited for."""


class ParentRun(NamedTuple):
    """A run that waits for this one, or for one that does, or that has started it."""

    job: str
    run_id: str


class Log(Protocol):
    """Lines of the run's log, live and in history; fields are kept beside the message."""

    def debug(self, message: str, **fields: Any) -> None: ...

    def info(self, message: str, **fields: Any) -> None: ...

    def warning(self, message: str, **fields: Any) -> None: ...

    def error(self, message: str, **fields: Any) -> None: ...


class Result(Protocol):
    """What a statement answered."""

    @property
    def rows(self) -> Sequence[Row]: ...

    @property
    def rowcount(self) -> int:
        """Rows read or changed."""

    def first(self) -> Row | None:
        """The first row as a mapping of column names, or None."""

    def all(self) -> list[Row]: ...


class Connector(Protocol):
    """A database of connectors.toml; connected at the first statement, by this step alone.

    Parameters are written `:name` in the SQL and always bound. Each statement stands alone
    unless it is inside `transaction()`. StepError with the database's words when one fails.
    """

    async def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> Result: ...

    async def scalar(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row, or None."""

    async def first(self, sql: str, params: Mapping[str, Any] | None = None) -> Row | None: ...

    async def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Every row, in memory; `stream` for many."""

    def stream(
        self, sql: str, params: Mapping[str, Any] | None = None, batch: int = 1000
    ) -> AsyncIterator[Row]:
        """Rows one by one from a cursor on the server, `batch` rows fetched at a time."""

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """All or nothing; inside another transaction, a savepoint."""

    async def run(self, query_name: str, **params: Any) -> Result:
        """A named query of this connector; `name:write` for one that changes data."""


class Http(Protocol):
    """Requests that answer the decoded body: JSON where the server says so, else text, or None.

    An HTTP connector of connectors.toml is one whose URLs may be relative. StepError with
    `http_status` for anything but 2xx, of category `connection` or `timeout` when no answer
    came. Options: `params`, `headers`, one of `json`, `data` or `content`, `timeout` in seconds
    (60), `follow_redirects` (False), `max_bytes` of the decoded body (10 000 000).
    """

    async def request(self, method: str, url: str, **options: Any) -> Any: ...

    async def get(self, url: str, **options: Any) -> Any: ...

    async def post(self, url: str, **options: Any) -> Any: ...

    async def put(self, url: str, **options: Any) -> Any: ...

    async def patch(self, url: str, **options: Any) -> Any: ...

    async def delete(self, url: str, **options: Any) -> Any: ...


class State(Protocol):
    """The job's watermarks, by name: how far it has come, kept from one run to the next.

    They read as they were when the run began, plus what this function has set itself.
    """

    def __getitem__(self, name: str, /) -> str: ...

    def __contains__(self, name: object, /) -> bool: ...

    def get(self, name: str, default: Any = None, /) -> Any:
        """The watermark `name`, or the default when it was never set."""

    def set(self, name: str, value: Any) -> None:
        """Propose a move to text, a number, a day or a time; written if the whole run succeeds."""


class StepContext(Protocol):
    """The step a plugin's function runs for (seeds 000 and 001)."""

    @property
    def run_id(self) -> str:
        """The run's UUID as text."""

    @property
    def job_id(self) -> str:
        """The job's name."""

    @property
    def step_name(self) -> str: ...

    @property
    def attempt(self) -> int:
        """Which try of this step this is, from 1."""

    @property
    def trigger(self) -> str:
        """What started the run: `cron`, `user`, `api`, `cli`, `call_job`, `replay` or `retry`."""

    @property
    def triggered_by(self) -> str:
        """`cron`, `user:alice`, `api`, `cli:bob` or `call_job:parent@run`."""

    @property
    def session_user(self) -> str:
        """Whose wish the run is: a user's name, or `cron`, `api`, `cli`, `system`."""

    @property
    def scheduled_for(self) -> str | None:
        """The due time of a scheduled run, RFC 3339 UTC; None for a manual one."""

    @property
    def dry_run(self) -> bool:
        """True: say what would be done and change nothing."""

    @property
    def log_level(self) -> str: ...

    @property
    def params(self) -> Mapping[str, Any]:
        """The merged parameters of this step."""

    @property
    def state(self) -> State:
        """The job's watermarks."""

    @property
    def log(self) -> Log: ...

    @property
    def http(self) -> Http: ...

    def get_connector(self, name: str) -> Any:
        """The connector `name`: a `Connector` for a database, an `Http` for an HTTP API.

        Nothing is opened before its first use. StepError at once when there is no such connector.
        """

    @property
    def prev_rows_affected(self) -> int | None:
        """The rows that the step just before this one counts for the run."""

    @property
    def parent_chain(self) -> Sequence[ParentRun]:
        """The runs above this one, the outermost first; empty when no job has called it."""

    async def call_job(
        self,
        job: str,
        params: Mapping[str, Any] | None = None,
        *,
        wait: bool = True,
        check: bool = True,
    ) -> CalledRun:
        """Start a run of another job as a child of this one, and wait for its end (J27).

        `params` go over those the job declares; they are kept in history, so they hold no
        secrets. The wait takes no place in the worker. When this step ends, runs it still waits
        for are aborted; one started with `wait=False` goes on by itself, whatever becomes of
        this run. A dry run starts nothing.

        StepError when there is no such job, its parameters do not fit, its overlap policy has no
        room, jobs call each other in a circle or too deep, or one would wait for a lock for ever;
        with `check` also when the run fails, is aborted, or may not run.
        """

    def previous_step(self, name: str) -> EarlierStep:
        """Any earlier step of this run by its name; StepError when there is none."""

    def progress(
        self,
        done: int,
        total: int | None = None,
        unit: str = "rows",
        message: str | None = None,
        **batch: Any,
    ) -> None:
        """Tell who is watching how far the step has come."""

    def is_cancelled(self) -> bool:
        """True once the step is to stop; a function that does not is killed a second later."""
