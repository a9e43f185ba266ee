"""One call of a script to the API: how long it may take, how often it is tried, what it came to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import httpx

from nomaflow.errors import Code
from nomaflow.outside.address import Address
from nomaflow.outside.refusals import ClientError, data_of, unreachable

T = TypeVar("T")

TIMEOUT, CONNECT_TIMEOUT = 30.0, 5.0
PATIENCE = 31.0
"""Seconds after which no new try begins: so long may a restart of the API take."""
BRIEF_TIMEOUT = 5.0
BRIEF_PATIENCE = 2.0
"""The same of a sign of life, which must not hold up the work that it tells of."""
WAITS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each new try while the API is away: a restart of it must not fail a script."""
_AWAY = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and what its answer means; `done` is the status that a lost answer left.

    `otherwise` answers instead of an error, or raises it; None: it is raised.
    """

    document: str
    variables: Mapping[str, Any]
    read: Callable[[Any], T]
    done: str | None = None
    otherwise: Callable[[ClientError], T] | None = None
    patience: float = PATIENCE
    seconds: float = TIMEOUT

    @property
    def timeout(self) -> httpx.Timeout:
        """How long one try may take."""
        return httpx.Timeout(self.seconds, connect=min(self.seconds, CONNECT_TIMEOUT))


def brief(call: Call[T]) -> Call[T]:
    """The same call, with less patience."""
    return replace(call, patience=BRIEF_PATIENCE, seconds=BRIEF_TIMEOUT)


def tries(place: Address, call: Call[T]) -> Iterator[Try[T]]:
    """Every try of a call; whoever carries it out ends with the one that settles it."""
    began = time.monotonic()
    for number, wait in enumerate((0.0, *WAITS)):
        yield Try(place, call, number, wait, began)


@dataclass(slots=True)
class Try(Generic[T]):
    """One try of a call, after a wait in seconds; `meaning` is what it came to."""

    place: Address
    call: Call[T]
    number: int
    wait: float
    began: float
    meaning: T | None = None

    @property
    def body(self) -> dict[str, Any]:
        return {"query": self.call.document, "variables": dict(self.call.variables)}

    @property
    def is_last(self) -> bool:
        """Whether the next one would begin too late, or there is none."""
        if self.number >= len(WAITS):
            return True
        return time.monotonic() - self.began + WAITS[self.number] > self.call.patience

    def settles(self, answer: httpx.Response | httpx.TransportError) -> bool:
        """Whether this answer, or that there is none, ends the call. Raises ClientError."""
        try:
            counts, self.meaning = self._read(answer)
        except ClientError as error:
            if self.call.otherwise is None:
                raise
            self.meaning = self.call.otherwise(error)
            return True
        return counts

    def _read(self, answer: httpx.Response | httpx.TransportError) -> tuple[bool, T | None]:
        if isinstance(answer, httpx.TransportError):
            if not self.is_last:
                return False, None
            why = str(answer) or type(answer).__name__
            raise unreachable(self.place, f"does not answer ({why})")
        if answer.status_code in _AWAY:
            if not self.is_last:
                return False, None
            raise unreachable(self.place, f"answers {answer.status_code}")
        payload = next(iter(data_of(self.place, answer).values()))
        problems = (payload or {}).get("errors") or []
        if problems and not (self.number and self._is_done(payload, problems[0])):
            first = problems[0]
            raise ClientError(
                Code(first["code"]), first["message"], tuple(first["path"]), reported=first["code"]
            )
        return True, self.call.read(payload)

    def _is_done(self, payload: Mapping[str, Any], problem: Mapping[str, Any]) -> bool:
        """Tell whether the try before this one was heard and only its answer lost."""
        ended = payload.get("run") and payload["run"]["status"] == self.call.done
        return problem["code"] == Code.INVALID_STATE and bool(ended)
