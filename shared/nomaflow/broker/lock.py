"""A named lock in Redis that saves work; never what makes anything happen once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_KEEP = """
if redis.call('get', KEYS[1]) == ARGV[1] then
  return redis.call('pexpire', KEYS[1], ARGV[2])
end
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0"""
_DROP = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0"""


class Lock:
    """Held by one owner at a time, for `seconds` after each `keep`."""

    def __init__(self, redis: Redis, name: str, owner: str, seconds: float) -> None:
        self._name = name
        self._owner = owner
        self._milliseconds = int(seconds * 1000)
        self._keep = redis.register_script(_KEEP)
        self._drop = redis.register_script(_DROP)

    async def keep(self) -> bool | None:
        """Take or prolong the lock; True if ours, False if another's, None if Redis is away."""
        try:
            answer: Any = await self._keep([self._name], [self._owner, self._milliseconds])
        except (RedisError, OSError, TimeoutError):
            return None
        return bool(answer)

    async def drop(self) -> None:
        """Give it back if it is ours."""
        try:
            await self._drop([self._name], [self._owner])
        except (RedisError, OSError, TimeoutError):
            return
