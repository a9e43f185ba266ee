"""What a step asks its worker to run: a function in a child process, or another job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A function of the project's plugins to call in a child process.

    `kwargs` are the step's own: one the function does not take is an error, while the job's
    other parameters are dropped when it does not take them. `env` lists the names of `.env`
    the child may read from `os.environ`. `memory_mb` and `cpu_seconds` bound the child (0: no
    bound on CPU time). With `rows` the function is called with each of them instead, as a dict,
    and what it answers goes to them; the call itself then has no value.
    """

    callable: str
    kwargs: Mapping[str, Any]
    env: tuple[str, ...]
    memory_mb: int
    cpu_seconds: int
    rows: RowTalk | None = None


class RowTalk(Protocol):
    """Rows that a function is called with one by one, for as long as there are any."""

    def given(self) -> Mapping[str, Any]:
        """What the process of the function must know of the rows before the first ones come."""

    def portions(self) -> AsyncIterator[bytes]:
        """The rows, some at a time; waits while enough are on their way."""

    async def wanted(self, made: Any) -> Mapping[str, Any]:
        """Hear which columns the function makes, as its process says; answers what is wanted."""

    async def answered(self, answer: bytes) -> None:
        """Take what became of one portion; waits while nobody has room for more."""


@dataclass(frozen=True, slots=True)
class JobCall:
    """Another job to run as a child of this run.

    `params` are written for a job that renders them once more: every `${` in them is escaped.
    `mark` tells the calls of one try apart: the same mark finds the same child. A `detached` one
    is not waited for, and outlives its parent.
    """

    job: str
    params: Mapping[str, Any]
    mark: str = ""
    detached: bool = False


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child run ended; `output` is whole, that of the last step that put one out."""

    run_id: UUID
    status: str
    reason: str | None
    rows_affected: int | None
    output: Mapping[str, Any]
