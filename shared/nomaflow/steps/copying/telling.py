"""One row of a copy in an error's words, and the search for it where a server names none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nomaflow.errors import StepError

_VALUE_LETTERS = 100
_ROW_LETTERS = 300


class OnlyTriedError(StepError):
    """Undoes rows that were written to see whether they are refused, and were not."""

    def __init__(self) -> None:
        super().__init__("the rows were only tried")


def row(names: Sequence[str], cells: Sequence[Any], column: str | None = None) -> str:
    """A row in brackets, the column in question first, as far as some 300 letters go."""
    order = sorted(range(len(names)), key=lambda place: names[place] != column)
    said: list[str] = []
    for place in order:
        if sum(map(len, said)) > _ROW_LETTERS:
            said.append("...")
            break
        said.append(f"{names[place]} = {value(cells[place])}")
    return f"({', '.join(said)})"


def value(cell: Any) -> str:
    """A value, cut where it is long."""
    if cell is None:
        return "NULL"
    shown = repr(cell)
    return shown if len(shown) <= _VALUE_LETTERS else f"{shown[:_VALUE_LETTERS]}..."


async def first_refused(rows: int, refuses: Callable[[int, int], Awaitable[bool]]) -> int | None:
    """The place of the first of so many rows that is refused, counted from 0; None: none is.

    `refuses` tries the rows from the first number to before the second, and undoes them. Twice
    as many rows as there are are tried at most.
    """
    low, high = 0, rows
    if not rows or not await refuses(low, high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if await refuses(low, middle):
            high = middle
        else:
            low = middle
    return low
