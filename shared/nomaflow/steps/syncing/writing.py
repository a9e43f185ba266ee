"""A batch on its way into its target: what every way of writing answers."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow.errors import StepError


@dataclass(frozen=True, slots=True)
class Written:
    """What one batch did; rows that share a key count once."""

    inserted: int
    updated: int


class Writer(ABC):
    """Writes batches to one target, each all or nothing; `shown` is the target in words."""

    shown: str

    @abstractmethod
    async def write(self, columns: Sequence[Sequence[Any]]) -> Written:
        """Write one batch, given by column; StepError when none of it was written."""


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column of the target; `filled` when the database gives a value of its own."""

    name: str
    type: str
    not_null: bool
    filled: bool
    readonly: bool = False


def check_columns(
    table: str, found: Sequence[ColumnFacts], mapped: Collection[str], key: Collection[str]
) -> None:
    """Refuse a map that does not fit its table, before anything is asked for or written."""
    known = {column.name: column for column in found}
    for name in mapped:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {_listed(known)}"
            raise StepError(
                f"the map fills the column `{name}`, which {table} does not have; {hint}",
                retryable=False,
            )
        if known[name].readonly:
            raise StepError(
                f"the map fills the column `{name}` of {table}, which the database computes itself",
                retryable=False,
            )
    for column in found:
        if column.not_null and not column.filled and column.name not in mapped:
            raise StepError(
                f"{table} needs a value for the column `{column.name}` (NOT NULL, no default), and "
                "the map does not fill it",
                retryable=False,
            )
    for name in key:
        if name not in known:
            raise StepError(
                f"the key column `{name}` is not in {table}; it has {_listed(known)}",
                retryable=False,
            )


def check_key(table: str, key: Sequence[str], unique: Sequence[Collection[str]]) -> None:
    """Refuse a key that no unique index holds: rows could not be told apart by it."""
    if any(set(columns) == set(key) for columns in unique):
        return
    columns = ", ".join(key)
    raise StepError(
        f"{table} has no unique index on ({columns}), which the key needs; make one with CREATE "
        f"UNIQUE INDEX ON {table} ({columns}), or name the columns of one it has",
        retryable=False,
    )


def check_key_values(
    columns: Sequence[Sequence[Any]], mapped: Sequence[str], key: Sequence[str]
) -> None:
    """Refuse rows without a key: each sync would insert them again."""
    for name in key:
        values = columns[mapped.index(name)]
        if None in values:
            raise StepError(
                f"item {values.index(None) + 1} of the batch has no value for the key column "
                f"`{name}`",
                retryable=False,
            )


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in list(names)[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "no columns"  # noqa: PLR2004  as above
