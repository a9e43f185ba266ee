"""Takes one answer of an API apart: its items, and what it says of the pages after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow.errors import StepError
from nomaflow.language import expression
from nomaflow.steps.syncing.paging import Page, Place
from nomaflow.steps.syncing.settings import Paginate


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the parts of an answer are."""

    items: str | None
    settings: Paginate

    def page(self, place: Place, body: Any, link: str | None) -> Page:
        """Take an answer apart; StepError with a sentence for what is not where it should be."""
        settings = self.settings
        total = self._total(body, place)
        follows = None
        if settings.type == "link_header":
            follows = link
        elif settings.next is not None:
            follows = _token(self._value("next", settings.next, body, place), place, settings)
        has_more = None
        if settings.has_more is not None:
            has_more = bool(self._value("has_more", settings.has_more, body, place))
        return Page(place, self._items(body, place, total), total, has_more, follows)

    def _items(self, body: Any, place: Place, total: int | None) -> Sequence[Any]:
        where = f"page {place.number}"
        if self.items is None:
            if isinstance(body, list):
                return body
            raise StepError(
                f"{where}: the body is {_shape(body)}, not a list; say in `items` where one is",
                retryable=False,
            )
        found = self._value("items", self.items, body, place)
        if isinstance(found, list):
            return found
        if found is None and (total == 0 or self._is_null(body)):
            return []  # how some APIs write an empty list
        what = "finds nothing" if found is None else f"finds {_shape(found)}, not a list,"
        raise StepError(
            f"{where}: `items` = `{self.items}` {what} in the body, which is {_shape(body)}",
            retryable=False,
        )

    def _is_null(self, body: Any) -> bool:
        """Whether the list is there, as null: only a path of plain names can tell."""
        names = (self.items or "").split(".")
        for name in names[:-1]:
            body = body.get(name) if isinstance(body, Mapping) else None
        return isinstance(body, Mapping) and names[-1] in body

    def _total(self, body: Any, place: Place) -> int | None:
        if self.settings.total is None:
            return None
        found = self._value("total", self.settings.total, body, place)
        if found is None and place.number > 1:
            return None
        if isinstance(found, str) and found.strip().isdigit():
            return int(found)
        if isinstance(found, bool) or not isinstance(found, int | float) or found < 0:
            raise StepError(
                f"page {place.number}: `total` = `{self.settings.total}` gives {found!r:.60}, "
                f"not a number of items; the body is {_shape(body)}",
                retryable=False,
            )
        return int(found)

    def _value(self, name: str, text: str, body: Any, place: Place) -> Any:
        try:
            return expression.compile(text).evaluate(body)
        except expression.ExpressionError as error:
            raise StepError(
                f"page {place.number}: `{name}`: {error.message}", retryable=False
            ) from None


def _token(value: Any, place: Place, settings: Paginate) -> str | None:
    """A cursor or link as text; false, null and empty text mean that there is none."""
    if value is None or value is False or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise StepError(
            f"page {place.number}: `next` = `{settings.next}` gives {_shape(value)}, neither text "
            "nor a number",
            retryable=False,
        )
    return str(value)


def _shape(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case Mapping():
            names = ", ".join(f"`{name}`" for name in list(value)[:10])
            more = f" and {len(value) - 10} more" if len(value) > 10 else ""  # noqa: PLR2004  as above
            return f"a table with {names}{more}" if value else "an empty table"
        case list():
            return f"a list of {len(value)}"
        case bool():
            return "true" if value else "false"
        case str():
            return "text"
        case _:
            return "a number"
