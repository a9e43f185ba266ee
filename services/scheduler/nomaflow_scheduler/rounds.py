"""One way to do something again and again: errors are said, and tried again ever more slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from nomaflow.store.database import Database

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 30.0


async def every(
    seconds: float, name: str, act: Callable[[], Awaitable[object]], stop: asyncio.Event
) -> None:
    """Call `act`, wait, call it again, until `stop` is set; a call under way is let finish."""
    pause = seconds
    while not stop.is_set():
        try:
            await act()
            pause = seconds
        except (OSError, TimeoutError, *Database.Error) as error:
            pause = min(max(pause * 2, 1.0), LONGEST_PAUSE)
            log.warning("work failed", work=name, error=type(error).__name__, retry_seconds=pause)
        except Exception:
            pause = min(max(pause * 2, 1.0), LONGEST_PAUSE)
            log.exception("work failed", work=name, retry_seconds=pause)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
