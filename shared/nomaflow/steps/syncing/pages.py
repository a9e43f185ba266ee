"""Pages in their order: the next ones are fetched while the one at hand is worked on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from nomaflow.errors import StepError
from nomaflow.steps.syncing.paging import Page, Paging, Place

Fetch = Callable[[Place], Awaitable[Page]]

MOST_IN_A_ROW = 3
"""So many pages that fail one after the other are no bad pages but an API that is down."""
_OF_THE_CALLER = frozenset({401, 403, 407, 429})
"""Refusals that are about us and not about one page (RFC 9110 section 15.5, RFC 6585)."""
_REFUSED = range(400, 500)


@dataclass(frozen=True, slots=True)
class Turn:
    """A page whose turn it is; `follows` is the next place, None after the last page."""

    page: Page
    seen: int
    follows: Place | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A page that could not be fetched and is left out; it may hold so many `items`."""

    place: Place
    items: int
    error: StepError
    follows: Place | None


async def in_order(
    paging: Paging, fetch: Fetch, start: Place, seen: int, *, patient: bool = False
) -> AsyncGenerator[Turn | Gap, None]:
    """Every page from `start` on, `seen` items having come before it.

    At most `concurrency` requests are under way, so at most that many pages and the one at hand
    are in memory. The first page is asked for alone: it tells how many there are. Errors come
    when their page's turn is there; those of pages past the end never. When `patient`, a page that
    can be left out is: it comes as a gap, once a page after it was read or the end is known.
    """
    window = _Window(fetch)
    window.ask(start)
    gaps: list[Gap] = []
    try:
        while window:
            place = window.oldest
            try:
                page = paging.whole(await window.next())
            except StepError as error:
                if not patient or not paging.can_skip(place) or not _is_of_the_page(error):
                    raise
                follows, items = paging.skip(place, seen)
                seen += items
                gaps.append(Gap(place, items, error, follows))
                if len(gaps) == MOST_IN_A_ROW:
                    raise _down(gaps) from None
                await _turn_to(window, paging, place, follows)
                continue
            seen += len(page.items)
            follows = paging.after(page, seen)
            if paging.doubts(page) and paging.settings.max_pages != 1:
                assert follows is not None  # noqa: S101  a first page with items is not the end
                await window.expect(follows)
                if await _nothing_follows(window, page):
                    follows = None
            await _turn_to(window, paging, page.place, follows)
            if window:
                _look_ahead(window, paging, page, seen)
            for gap in gaps:
                yield gap
            gaps.clear()
            yield Turn(page, seen, follows)
        for gap in gaps:
            yield gap
    finally:
        await window.close()


def _is_of_the_page(error: StepError) -> bool:
    return error.http_status not in _OF_THE_CALLER and error.retry_after is None


def _down(gaps: list[Gap]) -> StepError:
    first = gaps[0].error
    others = " and ".join(str(gap.place.number) for gap in gaps[1:])
    return first.reworded(
        f"{first.message}; nor could pages {others} be fetched, so the API counts as down"
    )


async def _turn_to(window: _Window, paging: Paging, place: Place, follows: Place | None) -> None:
    """Ask for the page after the one at `place`, or for none when that was the last."""
    if follows is None or paging.settings.max_pages == place.number:
        await window.close()
    else:
        await window.expect(follows)


async def _nothing_follows(window: _Window, page: Page) -> bool:
    """Tell the end by the page that comes: empty, refused, or the same page once more."""
    try:
        other = await window.peek()
    except StepError as error:
        return error.http_status in _REFUSED and error.http_status not in _OF_THE_CALLER
    return not other.items or Paging.repeats(page, other)


def _look_ahead(window: _Window, paging: Paging, page: Page, seen: int) -> None:
    """Fill the window with the pages that will surely or probably be wanted."""
    settings = paging.settings
    left = paging.left(page, seen)
    most = settings.concurrency if left is None else min(settings.concurrency, left)
    if settings.max_pages is not None:
        most = min(most, settings.max_pages - page.place.number)
    while len(window) < most:
        window.ask(paging.guess(window.newest))


class _Window:
    """Requests under way, in the order of their pages."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._asked: deque[tuple[Place, asyncio.Task[Page]]] = deque()

    def __len__(self) -> int:
        return len(self._asked)

    @property
    def oldest(self) -> Place:
        return self._asked[0][0]

    @property
    def newest(self) -> Place:
        return self._asked[-1][0]

    def ask(self, place: Place) -> None:
        async def fetched() -> Page:
            return await self._fetch(place)

        task = asyncio.create_task(fetched(), name=f"page {place.number}")
        self._asked.append((place, task))

    async def next(self) -> Page:
        _, task = self._asked[0]
        try:
            return await task
        finally:
            if task.done():
                self._asked.popleft()

    async def peek(self) -> Page:
        """Wait for the oldest page, and leave it there."""
        return await self._asked[0][1]

    async def expect(self, place: Place) -> None:
        """Make sure that the next page is the one at `place`: a guess may have been wrong."""
        if self._asked and self._asked[0][0] != place:
            await self.close()
        if not self._asked:
            self.ask(place)

    async def close(self) -> None:
        tasks = [task for _, task in self._asked]
        self._asked.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
