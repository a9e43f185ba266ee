"""Python values of a column as text that another database reads as the same value.

Each function takes the column of a batch whole: checks and conversions then run in C.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import Field, Word

Texts = Sequence[str | None]
_NONE = type(None)
_DAY_SECONDS = 86_400

# What a column of a kind may hold, and what else is told apart value by value.
_EXPECTED: dict[Word, frozenset[type]] = {
    Word.BOOL: frozenset({bool, int}),
    Word.INTEGER: frozenset({int, bool}),
    Word.DECIMAL: frozenset({Decimal, int, float, str}),
    Word.FLOAT: frozenset({float, int}),
    Word.TEXT: frozenset({str}),
    Word.BYTES: frozenset({bytes}),
    Word.DATE: frozenset({date, str}),
    Word.TIME: frozenset({time, timedelta, str}),
    Word.MOMENT: frozenset({datetime, str}),
    Word.INSTANT: frozenset({datetime, str}),
    Word.UUID: frozenset({UUID, str}),
    Word.JSON: frozenset({str}),
    Word.OTHER: frozenset({str, int, float, bool, Decimal}),
}


def texts(field: Field, values: Sequence[Any], first_row: int) -> Texts:
    """A column's values as texts in the neutral spelling: ISO times, bare hex, 1 and 0.

    StepError naming column, row and value for one that is not of the column's kind (SQLite keeps
    anything anywhere). `first_row` is the number of the batch's first row.
    """
    kinds = set(map(type, values))
    found = kinds - {_NONE}
    if not found <= _EXPECTED[field.kind.word]:
        _refuse(field, values, first_row)
    if not found:
        return values
    if found == {str}:
        return _spoken(field, values, first_row)
    if kinds == {int}:
        return list(map(str, values))
    return [None if value is None else text(value) for value in values]


def _spoken(field: Field, values: Sequence[Any], first_row: int) -> Texts:
    check = _SHAPES.get(field.kind.word)
    if check is not None:
        for place, value in enumerate(values):
            if value is not None and not check(value):
                raise misfit(field, value, first_row + place)
    return values


def _refuse(field: Field, values: Sequence[Any], first_row: int) -> None:
    expected = _EXPECTED[field.kind.word]
    for place, value in enumerate(values):
        if value is not None and type(value) not in expected:
            raise misfit(field, value, first_row + place)


def check_letters(field: Field, column: Texts, most: int, first_row: int) -> None:
    """StepError for a text that is longer: a target might cut blanks off its end silently."""
    if max(map(len, filter(None, column)), default=0) <= most:
        return
    for place, cell in enumerate(column):
        if cell is not None and len(cell) > most:
            why = f"which has more than the {most} letters of its target"
            raise misfit(field, cell, first_row + place, why)


def misfit(field: Field, value: Any, row: int, why: str = "") -> StepError:
    """The error for a value that is not what its column says."""
    shown = f"{value!r:.200}"
    reason = why or f"which is no {field.kind.word}"
    return StepError(
        f"row {row} of the source holds {shown} in the column {field.name!r} ({field.declared}), "
        f"{reason}; convert it in `source.query`"
    )


def text(value: Any) -> str:  # noqa: C901, PLR0911  a line per kind of value
    """One value, not None, in the neutral spelling."""
    match value:
        case str():
            return value
        case bool():
            return "1" if value else "0"
        case int():
            return str(value)
        case float():
            return _float(value)
        case Decimal():
            return _decimal(value)
        case datetime():
            return _moment(value)
        case date():
            return value.isoformat()
        case time():
            return value.isoformat()
        case timedelta():
            return _duration(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case Mapping() | list() | tuple():
            return json.dumps(value, ensure_ascii=False, allow_nan=False, default=text)
        case _:
            return str(value)


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _decimal(value: Decimal) -> str:
    if value.is_finite():
        return format(value, "f")
    return "NaN" if value.is_nan() else ("Infinity" if value > 0 else "-Infinity")


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat(" ")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ") + "+00:00"


def _duration(value: timedelta) -> str:
    sign = "-" if value < timedelta() else ""
    value = abs(value)
    seconds = value.days * _DAY_SECONDS + value.seconds
    fraction = f".{value.microseconds:06d}" if value.microseconds else ""
    return f"{sign}{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}{fraction}"


def _reads(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return check


def _naive(value: str) -> None:
    if datetime.fromisoformat(value).tzinfo is not None:
        raise ValueError


def _aware(value: str) -> None:
    if datetime.fromisoformat(value).tzinfo is None:
        raise ValueError


def _is_number(value: str) -> None:
    try:
        Decimal(value)
    except InvalidOperation:
        raise ValueError from None


def _is_json(value: str) -> None:
    json.loads(value)


# Text in a column that says it holds something else (SQLite has no such types of its own).
_SHAPES: dict[Word, Callable[[str], bool]] = {
    Word.DECIMAL: _reads(_is_number),
    Word.DATE: _reads(date.fromisoformat),
    Word.TIME: _reads(time.fromisoformat),
    Word.MOMENT: _reads(_naive),
    Word.INSTANT: _reads(_aware),
    Word.UUID: _reads(UUID),
    Word.JSON: _reads(_is_json),
}


def transposed(rows: Sequence[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    """Rows as columns."""
    return [[row[number] for row in rows] for number in range(width)]
