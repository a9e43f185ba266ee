"""What a function answered, as the copy wants it: lines for COPY, or values for SQLite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import compress
from operator import is_
from typing import Any, cast

from nomaflow.errors import StepError
from nomaflow.steps.copying import cells, lines
from nomaflow.steps.copying.cells import Texts
from nomaflow.steps.copying.function import packed
from nomaflow.steps.copying.function.given import Portion
from nomaflow.steps.copying.function.words import Column, Given, Wanted
from nomaflow.steps.copying.kinds import Word

Row = Mapping[str, Any]
# A value of these that the function gave back is the text it came as. Lists may have been changed,
# and bytes are spelled differently by each target.
_AS_THEY_CAME = frozenset(Word) - {Word.BYTES, Word.OTHER}
_FRACTIONS = frozenset({Word.DECIMAL, Word.FLOAT})
_EXACT = frozenset({int, str, bool, float, Decimal, type(None)})


class Writer:
    """Writes the answers of one copy; `name` is the function's, for errors."""

    def __init__(self, name: str, given: Given, wanted: Wanted) -> None:
        self._name = name
        self._wanted = wanted
        places = {field.name: number for number, field in enumerate(given.fields)}
        self._came = [
            places[column.field.name] if _may_stay(given, places, column, wanted) else None
            for column in wanted.columns
        ]
        self.names = frozenset(column.field.name for column in wanted.columns)

    def write(
        self, rows: Sequence[Row], kept: Sequence[bool] | None, portion: Portion, first_row: int
    ) -> bytes:
        """The rows that were kept (`kept` None: all of them).

        StepError naming row and column; KeyError for a row that lacks a column.
        """
        columns = [[row[column.field.name] for row in rows] for column in self._wanted.columns]
        where = _Place(first_row, kept)
        if self._wanted.form == "packed":
            for column, values in zip(self._wanted.columns, columns, strict=True):
                self._check(column, values, where)
            return packed.pack(columns)
        written: list[Sequence[str]] = []
        for column, values, came in zip(self._wanted.columns, columns, self._came, strict=True):
            if came is not None and portion.texts is not None:
                given, texts = portion.values[came], portion.texts[came]
                if kept is not None:
                    given, texts = list(compress(given, kept)), list(compress(texts, kept))
                if all(map(is_, values, given)):
                    plain = cast("Sequence[str]", texts) if portion.is_plain else None
                    written.append(plain or lines.escaped(texts))
                    continue
            written.append(lines.escaped(self._texts(column, values, where)))
        return lines.joined(written)

    def _texts(self, column: Column, values: Sequence[Any], where: _Place) -> Texts:
        field = column.field
        if self._wanted.is_strict and field.kind.word is not Word.TEXT:
            return where.strictly(column, values)
        kinds = set(map(type, values))
        if kinds == {str}:
            return values
        if kinds == {int}:
            return [*map(str, values)]
        self._check(column, values, where)
        return [None if value is None else self._text(column, value) for value in values]

    def _text(self, column: Column, value: Any) -> str:
        """Any text goes into a column of text; a kind of its own asks for its own values."""
        if column.is_whole and isinstance(value, Decimal | float) and value == value // 1:
            return str(int(value))
        if column.is_array and isinstance(value, list | tuple):
            return _array(value)
        if self._wanted.hex_prefix and isinstance(value, bytes | bytearray | memoryview):
            return self._wanted.hex_prefix + bytes(value).hex()
        return cells.text(value)

    def _check(self, column: Column, values: Sequence[Any], where: _Place) -> None:
        if set(map(type, values)) <= _EXACT:
            return
        for place, value in enumerate(values):
            if not packed.is_value(value):
                raise StepError(
                    f"a value of the type {type(value).__name__} cannot be copied into a table: "
                    f"{self._name} answered {value!r:.80} for {column.field.name!r} of row "
                    f"{where.row(place)}",
                    retryable=False,
                )


class _Place:
    """Which rows of the source the kept ones are."""

    def __init__(self, first_row: int, kept: Sequence[bool] | None) -> None:
        self._first_row = first_row
        self._kept = kept

    def row(self, place: int) -> int:
        if self._kept is None:
            return self._first_row + place
        return [row for row, kept in enumerate(self._kept, self._first_row) if kept][place]

    def strictly(self, column: Column, values: Sequence[Any]) -> Texts:
        """A column's texts, each of its own kind; StepError naming the row of one that is not."""
        try:
            return cells.texts(column.field, values, self._first_row)
        except StepError:
            if self._kept is None:
                raise
            some = iter(values)
            every = [next(some) if kept else None for kept in self._kept]
            cells.texts(column.field, every, self._first_row)  # raises with the row's own number
            raise


def _may_stay(given: Given, places: Mapping[str, int], column: Column, wanted: Wanted) -> bool:
    """Whether the text of a value that the function gave back is right in the target as it is."""
    place = places.get(column.field.name)
    if place is None or given.form != "lines":
        return False
    word, target = given.fields[place].kind.word, column.field.kind.word
    if wanted.is_strict and target not in {word, Word.TEXT}:
        return False
    return word in _AS_THEY_CAME and not (column.is_whole and word in _FRACTIONS)


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
