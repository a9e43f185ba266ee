"""What a step could not write: kept whole, and handed out again by the run that retries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class FailedItems:
    """Items of one batch that could not be written, kept whole for a later retry.

    With `request` they could not even be read: that is what to ask for again.
    """

    page: int | None
    batch: int
    items: Sequence[Any]
    error: str
    request: Mapping[str, Any] | None = None


class DueBatch(Protocol):
    """A failed batch of an earlier run that this run is to write."""

    @property
    def batch(self) -> int: ...

    async def read(self) -> FailedItems:
        """What was kept of it; StepError when a secret was taken out of that."""

    async def settle(self, error: str | None, left: Sequence[Any] | None = None) -> None:
        """Write down how it went: None is done; `left` are the items that are still to be written.

        Without `left`, all that was kept is.
        """
