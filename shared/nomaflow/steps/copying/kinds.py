"""What columns hold, in words that PostgreSQL, MariaDB and SQLite share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Word(StrEnum):
    """A kind of value.

    A MOMENT is a time by the calendar without a zone, an INSTANT one of the whole world. OTHER is
    a type of one database only: its text form is all that others can hold.
    """

    BOOL = "boolean"
    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "date"
    TIME = "time"
    MOMENT = "timestamp"
    INSTANT = "timestamp with time zone"
    UUID = "uuid"
    JSON = "json"
    OTHER = "other"


FROM_FUNCTION = "from the function"
"""How a column is declared that a transform made."""

CLOCKS = frozenset({Word.TIME, Word.MOMENT, Word.INSTANT})
SPOKEN = frozenset({Word.TEXT, Word.JSON, Word.UUID, Word.OTHER})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value and its measure.

    `size`: bits of an integer or float, digits of a decimal, letters of a text, bytes of bytes,
    digits after the second of a time; `scale`: a decimal's digits after the point. None: no bound.
    """

    word: Word
    size: int | None = None
    scale: int | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A column of any database; `declared` is its type as that database spells it."""

    name: str
    kind: Kind
    declared: str
    not_null: bool = False
    has_default: bool = False
    generated: str = ""
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of any database: `sql` is its name for a statement, `shown` the one for people."""

    schema: str
    name: str
    sql: str
    fields: tuple[Field, ...]
    primary_key: tuple[str, ...] = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()
    estimated_rows: int | None = None
    is_view: bool = False

    @property
    def shown(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    @property
    def columns(self) -> tuple[Field, ...]:
        return self.fields

    def column(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)

    def row_key(self, copied: Sequence[str]) -> tuple[str, ...]:
        """Columns that name one row: the primary key, else a unique key that is never NULL."""
        for key in (self.primary_key, *self.unique_keys):
            fields = [self.column(name) for name in key]
            if key and all(f and f.not_null and f.name in copied for f in fields):
                return key
        return ()


@dataclass(frozen=True, slots=True)
class Passage:
    """One source column on its way into one target column."""

    source: Field
    target: Field


def needs_no_check(source: Kind, target: Kind) -> bool:
    """Whether every value of `source` is one of `target`, in the same words."""
    if source == target:
        return True
    if source.word == target.word:
        return _holds(target, source)
    match (source.word, target.word):
        case (Word.INTEGER, Word.DECIMAL):
            room = None if target.size is None else target.size - (target.scale or 0)
            digits = {8: 3, 16: 5, 32: 10, 64: 19}.get(source.size or 64, 20)
            return room is None or room >= digits
        case (Word.BOOL, Word.INTEGER):
            return True
        case (word, Word.TEXT):
            return target.size is None and word not in {Word.BYTES, Word.BOOL}
        case _:
            return False


def _holds(target: Kind, source: Kind) -> bool:
    if target.size is None:
        return target.scale is None or (source.scale or 0) <= target.scale
    if source.size is None:
        return False
    if target.word is Word.DECIMAL:
        whole = target.size - (target.scale or 0) >= source.size - (source.scale or 0)
        return whole and (target.scale or 0) >= (source.scale or 0)
    return target.size >= source.size
