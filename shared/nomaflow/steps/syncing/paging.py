"""Which page comes next, decided from the page at hand; an API that contradicts itself is told."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import to_json

from nomaflow import expression
from nomaflow.errors import StepError
from nomaflow.steps.counting import counted
from nomaflow.steps.syncing.settings import Paginate

MOST_PAGES = 100_000
"""Nobody's list is that long on purpose; beyond it the API is taken to repeat itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page is: its number in this sync, and the page number, offset, cursor or link."""

    number: int
    at: int | str | None = None

    def as_json(self) -> dict[str, Any]:
        """The place as a checkpoint keeps it."""
        return {"number": self.number, "at": self.at}

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Place:
        """What `as_json` wrote."""
        return cls(int(stored["number"]), stored["at"])


@dataclass(frozen=True, slots=True)
class Page:
    """One answer, taken apart: its items, and what it says of the rest."""

    place: Place
    items: Sequence[Any]
    total: int | None = None
    has_more: bool | None = None
    next: str | None = None


class LyingApiError(StepError):
    """The API contradicts itself; trying again would read the same."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


@dataclass(slots=True)
class Paging:
    """The course through an API's pages; it remembers what it has seen, to notice a circle."""

    settings: Paginate
    _seen: set[bytes] = field(default_factory=set)
    _total: int | None = None

    def first(self) -> Place:
        """Where the list begins."""
        match self.settings.type:
            case "page":
                return Place(1, 1 if self.settings.start is None else self.settings.start)
            case "offset":
                return Place(1, self.settings.start or 0)
            case _:
                return Place(1)

    def query(self, place: Place) -> dict[str, Any]:
        """The query parameters that ask for a page, besides the request's own."""
        settings = self.settings
        own: dict[str, Any] = {}
        if settings.size and settings.size_param and not self.link(place):
            own[settings.size_param] = settings.size
        match settings.type:
            case "page":
                own[settings.page_param] = place.at
            case "offset":
                own[settings.offset_param] = place.at
            case "cursor" if place.at is not None:
                own[settings.cursor_param] = place.at
            case _:
                pass
        return own

    def link(self, place: Place) -> str | None:
        """The URL of a page that the one before gave, or None."""
        linked = self.settings.type in ("next_link", "link_header")
        return str(place.at) if linked and place.at is not None else None

    def after(self, page: Page, seen: int) -> Place | None:
        """The page that follows, or None at the end; `seen` counts the items up to here.

        LyingApiError when the page repeats another one or contradicts the total.
        """
        self._refuse_repeated(page)
        page = self.whole(page)
        if self._ended(page, seen):
            return None
        number = page.place.number + 1
        if number > MOST_PAGES:
            raise LyingApiError(
                f"the API has more than {MOST_PAGES:,} pages; give `max_pages` if that is true"
            )
        match self.settings.type:
            case "page" | "offset":
                return self._numbered_after(page.place, len(page.items))
            case _:
                self._remember(f"place {page.next}".encode(), f"page {number}: the API leads back")
                return Place(number, page.next)

    def whole(self, page: Page) -> Page:
        """The page with the newest total, which some APIs tell only on the first one."""
        self._total = page.total if page.total is not None else self._total
        return replace(page, total=self._total)

    def guess(self, place: Place) -> Place:
        """The page that follows one which was not seen yet; numbered pages only."""
        return self._numbered_after(place, self.settings.size or 0)

    def left(self, page: Page, seen: int) -> int | None:
        """How many pages follow, as far as the total tells; None when it does not."""
        if page.total is None:
            return None
        return math.ceil(max(page.total - seen, 0) / max(len(page.items), 1))

    def _numbered_after(self, place: Place, items: int) -> Place:
        step = 1 if self.settings.type == "page" else self.settings.offset_size or items
        return Place(place.number + 1, int(place.at or 0) + step)

    def _ended(self, page: Page, seen: int) -> bool:
        if not self.settings.numbered:
            return self._followed_to_the_end(page, seen)
        where, count = f"page {page.place.number}", len(page.items)
        if page.total is not None:
            return _reached(page, seen)
        if page.has_more is not None:
            if page.has_more and not count:
                raise LyingApiError(f"{where} is empty, though the API says that there is more")
            return not page.has_more
        return count < (self.settings.size or 1)

    def _followed_to_the_end(self, page: Page, seen: int) -> bool:
        if page.next is not None and page.has_more is not False:
            return False
        if page.next is None and page.has_more:
            raise LyingApiError(
                f"page {page.place.number}: the API says that there is more, and names no next page"
            )
        if page.total is not None and seen < page.total:
            raise LyingApiError(
                f"the API says that there are {counted(page.total, 'item')}, and names no page "
                f"after {seen:,}"
            )
        return True

    def _refuse_repeated(self, page: Page) -> None:
        if page.items:
            digest = hashlib.blake2b(to_json(page.items, fallback=str), digest_size=16).digest()
            self._remember(
                digest, f"page {page.place.number} holds the same items as an earlier page"
            )

    def _remember(self, mark: bytes, words: str) -> None:
        if mark in self._seen:
            raise LyingApiError(f"{words}; the API does not turn its pages, so the sync stops")
        self._seen.add(mark)


def _reached(page: Page, seen: int) -> bool:
    """Whether the total is reached; an API must neither stop before it nor go on after it."""
    assert page.total is not None  # noqa: S101  the caller has looked
    where = f"page {page.place.number}"
    said = f"the API says that there are {counted(page.total, 'item')}"
    if not page.items:
        if seen < page.total:
            raise LyingApiError(f"{said}, and {where} is empty after {seen:,}")
        return True
    if seen > page.total:
        raise LyingApiError(f"{said}, and with {where} it has given {seen:,}")
    return seen == page.total


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
