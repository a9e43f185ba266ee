"""Pages by position instead of by number: a condition built part by part, and one page of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows in the order asked for; `more` tells that others follow in the direction of reading."""

    rows: list[T]
    more: bool


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list: up to `size` rows after and before a position, from one end.

    A position is the sort key of a row that was seen. With `backwards` the last rows are
    wanted; they still come in the order of the list.
    """

    size: int
    after: tuple[Any, ...] | None = None
    before: tuple[Any, ...] | None = None
    backwards: bool = False


class Where:
    """Conditions and the values bound in them, numbered as they come."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        """Add a condition with `{}` for each value."""
        first = len(self.values) + 1
        names = [f"${n}" for n in range(first, first + len(values))]
        self._parts.append(condition.format(*names))
        self.values.extend(values)

    def one_of(self, column: str, values: list[Any], kind: str = "text") -> None:
        """Add that a column has one of the values; a single one keeps an ordered index usable."""
        if len(values) == 1:
            self.add(f"{column} = {{}}::{kind}", values[0])
        else:
            self.add(f"{column} = ANY ({{}}::{kind}[])", values)

    @property
    def sql(self) -> str:
        """The text after WHERE."""
        return " AND ".join(self._parts) or "true"


def narrow(where: Where, window: Window, keys: dict[str, str], *, descending: bool) -> str:
    """Add the window to the conditions; answers the text from ORDER BY to the end.

    `keys` are the sort columns and their types, in order. One row more than the window is read,
    which tells whether there are more.
    """
    row = f"({', '.join(keys)})"
    values = f"({', '.join(f'{{}}::{kind}' for kind in keys.values())})"
    later, sooner = ("<", ">") if descending else (">", "<")
    if window.after is not None:
        where.add(f"{row} {later} {values}", *window.after)
    if window.before is not None:
        where.add(f"{row} {sooner} {values}", *window.before)
    direction = "DESC" if descending != window.backwards else "ASC"
    order = ", ".join(f"{column} {direction}" for column in keys)
    return f"ORDER BY {order} LIMIT {window.size + 1}"


def page(rows: list[T], window: Window) -> Page[T]:
    """Cut what was read to the window, in the order of the list."""
    more = len(rows) > window.size
    rows = rows[: window.size]
    if window.backwards:
        rows.reverse()
    return Page(rows, more)
