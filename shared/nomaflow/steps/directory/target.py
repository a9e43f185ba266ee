"""What a directory's entries go to: a table that follows it, or a query told of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from nomaflow.errors import StepError
from nomaflow.steps.base import StepLog
from nomaflow.steps.counting import counted
from nomaflow.steps.directory.batch import Batch
from nomaflow.steps.directory.values import Kind

Deletion = Literal["none", "soft", "hard"]
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class TableSettings:
    """The table to fill, and what becomes of rows that the directory no longer has."""

    schema: str | None
    table: str
    key: tuple[str, ...]
    deletion: Deletion = "none"
    deletion_column: str | None = None
    deletion_value: bool | None = None
    max_delete: str | int = "10%"

    @property
    def shown(self) -> str:
        """The table's name for people."""
        return f"{self.schema}.{self.table}" if self.schema else self.table


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of the target's rows, or would become in a dry run.

    `examples` holds a few keys for each kind of change. A query says how many rows it wrote
    (`written`), and nobody knows which of them were new.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    written: int | None = None
    examples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    refusal: str | None = None
    """Why `apply` would refuse, in a plan."""


class Target(Protocol):
    """Takes rows while the directory is read, and changes nothing before `apply`."""

    async def kinds(self, columns: Sequence[str]) -> dict[str, Kind]:
        """What each column takes; StepError naming one that is not there."""

    async def offered(self) -> Sequence[str]:
        """The columns there are to fill, for a step that names none."""

    async def begin(self, columns: Sequence[str], *, rehearsal: bool) -> None:
        """Get ready for rows of these columns; a rehearsal ends with `plan`, not `apply`."""

    async def add(self, batch: Batch) -> None:
        """Take rows: one statement, unless some of them do not fit."""

    async def keep(self, batch: Batch) -> None:
        """Know of entries that are there although their rows cannot be written."""

    async def plan(self) -> Changes:
        """What `apply` would do."""

    async def apply(self) -> Changes:
        """Do it, all or nothing."""

    async def end(self) -> None:
        """Leave nothing behind."""


def check_deletion(settings: TableSettings, shown: str, gone: int, total: int) -> None:
    """StepError when more rows would go than `max_delete` allows; nothing was changed then."""
    limit = settings.max_delete
    allowed = limit if isinstance(limit, int) else int(total * float(limit[:-1]) / 100)
    if gone > allowed:
        verb = "flagged as gone" if settings.deletion == "soft" else "deleted"
        raise StepError(
            f"{counted(gone)} of {counted(total)} in {shown} would be {verb}, and "
            f"max_delete = {limit} allows {allowed}; nothing was changed. If the directory is "
            "right, raise max_delete for this run",
            retryable=False,
        )


def twice(log: StepLog, key: str, names: Sequence[str]) -> StepError:
    """Two entries claim one row: which of them is right is not ours to say."""
    log.error(f"one key, several entries: {key}", entries=list(names))
    return StepError(
        f"the entries {' and '.join(names[:3])} have the same key {key}; nothing was changed. "
        "Choose a key that names one entry, or a search_filter that finds one of them",
        retryable=False,
    )
