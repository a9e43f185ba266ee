"""A source whose rows pass through a function of the project's plugins, some rows at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from nomaflow.errors import FunctionError, StepError
from nomaflow.steps.base import PythonCall
from nomaflow.steps.copying import cells, lines
from nomaflow.steps.copying.kinds import FROM_FUNCTION, Field, Kind, Word
from nomaflow.steps.copying.orders import Orders
from nomaflow.steps.copying.origins.base import POSTGRES, Origin, Put, Rows, Spelling, Wanted

_CELLS_PER_CALL = 50_000
"""Rows times columns that one call of the child gets: a few megabytes at most."""

_TEXT = Kind(Word.TEXT)
# What a new target's column holds when a function made it, by the class of its first value.
_NEW: tuple[tuple[type, Kind], ...] = (
    (bool, Kind(Word.BOOL)),
    (int, Kind(Word.INTEGER, 64)),
    (float, Kind(Word.FLOAT, 64)),
    (bytes, Kind(Word.BYTES)),
    (Decimal, Kind(Word.DECIMAL)),
    (datetime, Kind(Word.MOMENT, 6)),
    (date, Kind(Word.DATE)),
    (UUID, Kind(Word.UUID)),
    (dict, Kind(Word.JSON)),
    (list, Kind(Word.JSON)),
)


@dataclass(frozen=True, slots=True)
class _Batch:
    first_row: int
    rows: list[dict[str, Any] | None]


class Transformed(Origin):
    """The rows that the function answers; its first batch is called when the copy is prepared.

    The keys of the first row it answers are the columns; every later row has the same ones.
    """

    def __init__(self, orders: Orders, inner: Origin, wanted: Mapping[str, Wanted] | None) -> None:
        super().__init__()
        self._orders = orders
        self._inner = inner
        self._wanted = wanted
        self._names = tuple(field.name for field in inner.fields)
        self._batches = self._called()
        self._first: list[_Batch] = []
        self.dialect = inner.dialect
        self.shown = inner.shown
        self.key = inner.key

    @classmethod
    async def opened(
        cls, orders: Orders, inner: Origin, wanted: Sequence[Wanted] | None
    ) -> Transformed:
        """Call the function until it has answered a row, or there are no more."""
        targets = {orders.columns.get(column.name, column.name): column for column in wanted or ()}
        made = cls(orders, inner, None if wanted is None else targets)
        sample: dict[str, Any] | None = None
        async for batch in made._batches:
            made._first.append(batch)
            sample = next((row for row in batch.rows if row is not None), None)
            if sample is not None:
                break
        made.fields = made._fields(sample)
        made.key = inner.key if set(inner.key) <= {field.name for field in made.fields} else ()
        return made

    def _fields(self, sample: dict[str, Any] | None) -> tuple[Field, ...]:
        inner = {field.name: field for field in self._inner.fields}
        names = tuple(sample) if sample is not None else tuple(inner)
        found = []
        for name in names:
            if not isinstance(name, str):
                raise self._error(f"answered a row with the key {name!r}; column names are text")
            old = inner.get(name)
            if self._wanted is not None:
                kind = getattr(self._wanted.get(name), "kind", _TEXT)
                found.append(Field(name, kind if isinstance(kind, Kind) else _TEXT, FROM_FUNCTION))
            elif old is not None:
                found.append(replace(old, not_null=name in self._inner.key))
            else:
                value = (sample or {})[name]
                kind = next((kind for made, kind in _NEW if isinstance(value, made)), _TEXT)
                found.append(Field(name, kind, FROM_FUNCTION))
        return tuple(found)

    async def estimate(self) -> int | None:
        return await self._inner.estimate()

    async def count(self) -> int:
        return await self._inner.count()

    async def close(self) -> None:
        await self._batches.aclose()

    async def rows(self, names: Sequence[str]) -> AsyncGenerator[Rows, None]:
        async with aclosing(self._answered()) as batches:
            async for batch in batches:
                yield [[row[name] for name in names] for row in batch.rows if row is not None]

    async def send(self, names: Sequence[str], spelling: Spelling, put: Put) -> int:
        count = 0
        fields = [self.field(name) for name in names]
        async with aclosing(self._answered()) as batches:
            async for batch in batches:
                count += len(batch.rows)
                kept = [row for row in batch.rows if row is not None]
                if not kept:
                    continue
                columns = [
                    self._texts(field, [row[field.name] for row in kept], batch, spelling)
                    for field in fields
                ]
                await put(lines.encode(columns))
        return count

    def _texts(
        self, field: Field, values: list[Any], batch: _Batch, spelling: Spelling
    ) -> cells.Texts:
        """Any text goes into a column of text; a kind of its own asks for its own values."""
        if spelling is not POSTGRES and field.kind.word is not Word.TEXT:
            return cells.texts(field, values, batch.first_row)
        as_array, as_whole = self._is_array(field), self._is_whole(field)
        return [
            None
            if value is None
            else str(int(value))
            if as_whole and isinstance(value, Decimal | float) and value == value // 1
            else _array(value)
            if as_array and isinstance(value, list | tuple)
            else "\\x" + value.hex()
            if isinstance(value, bytes) and spelling is POSTGRES
            else cells.text(value)
            for value in values
        ]

    def _is_array(self, field: Field) -> bool:
        column = (self._wanted or {}).get(field.name)
        return getattr(column, "type_name", field.declared[-2:]).startswith(("_", "[]"))

    def _is_whole(self, field: Field) -> bool:
        column = (self._wanted or {}).get(field.name)
        return getattr(column, "type_name", "") in {"int2", "int4", "int8"}

    async def _answered(self) -> AsyncGenerator[_Batch, None]:
        expected = {field.name for field in self.fields}
        first, self._first = self._first, []
        for batch in first:
            yield self._checked(batch, expected)
        async for batch in self._batches:
            yield self._checked(batch, expected)

    def _checked(self, batch: _Batch, expected: set[str]) -> _Batch:
        for place, row in enumerate(batch.rows):
            if row is None:
                self.dropped += 1
            elif row.keys() != expected:
                odd = sorted(map(str, row.keys() ^ expected))
                raise self._error(
                    f"answered other columns for row {batch.first_row + place} than before "
                    f"({', '.join(odd)}); every row needs the same keys"
                )
        return batch

    async def _called(self) -> AsyncGenerator[_Batch, None]:
        size = max(1, min(self._orders.batch_size, _CELLS_PER_CALL // len(self._names)))
        waiting: list[Sequence[Any]] = []
        seen = 0
        async with aclosing(self._inner.objects(self._names)) as batches:
            async for batch in batches:
                waiting.extend(batch)
                while len(waiting) >= size:
                    now, waiting = waiting[:size], waiting[size:]
                    yield await self._call(now, seen + 1)
                    seen += len(now)
        if waiting:
            yield await self._call(waiting, seen + 1)

    async def _call(self, rows: Sequence[Sequence[Any]], first_row: int) -> _Batch:
        given = [dict(zip(self._names, row, strict=True)) for row in rows]
        call = PythonCall(str(self._orders.transform), {}, (), 1024, 0, rows=given)
        try:
            answered = await self._orders.ctx.call_python(call)
        except FunctionError as error:
            if error.failure.type == "StepError" and not error.retryable:
                raise  # its sentence says all there is
            raise _of_rows(error, first_row, len(rows)) from error
        except StepError as error:
            if error.output or error.retryable:
                raise StepError(
                    f"{error.message} (rows {first_row} to {first_row + len(rows) - 1})",
                    category=error.category,
                ) from error
            raise
        if not isinstance(answered, list) or len(answered) != len(rows):
            raise self._error("did not answer once for each row")
        return _Batch(first_row, answered)

    def _error(self, words: str) -> StepError:
        return StepError(f"{self._orders.transform} {words}", retryable=False)


def _of_rows(error: FunctionError, first_row: int, count: int) -> FunctionError:
    """The same with the rows that were given, and the class: a KeyError's words are just a key."""
    failure = error.failure
    words = failure.message if failure.type == "StepError" else f"{failure.type}: {failure.message}"
    words += f" (rows {first_row} to {first_row + count - 1})"
    return FunctionError(replace(failure, message=words), error.output)


def _array(value: Sequence[Any]) -> str:
    """A list as PostgreSQL writes an array."""
    return "{" + ",".join(_element(part) for part in value) + "}"


def _element(part: Any) -> str:
    if part is None:
        return "NULL"
    if isinstance(part, list | tuple):
        return _array(part)
    escaped = cells.text(part).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
