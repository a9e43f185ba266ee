"""`ctx.state`: the job's watermarks, and the moves a function proposes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from nomaflow.errors import StepError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LONGEST = 10_000
MOST = 1_000
"""Watermarks that one step may move; more are rows of a table."""


class State(Mapping[str, str]):
    """Reads as the watermarks were when the run began, plus what this function has set."""

    def __init__(
        self, kept: Mapping[str, str], propose: Callable[[str, str], object] = lambda *_: None
    ) -> None:
        self._kept = dict(kept)
        self._propose = propose
        self.proposed: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        return {**self._kept, **self.proposed}[name]

    def get(self, name: str, default: Any = None, /) -> Any:
        """The watermark, or the default when it was never set."""
        return {**self._kept, **self.proposed}.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._kept, **self.proposed})

    def __len__(self) -> int:
        return len({**self._kept, **self.proposed})

    def __repr__(self) -> str:
        return f"State({dict(self)!r})"

    def set(self, name: Any, value: Any) -> None:
        """Propose that the watermark `name` moves to `value`; written if the whole run succeeds.

        Kept as text: a time as RFC 3339 in UTC, a day as `2026-05-01`. A time without a zone is
        UTC. StepError for a name or a value that cannot be kept.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _refusal(
                f"{name!r:.80} is no name for a watermark: letters, digits, `_`, `-` and `.`"
            )
        text = as_text(name, value)
        if len(self.proposed) >= MOST and name not in self.proposed:
            raise _refusal(f"a step moves {MOST} watermarks at most")
        self.proposed[name] = text
        self._propose(name, text)


def as_text(name: str, value: object) -> str:
    """Write a watermark as it is kept; StepError when it has no such form."""
    match value:
        case bool() | None:
            raise _refusal(
                f"the watermark {name!r} cannot be {value}; set text, a number or a time"
            )
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            text = aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            text = value.isoformat()
        case str() | int() | float() | Decimal():
            text = str(value)
        case _:
            kind = type(value).__name__
            raise _refusal(
                f"the watermark {name!r} cannot be a {kind}; set text, a number or a time"
            )
    if len(text) > _LONGEST or "\0" in text:
        raise _refusal(
            f"the watermark {name!r} is longer than {_LONGEST} characters, or holds a NUL"
        )
    return text


def _refusal(sentence: str) -> StepError:
    return StepError(sentence, retryable=False)
