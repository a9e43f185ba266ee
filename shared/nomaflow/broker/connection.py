"""One way to open Redis: bounded waits, keepalive, no pickle; works over TCP and unix sockets."""

from __future__ import annotations

import json
from typing import Any

from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool

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
    redis = ArqRedis(
        connection_pool=pool, job_serializer=dump, job_deserializer=load, default_queue_name=queue
    )
    redis.auto_close_connection_pool = True  # the pool is ours alone: `aclose` closes it too
    return redis
