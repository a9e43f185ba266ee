"""Several ways to one end, begun one after the other: the first that succeeds is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def first(
    ways: Iterable[Callable[[], Coroutine[Any, Any, T]]],
    discard: Callable[[T], Awaitable[None]],
    patience: float,
    failures: tuple[type[Exception], ...],
) -> T:
    """What the first way to succeed answers; each begins when the one before has failed.

    A way that says nothing for `patience` seconds is left to go on, and the next one begins beside
    it (RFC 8305 section 5). Answers that come too late go to `discard`. When all have ended in one
    of `failures` the last of these is raised; any other exception ends the race.
    """
    left = list(ways)
    begun: list[asyncio.Task[T]] = []
    running: set[asyncio.Task[T]] = set()
    failed: Exception | None = None
    winner: asyncio.Task[T] | None = None
    try:
        while left or running:
            if left:
                begun.append(asyncio.create_task(left.pop(0)()))
                running.add(begun[-1])
            done, running = await asyncio.wait(
                running,
                timeout=patience if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                try:
                    found = task.result()
                except failures as error:
                    failed = error
                else:
                    winner = task
                    return found
    finally:
        others = [task for task in begun if task is not winner]
        for task in others:
            task.cancel()
        for late in await asyncio.gather(*others, return_exceptions=True):
            if not isinstance(late, BaseException):
                await discard(late)
    raise failed or ValueError("there is no way to try")
