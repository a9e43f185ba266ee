"""What a copy and the process of its function tell each other before and beside the rows."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nomaflow.steps.copying.kinds import FROM_FUNCTION, Field, Kind, Word

HEAD = struct.Struct(">II")
"""Before each answer: how many rows were given, and how many of them the function kept."""


@dataclass(frozen=True, slots=True)
class Given:
    """The columns of the rows that are given, and how a portion of them is written.

    `lines`: COPY's text form in the neutral spelling. `values`: columns of Python's own values,
    for a source whose columns hold anything.
    """

    fields: tuple[Field, ...]
    form: Literal["lines", "values"]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def as_json(self) -> dict[str, Any]:
        fields = [[field.name, field.kind.word, field.declared] for field in self.fields]
        return {"form": self.form, "fields": fields}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Given:
        fields = (Field(name, Kind(Word(word)), made) for name, word, made in told["fields"])
        return cls(tuple(fields), told["form"])


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the answers: `is_whole` and `is_array` are of a PostgreSQL target."""

    field: Field
    is_whole: bool = False
    is_array: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the answers are to be written: lines of COPY's text form, or JSON with its kinds.

    `is_strict`: only values of a column's own kind go into it, since the server would take others
    for something; PostgreSQL says so by itself.
    """

    columns: tuple[Column, ...]
    form: Literal["lines", "packed"]
    hex_prefix: str = ""
    is_strict: bool = False

    def as_json(self) -> dict[str, Any]:
        columns = [
            [c.field.name, c.field.kind.word, c.field.kind.size, c.is_whole, c.is_array]
            for c in self.columns
        ]
        told = {"form": self.form, "hex_prefix": self.hex_prefix, "is_strict": self.is_strict}
        return {**told, "columns": columns}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Wanted:
        columns = (
            Column(Field(name, Kind(Word(word), size), FROM_FUNCTION), is_whole, is_array)
            for name, word, size, is_whole, is_array in told["columns"]
        )
        return cls(tuple(columns), told["form"], told["hex_prefix"], told["is_strict"])


def kinds_from_json(told: Any) -> dict[str, Kind] | None:
    """The columns of the first row that was kept; None for what a child of ours would not say."""
    if not isinstance(told, Sequence) or isinstance(told, str):
        return None
    found = {}
    for part in told:
        match part:
            case [str(name), str(word), int() | None as size] if word in set(Word):
                found[name] = Kind(Word(word), size)
            case _:
                return None
    return found
