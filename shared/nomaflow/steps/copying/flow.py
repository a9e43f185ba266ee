"""A source that is read and a target that is written at the same time, a few portions apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

PORTIONS = 8
"""Portions that may wait between the two: all the memory a copy takes."""

P = TypeVar("P")
Read = Callable[[Callable[[P], Awaitable[None]]], Awaitable[int]]


class Flow(Generic[P]):
    """What the source has given and the target has not taken yet."""

    def __init__(self, portions: int = PORTIONS) -> None:
        self._portions: asyncio.Queue[tuple[P] | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(portions)

    async def put(self, portion: P) -> None:
        """Give a portion; waits for room."""
        await self._room.acquire()
        self._portions.put_nowait((portion,))

    def end(self) -> None:
        """No more portions come."""
        self._portions.put_nowait(None)

    async def portions(self) -> AsyncIterator[P]:
        """Each portion in its turn."""
        while (received := await self._portions.get()) is not None:
            self._room.release()
            yield received[0]


async def through(
    read: Read[P], write: Callable[[AsyncIterator[P]], Awaitable[int]]
) -> tuple[int, int]:
    """Read and write side by side; how many rows were read and written.

    A failure of the source is raised after the target has stopped, and before anything is kept.
    """
    flow: Flow[P] = Flow()

    async def whole() -> int:
        try:
            return await read(flow.put)
        finally:
            flow.end()

    reader = asyncio.create_task(whole())
    try:
        written = await write(flow.portions())
    except BaseException:
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader  # a failure of the source's own is the one to tell
        raise
    return await reader, written
