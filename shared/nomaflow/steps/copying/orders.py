"""What a copy is asked to do, and what became of it, whichever databases it is between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nomaflow.errors import StepError
from nomaflow.steps.base import StepRunContext
from nomaflow.steps.copying.settings import Source, Target

Mode = Literal["overwrite", "append", "upsert"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold before a copy is kept."""

    min_rows: int
    max_delete: str | int | None
    check_rows: bool

    def deletable(self, rows: int) -> int | None:
        """How many of the target's `rows` may vanish; None: any number."""
        if isinstance(self.max_delete, str):
            return int(rows * float(self.max_delete.removesuffix("%")) / 100)
        return self.max_delete

    def check_deleted(self, vanished: int, rows_before: int, shown: str) -> None:
        """StepError when more rows would vanish than may."""
        limit = self.deletable(rows_before)
        if limit is not None and vanished > limit:
            raise StepError(
                f"{vanished} rows would vanish from {shown}, and max_delete = {self.max_delete} "
                f"allows {limit}; nothing was changed",
                retryable=False,
            )

    def check_passed(self, passed: Passed, source: str, target: str) -> None:
        """StepError for too few rows, or for rows that were lost on the way."""
        self._check_enough(passed.read, source)
        if self.check_rows and passed.read - passed.dropped != passed.written:
            raise StepError(
                f"{passed.read - passed.dropped} rows left the source and {passed.written} arrived "
                f"in {target}; nothing was kept"
            )

    def refusal(self, plan: Plan, source: str) -> str | None:
        """Why a real run of `plan` would stop at one of these, as far as a dry run can count."""
        try:
            self._check_enough(plan.source_rows, source)
            if plan.changes is not None:
                self.check_deleted(plan.changes.deleted, plan.target_rows, plan.target)
        except StepError as error:
            return error.message
        return None

    def _check_enough(self, rows: int, source: str) -> None:
        if rows < self.min_rows:
            raise StepError(
                f"the source ({source}) has {rows} rows, fewer than min_rows = {self.min_rows}; "
                "nothing was changed",
                retryable=False,
            )


@dataclass(frozen=True, slots=True)
class Dress:
    """How values are changed on the way, by SQL of the source (`type_coercion` and its like)."""

    jde: bool = False
    truncate: bool = False
    strip: tuple[str, ...] = ()
    trim: bool = False
    coalesce: bool = False

    def __bool__(self) -> bool:
        return self.jde or bool(self.strip) or self.trim or self.coalesce


@dataclass(frozen=True, slots=True)
class Orders:
    """The step's settings, as the rooms of a copy need them."""

    ctx: StepRunContext
    source: Source
    target: Target
    mode: Mode
    columns: Mapping[str, str]
    limits: Limits
    batch_size: int
    streams: Literal["auto", 1, 2, 4] = "auto"
    transform: str | None = None
    dress: Dress = field(default_factory=Dress)


@dataclass(frozen=True, slots=True)
class Passed:
    """How many rows left the source, how many a transform dropped, how many the target took."""

    read: int
    written: int
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of the target's rows."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def total(self) -> int:
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a copy did; `path` says how the rows became visible."""

    passed: Passed
    path: str
    changes: Changes


@dataclass(frozen=True, slots=True)
class Plan:
    """What a copy would do: the path it would take and why, and the rows as far as known.

    `changes` is counted by the keys of both sides and None where no column names a row.
    """

    target: str
    path: str
    why: str
    source_rows: int
    target_rows: int
    changes: Changes | None = None
    is_new: bool = False

    def output(self) -> dict[str, Any]:
        """The step's output in a dry run."""
        found: dict[str, Any] = {
            "dry_run": True,
            "source_rows": self.source_rows,
            "target_rows": self.target_rows,
            "path": self.path,
            "why": self.why,
        }
        if self.changes is not None:
            found |= {
                "would_insert": self.changes.inserted,
                "would_update_at_most": self.changes.updated,
                "would_delete": self.changes.deleted,
            }
        return found
