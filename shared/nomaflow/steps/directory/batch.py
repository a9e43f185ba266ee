"""Rows on their way from a directory to a target, column by column, and those that do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nomaflow.errors import StepError
from nomaflow.steps.base import StepLog

Text = str | None
MOST_FAILURES = 1_000
_LOGGED = 20
_KEPT = 10


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows: the name of each row's entry, and a list of values for each column."""

    names: Sequence[str]
    columns: Sequence[Sequence[Text]]

    def __len__(self) -> int:
        return len(self.names)

    def part(self, start: int, stop: int) -> Batch:
        """The rows from `start` up to `stop`."""
        return Batch(self.names[start:stop], [column[start:stop] for column in self.columns])

    def halves(self) -> tuple[Batch, Batch]:
        """Both halves of a batch of two rows or more."""
        middle = len(self) // 2
        return self.part(0, middle), self.part(middle, len(self))

    def only(self, wanted: Sequence[bool]) -> Batch:
        """The rows that are wanted."""

        def kept(values: Sequence[Text]) -> list[Text]:
            return [value for value, is_wanted in zip(values, wanted, strict=True) if is_wanted]

        names = [name for name, is_wanted in zip(self.names, wanted, strict=True) if is_wanted]
        return Batch(names, [kept(column) for column in self.columns])

    def rows(self) -> Iterator[tuple[str, tuple[Text, ...]]]:
        """Each entry's name and values."""
        return zip(self.names, zip(*self.columns, strict=True), strict=True)


@dataclass(slots=True)
class Failures:
    """Entries that could not become rows: counted, the first ones told, the others go on."""

    log: StepLog
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, name: str, why: str) -> None:
        """Remember one; StepError when there are so many that the mapping must be wrong."""
        self.count += 1
        said = f"{name}: {why}"
        if len(self.examples) < _KEPT:
            self.examples.append(said[:500])
        if self.count <= _LOGGED:
            self.log.warning(f"the entry is left out: {said}")
        if self.count == _LOGGED + 1:
            self.log.warning("more entries are left out; only their number is told at the end")
        if self.count >= MOST_FAILURES:
            raise StepError(
                f"{self.count} entries do not fit the target, the first one {self.examples[0]}; "
                "nothing was changed",
                retryable=False,
            )
