"""Pages in their order: the next ones are fetched while the one at hand is worked on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from nomaflow.steps.syncing.paging import Page, Paging, Place

Fetch = Callable[[Place], Awaitable[Page]]


@dataclass(frozen=True, slots=True)
class Turn:
    """A page whose turn it is; `follows` is the next place, None after the last page."""

    page: Page
    seen: int
    follows: Place | None


async def in_order(
    paging: Paging, fetch: Fetch, start: Place, seen: int
) -> AsyncGenerator[Turn, None]:
    """Every page from `start` on, `seen` items having come before it.

    At most `concurrency` requests are under way, so at most that many pages and the one at hand
    are in memory. The first page is asked for alone: it tells how many there are. Errors come
    when their page's turn is there; those of pages past the end never.
    """
    window = _Window(fetch)
    window.ask(start)
    try:
        while window:
            page = paging.whole(await window.next())
            seen += len(page.items)
            follows = paging.after(page, seen)
            last = paging.settings.max_pages == page.place.number
            if follows is None or last:
                await window.close()
            else:
                await window.expect(follows)
                _look_ahead(window, paging, page, seen)
            yield Turn(page, seen, follows)
    finally:
        await window.close()


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
