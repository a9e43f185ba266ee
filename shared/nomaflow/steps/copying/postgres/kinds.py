"""PostgreSQL's types in the words that other databases share, and back."""

from __future__ import annotations

from nomaflow.steps.copying.kinds import CLOCKS, Field, Kind, Word
from nomaflow.steps.copying.postgres.catalog import Column

_WORDS: dict[str, Kind] = {
    "bool": Kind(Word.BOOL),
    "int2": Kind(Word.INTEGER, 16),
    "int4": Kind(Word.INTEGER, 32),
    "int8": Kind(Word.INTEGER, 64),
    "oid": Kind(Word.INTEGER, 64),
    "float4": Kind(Word.FLOAT, 32),
    "float8": Kind(Word.FLOAT, 64),
    "text": Kind(Word.TEXT),
    "name": Kind(Word.TEXT, 63),
    "citext": Kind(Word.TEXT),
    "bytea": Kind(Word.BYTES),
    "date": Kind(Word.DATE),
    "uuid": Kind(Word.UUID),
    "json": Kind(Word.JSON),
    "jsonb": Kind(Word.JSON),
}
_CLOCKS = {"time": Word.TIME, "timestamp": Word.MOMENT, "timestamptz": Word.INSTANT}
_HEADER = 4  # what a typmod of varchar and numeric counts besides the length
_MOST_LETTERS = 10_485_760
_MICROSECONDS = 6


def kind_of(column: Column) -> Kind:  # noqa: PLR0911  a line per family of types
    """What a column of PostgreSQL holds."""
    name, typmod = column.type_name, column.typmod
    if column.is_enum:
        return Kind(Word.TEXT, 63)
    if not column.is_builtin and name != "citext":
        return Kind(Word.OTHER)
    if name in _WORDS:
        return _WORDS[name]
    if name in {"varchar", "bpchar"}:
        return Kind(Word.TEXT, typmod - _HEADER if typmod >= 0 else None)
    if name == "numeric":
        if typmod < 0:
            return Kind(Word.DECIMAL)
        scale = (((typmod - _HEADER) & 0x7FF) ^ 1024) - 1024
        return Kind(Word.DECIMAL, ((typmod - _HEADER) >> 16) & 0xFFFF, scale)
    if name in _CLOCKS:
        return Kind(_CLOCKS[name], typmod if typmod >= 0 else _MICROSECONDS)
    return Kind(Word.OTHER)


def field_of(column: Column) -> Field:
    """The column in shared words."""
    return Field(
        column.name,
        kind_of(column),
        column.declared,
        column.not_null,
        column.has_default,
        column.generated,
        column.identity,
    )


def declared(kind: Kind) -> str:  # noqa: PLR0911  a line per word
    """The type that holds every value of a kind."""
    match kind.word:
        case Word.INTEGER:
            small = {8: "smallint", 16: "smallint", 32: "integer"}
            return small.get(kind.size or 64, "bigint")
        case Word.DECIMAL:
            return "numeric" if kind.size is None else f"numeric({kind.size}, {kind.scale or 0})"
        case Word.FLOAT:
            return "real" if kind.size == 32 else "double precision"  # noqa: PLR2004  bits
        case Word.TEXT:
            fits = kind.size is not None and 0 < kind.size <= _MOST_LETTERS
            return f"varchar({kind.size})" if fits else "text"
        case Word.BYTES:
            return "bytea"
        case Word.OTHER:
            return "text"
        case word if word in CLOCKS:
            plain = {Word.TIME: "time", Word.MOMENT: "timestamp", Word.INSTANT: "timestamptz"}[word]
            return plain if kind.size is None else f"{plain}({min(kind.size, _MICROSECONDS)})"
        case word:
            return str(word)
