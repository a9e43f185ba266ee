"""How SQLite keeps each value of a source column, and which values it would silently change.

A column's type is only an inclination (its affinity): text that looks like a number becomes one
in a NUMERIC column, with 15 digits; a NaN becomes NULL (sqlite.org/datatype3.html).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from nomaflow.errors import StepError
from nomaflow.steps.copying import cells
from nomaflow.steps.copying.kinds import CLOCKS, FROM_FUNCTION, Field, Kind, Passage, Word
from nomaflow.steps.copying.sqlite.catalog import affinity

_DIGITS = 15
_MOST_EXPONENT = 300
_LEAST, _MOST = -(2**63), 2**63 - 1
_EXACT_FLOAT = 2**53
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_NUMBERS = frozenset({Word.INTEGER, Word.DECIMAL, Word.FLOAT, Word.BOOL})
_DATES = CLOCKS | {Word.DATE}

Convert = Callable[[Any], Any]


class _Misfit(Exception):
    """A value that the target column would change; its words say why."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What happens to one column's values; `convert` None: they are kept as they come."""

    passage: Passage
    convert: Convert | None

    def held(self, values: Sequence[Any], first_row: int) -> Sequence[Any]:
        """A batch's column as SQLite keeps it; StepError naming row, column and value."""
        if self.convert is None:
            return values
        kept = []
        for place, value in enumerate(values):
            try:
                kept.append(None if value is None else self.convert(value))
            except _Misfit as misfit:
                raise self._error(value, first_row + place, str(misfit)) from None
        return kept

    def _error(self, value: Any, row: int, why: str) -> StepError:
        target = self.passage.target
        into = f"which the target column {target.name!r} ({target.declared}) cannot hold: {why}"
        return cells.misfit(self.passage.source, value, row, into)


def holder(passage: Passage) -> Holder:
    """Decide for one pair; StepError for types between which a value could change unseen."""
    source, target = passage.source, passage.target
    if not _may(source.kind.word, target.kind.word):
        raise StepError(
            f"the source column {source.name!r} ({source.declared}) cannot be copied into the "
            f"target column {target.name!r} ({target.declared}); convert it in `source.query`, or "
            "change the target"
        )
    inclined = affinity(target.declared)
    word = source.kind.word
    if source.declared == FROM_FUNCTION:
        return Holder(passage, _converter(target.kind.word, inclined))
    if word is Word.BYTES:
        return Holder(passage, bytes)
    if word is Word.INTEGER and inclined in {"INTEGER", "NUMERIC", "BLOB"}:
        return Holder(passage, None)
    if word is Word.FLOAT and inclined != "TEXT":
        return Holder(passage, None)
    if word is Word.TEXT and inclined in {"TEXT", "BLOB"}:
        return Holder(passage, None)
    return Holder(passage, _converter(target.kind.word, inclined))


def _may(source: Word, target: Word) -> bool:
    if source in {Word.TEXT, Word.OTHER} or target in {Word.OTHER, source}:
        return True
    if target is Word.TEXT:
        return source is not Word.BYTES
    if target in _NUMBERS:
        return source in _NUMBERS
    return source in _DATES and target in _DATES and (source is Word.TIME) is (target is Word.TIME)


def _converter(target: Word, inclined: str) -> Convert:
    def convert(value: Any) -> Any:
        match value:
            case bool() | int():
                return _integer(int(value), inclined)
            case float():
                return _float(value, inclined)
            case Decimal():
                return _decimal(value, inclined)
            case bytes() | bytearray() | memoryview():
                if target not in {Word.BYTES, Word.OTHER}:
                    raise _Misfit("bytes are no text")
                return bytes(value)
            case str():
                return _text(value, target, inclined)
            case datetime() | date() | time() | timedelta() | UUID() | dict() | list() | tuple():
                return _text(cells.text(value), target, inclined)
            case _:
                raise _Misfit(f"a {type(value).__name__} has no form there")

    return convert


def _integer(value: int, inclined: str) -> Any:
    if inclined == "TEXT":
        return str(value)
    if not _LEAST <= value <= _MOST:
        raise _Misfit("SQLite's integers have 64 bits")
    if inclined == "REAL" and abs(value) > _EXACT_FLOAT:
        raise _Misfit("a REAL has 53 bits")
    return value


def _float(value: float, inclined: str) -> Any:
    if math.isnan(value):
        raise _Misfit("SQLite takes a NaN for NULL")
    return cells.text(value) if inclined == "TEXT" else value


def _decimal(value: Decimal, inclined: str) -> Any:
    if inclined in {"TEXT", "BLOB"}:
        return cells.text(value)
    if not value.is_finite():
        raise _Misfit("SQLite's numbers are finite")
    if value == value.to_integral_value() and _LEAST <= value <= _MOST:
        return _integer(int(value), inclined)
    digits = value.normalize().as_tuple().digits
    if len(digits) > _DIGITS or abs(value.adjusted()) > _MOST_EXPONENT:
        raise _Misfit(f"SQLite's numbers keep {_DIGITS} digits; a TEXT column keeps all")
    return float(value)


def _text(value: str, target: Word, inclined: str) -> Any:
    if inclined in {"TEXT", "BLOB"} and target not in _NUMBERS:
        return value
    if target in _NUMBERS:
        return _number(value, target, inclined)
    if _NUMBER.fullmatch(value):
        raise _Misfit("SQLite would make a number of it")
    return value


def _number(value: str, target: Word, inclined: str) -> Any:
    if inclined in {"TEXT", "BLOB"}:
        return value
    if not _NUMBER.fullmatch(value):
        raise _Misfit("it is no number")
    if target is Word.FLOAT:
        return float(value)
    try:
        found = Decimal(value.strip())
    except InvalidOperation:
        raise _Misfit("it is no number") from None
    if target is not Word.DECIMAL and found != found.to_integral_value():
        raise _Misfit("it is no whole number")
    return _decimal(found, inclined)


def declared(kind: Kind) -> str:  # noqa: C901, PLR0911  a line per word
    """The type for a new column: words that tools know, with an affinity that changes nothing."""
    match kind.word:
        case Word.BOOL:
            return "BOOLEAN"
        case Word.INTEGER:
            return {8: "SMALLINT", 16: "SMALLINT", 32: "INTEGER"}.get(kind.size or 64, "BIGINT")
        case Word.DECIMAL:
            if kind.size is not None and kind.size <= _DIGITS:
                return f"DECIMAL({kind.size},{kind.scale or 0})"
            return "DECIMAL TEXT"
        case Word.FLOAT:
            return "REAL" if kind.size == 32 else "DOUBLE"  # noqa: PLR2004  bits
        case Word.TEXT:
            return f"VARCHAR({kind.size})" if kind.size else "TEXT"
        case Word.BYTES:
            return "BLOB"
        case Word.INSTANT:
            return "TIMESTAMP WITH TIME ZONE"
        case Word.JSON:
            return "JSON TEXT"
        case Word.OTHER:
            return "TEXT"
        case word:
            return word.upper()


def field(source: Field, name: str) -> Field:
    """A new target's column for a source column."""
    made = "" if source.declared == "no type" else declared(source.kind)
    word = Word.TEXT if source.kind.word is Word.OTHER else source.kind.word
    return Field(name, Kind(word), made, source.not_null, has_default=True)
