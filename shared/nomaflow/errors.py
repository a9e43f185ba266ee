"""What went wrong: a code for programs, a sentence for people; the rest is an internal error.

NomaflowError        the caller's mistake or a refusal, with the place in the input
StepError            a step could not do its deed; the retry policy looks at its category
Failure              what history keeps of an exception
FunctionError        a StepError that happened in another process, with the Failure made there
"""

from __future__ import annotations

import traceback as tracebacks
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

Category = Literal["error", "timeout", "connection"]


class Code(StrEnum):
    """The machine's word for a refusal; the same words are the API's ErrorCode."""

    INVALID = "INVALID"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    CONFLICT = "CONFLICT"
    INVALID_STATE = "INVALID_STATE"
    BUSY = "BUSY"
    FORBIDDEN = "FORBIDDEN"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    IN_USE = "IN_USE"
    CYCLE = "CYCLE"
    UNAVAILABLE = "UNAVAILABLE"


class NomaflowError(Exception):
    """A refusal that names its reason and its place."""

    def __init__(self, code: Code, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = path


class StepError(Exception):
    """A step's deed failed in a way the step understands.

    `category` is what `retry_on` names; `retryable=False` ends the step whatever its policy
    says; `retry_after` is the server's own wish in seconds; `output` is kept in history.
    """

    def __init__(
        self,
        message: str,
        *,
        category: Category = "error",
        retryable: bool = True,
        retry_after: float | None = None,
        output: dict[str, Any] | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.category: Category = category
        self.retryable = retryable
        self.retry_after = retry_after
        self.output = output
        self.http_status = http_status

    def reworded(self, message: str) -> StepError:
        """The same failure in other words."""
        return StepError(
            message,
            category=self.category,
            retryable=self.retryable,
            retry_after=self.retry_after,
            output=self.output,
            http_status=self.http_status,
        )


class ClaimLostError(StepError):
    """The run is someone else's now: nothing more may be done in its name."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as history keeps it: class name, sentence, traceback (X29)."""

    type: str
    message: str
    traceback: str | None = None
    retryable: bool = True
    category: Category = "error"
    retry_after: float | None = None
    http_status: int | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe `error`; a StepError brings its own facts and needs no traceback."""
        if isinstance(error, FunctionError):
            return error.failure
        if isinstance(error, StepError):
            return cls(
                type=type(error).__name__,
                message=error.message,
                retryable=error.retryable,
                category=error.category,
                retry_after=error.retry_after,
                http_status=error.http_status,
            )
        if isinstance(error, NomaflowError):
            return cls(type=type(error).__name__, message=error.message, retryable=False)
        category: Category = "error"
        if isinstance(error, TimeoutError):
            category = "timeout"
        elif isinstance(error, ConnectionError):
            category = "connection"
        return cls(
            type=type(error).__name__,
            message=_said_by(error) or type(error).__name__,
            traceback="".join(tracebacks.format_exception(error)),
            category=category,
        )

    def as_json(self) -> dict[str, Any]:
        """The object stored in history and shown by the API."""
        return asdict(self)


def _said_by(error: BaseException) -> str:
    """What an exception says; one of the user's own may be unable to."""
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001  whatever its author did
        return f"its message cannot be written: {type(another).__name__}"


class FunctionError(StepError):
    """A plugin's function failed in its child process.

    `failure` names the exception's own class and holds the traceback of the user's code.
    """

    def __init__(self, failure: Failure, output: dict[str, Any] | None = None) -> None:
        super().__init__(
            failure.message,
            category=failure.category,
            retryable=failure.retryable,
            retry_after=failure.retry_after,
            output=output,
            http_status=failure.http_status,
        )
        self.failure = failure
