"""One way to open Redis: bounded waits, keepalive, no pickle; works over TCP and unix sockets."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterable

SOCKET_SECONDS = 5.0
"""No read or write of ours on Redis waits longer: a dead link must not look alive."""


def dump(job: dict[str, Any]) -> bytes:
    """Write what arq stores of a doorbell: JSON, for a pickle in Redis would be code."""
    return json.dumps(job, default=str).encode()


def load(raw: bytes) -> dict[str, Any]:
    """Read a doorbell back."""
    job: dict[str, Any] = json.loads(raw)
    return job


def connect(url: str, *, queue: str = "nomaflow:workers") -> ArqRedis:
    """Open a pool; nothing is sent before the first command, so Redis may be away now."""
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": 2.0,
        "max_connections": 20,
        "timeout": SOCKET_SECONDS,
    }
    if not url.startswith("unix"):
        options["socket_keepalive"] = True
    pool = BlockingConnectionPool.from_url(url, **options)
    pool.connection_class = _cancellable(pool.connection_class)
    redis = ArqRedis(
        connection_pool=pool, job_serializer=dump, job_deserializer=load, default_queue_name=queue
    )
    redis.auto_close_connection_pool = True  # the pool is ours alone: `aclose` closes it too
    return redis


def _cancellable(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return the same connection, whose commands hear a cancellation.

    redis-py sends each command through `asyncio.wait_for`, which before Python 3.12 swallows a
    cancellation that comes as the sending ends: a program told to stop went on.
    """

    class Cancellable(kind):  # type: ignore[misc, valid-type]
        async def send_packed_command(
            self,
            command: bytes | str | Iterable[bytes],
            check_health: bool = True,  # noqa: FBT001, FBT002  redis-py's own signature
        ) -> None:
            if not self.is_connected:
                await self.connect()
            elif check_health:
                await self.check_health()
            try:
                async with asyncio.timeout(self.socket_timeout):
                    await self._send_packed_command(_pieces(command))
            except TimeoutError:
                await self.disconnect(nowait=True)
                raise RedisTimeoutError("Timeout writing to socket") from None
            except OSError as error:
                await self.disconnect(nowait=True)
                raise RedisConnectionError(f"Error while writing to socket: {error}") from error
            except BaseException:
                await self.disconnect(nowait=True)
                raise

    return Cancellable


def _pieces(command: bytes | str | Iterable[bytes]) -> Iterable[bytes]:
    match command:
        case str():
            return [command.encode()]
        case bytes():
            return [command]
        case _:
            return command
