"""Which page comes next, decided from the page at hand; an API that contradicts itself is told."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import to_json

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
    """The course through an API's pages; it remembers what it has seen, to notice a circle.

    `fullest` is the size of the largest page so far; `skipped` that pages were left out, so that
    the total can only be reckoned.
    """

    settings: Paginate
    fullest: int = 0
    skipped: bool = False
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
        ended = self._ended(page, seen)
        self.fullest = max(self.fullest, len(page.items))
        if ended:
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
        return self._numbered_after(place, self.fullest or self.settings.size or 0)

    def can_skip(self, place: Place) -> bool:
        """Whether the page after `place` can be asked for without having seen the one there.

        Never so for the first page: an API that does not give it gives nothing.
        """
        return self.settings.numbered and place.number > 1 and self.fullest > 0

    def skip(self, place: Place, seen: int) -> tuple[Place | None, int]:
        """Leave a page out: what follows it (None: the end), and how many items it may hold."""
        self.skipped = True
        total, items = self._total, self.fullest
        if total is not None:
            items = min(items, max(total - seen, 0))
            if seen + items >= total:
                return None, items
        return self.guess(place), items

    def doubts(self, page: Page) -> bool:
        """Whether a first page that is short may still not be the last.

        Many an API gives fewer items per page than it was asked for, and some do not say how many
        there are in all.
        """
        settings, count = self.settings, len(page.items)
        told = page.total is not None or page.has_more is not None
        short = 0 < count < (settings.size or 0)
        return settings.numbered and page.place.number == 1 and short and not told

    @staticmethod
    def repeats(page: Page, other: Page) -> bool:
        """Whether two pages hold the same items."""
        first, second = (_digest(p.items, f"page {p.place.number}") for p in (page, other))
        return first == second

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
        if page.total is not None and self.skipped:
            return not count or seen >= page.total
        if page.total is not None:
            return _reached(page, seen)
        if page.has_more is not None:
            if page.has_more and not count:
                raise LyingApiError(f"{where} is empty, though the API says that there is more")
            return not page.has_more
        if self.settings.size is None or not self.fullest:
            return not count  # the first page is no measure of itself
        return count < self.fullest

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
            where = f"page {page.place.number}"
            self._remember(
                _digest(page.items, where), f"{where} holds the same items as an earlier page"
            )

    def _remember(self, mark: bytes, words: str) -> None:
        if mark in self._seen:
            raise LyingApiError(f"{words}; the API does not turn its pages, so the sync stops")
        self._seen.add(mark)


def _digest(items: Sequence[Any], where: str) -> bytes:
    try:
        try:
            data = to_json(items, fallback=str)
        except ValueError:  # deeper than that writer goes, or half a character
            data = json.dumps(items, default=str).encode()
    except RecursionError:
        raise StepError(f"{where}: an item is nested too deep", retryable=False) from None
    return hashlib.blake2b(data, digest_size=16).digest()


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
