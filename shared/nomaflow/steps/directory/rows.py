"""From entries to rows: attributes go to their columns, what does not fit is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from nomaflow.connectors.ldap import ber as ldap_ber
from nomaflow.connectors.ldap.ber import Entry
from nomaflow.steps.directory.batch import Batch, Text
from nomaflow.steps.directory.values import Column, Unfit, converter

DN = "dn"
"""The pseudo-attribute that is the entry's own name."""


@dataclass(frozen=True, slots=True)
class Made:
    """What some entries became.

    `poor` holds those with a value that fits nowhere, None in its place: they say which entries
    there are, no more. `unfit` says why, by name.
    """

    rows: Batch
    poor: Batch
    unfit: Sequence[tuple[str, str]]


class RowMaker:
    """Turns entries into rows of the columns, in their order. Pure: it may run in a thread."""

    def __init__(self, columns: Sequence[Column], joiner: str) -> None:
        self._columns = columns
        self._places = places(columns)
        self._convert = [converter(column, joiner) for column in columns]

    def rows(self, entries: Sequence[Entry]) -> Made:
        """The rows of some entries."""
        names = [ldap_ber.words(entry.dn) for entry in entries]
        made: list[list[str | Unfit | None]] = []
        for column, convert in zip(self._columns, self._convert, strict=True):
            if column.attribute.lower() == DN:
                made.append(convert([entry.dn for entry in entries]))
            else:
                place = self._places[column.attribute]
                made.append(convert([entry.cells[place] for entry in entries]))
        unfit: dict[int, str] = {}
        for values in made:
            for at, value in enumerate(values):
                if type(value) is Unfit:
                    unfit.setdefault(at, value.why)
                    values[at] = None
        batch = Batch(names, cast("list[list[Text]]", made))
        if not unfit:
            return Made(batch, batch.part(0, 0), ())
        fits = [at not in unfit for at in range(len(names))]
        told = [(names[at], why) for at, why in unfit.items()]
        return Made(batch.only(fits), batch.only([not does for does in fits]), told)


def places(columns: Sequence[Column]) -> dict[str, int]:
    """A place for each attribute that is asked for; one may fill several columns."""
    out: dict[str, int] = {}
    lower: dict[str, int] = {}
    for column in columns:
        name = column.attribute.lower()
        if name != DN:
            out[column.attribute] = lower.setdefault(name, len(lower))
    return out
