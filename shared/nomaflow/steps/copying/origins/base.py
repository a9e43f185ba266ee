"""What every source of a copy can tell and give, whichever database it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from nomaflow.connectors.sql import SqlConnector
from nomaflow.steps.copying import cells, lines
from nomaflow.steps.copying.kinds import Field, Word

Put = Callable[[bytes], Awaitable[None]]
Rows = Sequence[Sequence[Any]]


class Wanted(Protocol):
    """A column of the target, of whichever database."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a target reads the text of values that databases spell differently."""

    hex_prefix: str = ""
    zone: str = "+00:00"
    arrays_as_json: bool = True


POSTGRES = Spelling(hex_prefix="\\x")
MYSQL = Spelling(zone="")
FUNCTION = Spelling(arrays_as_json=False)


class Origin(ABC):
    """A described source. `dropped` counts rows that a transform did not pass on."""

    dialect: str
    shown: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] = ()
    dropped: int = 0
    letters: Mapping[str, int]
    """Columns whose texts may have so many letters and no more, where `send` looks at them."""

    looks_at_letters = False
    holds_anything = False
    """Whether a column may hold values that are not of its kind."""

    def __init__(self) -> None:
        self.letters = {}

    def field(self, name: str) -> Field:
        return next(field for field in self.fields if field.name == name)

    async def estimate(self) -> int | None:
        """About how many rows there are, or None."""
        return None

    @abstractmethod
    async def count(self) -> int:
        """How many rows there are now."""

    @abstractmethod
    def rows(self, names: Sequence[str]) -> AsyncGenerator[Rows, None]:
        """The rows of these columns in one snapshot, by the batch: numbers, text, bytes, times."""

    async def send(self, names: Sequence[str], spelling: Spelling, put: Put) -> int:
        """Give the rows away as lines of COPY's text form; how many there were.

        StepError naming column, row and value for a value that is not of its column's kind.
        """
        fields = [self.field(name) for name in names]
        count = 0
        async with aclosing(self.rows(names)) as batches:
            async for batch in batches:
                columns = cells.transposed(batch, len(fields))
                pairs = zip(fields, columns, strict=True)
                written = [self._cells(*pair, spelling, count + 1) for pair in pairs]
                await put(lines.joined(written))
                count += len(batch)
        return count

    def _cells(
        self, field: Field, column: Sequence[Any], spelling: Spelling, first_row: int
    ) -> Sequence[str]:
        if field.kind.word is Word.INTEGER and set(map(type, column)) == {int}:
            return list(map(str, column))  # nothing of it is to be escaped
        texts = _spelled(field, cells.texts(field, column, first_row), spelling)
        if (most := self.letters.get(field.name)) is not None:
            cells.check_letters(field, texts, most, first_row)
        return lines.escaped(texts)

    async def close(self) -> None:  # noqa: B027  most have nothing to give back
        """Nothing more is asked of it."""


_SAMPLE = 20
_PORTION_BYTES = 500_000


async def batch_size(
    connector: SqlConnector, select: str, params: Mapping[str, Any], most: int
) -> int:
    """How many rows make half a megabyte, by the width of the first few; at most `most`."""
    count = width = 0
    async with aclosing(connector.batches(f"{select}\nLIMIT {_SAMPLE}", params, 1)) as found:
        async for _, rows in found:
            count += len(rows)
            width += sum(
                len(cell) if isinstance(cell, str | bytes) else 8 for row in rows for cell in row
            )
            if width > _PORTION_BYTES:
                break
    return max(1, min(most, _PORTION_BYTES * max(count, 1) // max(width, 1)))


def _spelled(field: Field, texts: cells.Texts, spelling: Spelling) -> cells.Texts:
    match field.kind.word:
        case Word.BYTES if spelling.hex_prefix:
            return [None if cell is None else spelling.hex_prefix + cell for cell in texts]
        case Word.INSTANT if spelling.zone != "+00:00":
            return [None if cell is None else in_utc(cell, spelling.zone) for cell in texts]
        case _:
            return texts


def in_utc(cell: str, zone: str) -> str:
    """An instant in UTC with the target's way of saying so."""
    if not cell.endswith("+00:00"):
        cell = cells.text(datetime.fromisoformat(cell))
    return cell.removesuffix("+00:00") + zone
