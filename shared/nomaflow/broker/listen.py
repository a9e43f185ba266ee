"""Hear what was published, for ever: a lost connection is opened again and said, never raised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_LONGEST_PAUSE = 2.0


async def hear(
    redis: Redis,
    channels: Sequence[str],
    heard: Callable[[str, str], None],
    *,
    on_gap: Callable[[], None] | None = None,
) -> None:
    """Call `heard(channel, word)` for every word published from now on; never returns.

    `on_gap` is called after each (re)connection, because words said meanwhile are lost: the
    listener then looks into PostgreSQL.
    """
    pause = 0.1
    while True:
        try:
            async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe(*channels)
                if on_gap is not None:
                    on_gap()
                pause = 0.1
                while True:
                    word = await pubsub.get_message(timeout=_LOOK_SECONDS)
                    if word is not None:
                        heard(word["channel"].decode(), word["data"].decode())
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("redis is away", error=type(error).__name__, retry_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
