"""Who may fill a target now: one copy at a time, and locks that never make readers queue."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from dataclasses import dataclass
from typing import Any

import asyncpg

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.steps.base import StepLog

READERS_WAIT_MS = 100
"""How long readers may queue behind our wish for the whole table."""
WRITERS_WAIT_MS = 5_000
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to fill a target: one copy at a time (K15).

    Copies that only add rows may hold it together (`shared`). The lock belongs to the
    connection and ends when that is given back or lost, however the worker ends.
    """

    target: PostgresConnector
    schema: str
    table: str
    shared: bool

    async def taken(self) -> bool:
        """Take it, if no other copy has it."""
        connection = await self.target.raw()
        kind = "_shared" if self.shared else ""
        with self.target.translated():
            return bool(
                await connection.fetchval(
                    f"SELECT pg_try_advisory_lock{kind}($1)", _key(self.schema, self.table)
                )
            )

    async def wait(self, log: StepLog) -> None:
        """Take it when it is this copy's turn."""
        log.info(f"another copy is filling {self.schema}.{self.table}; waiting for its end")
        while not await self.taken():  # noqa: ASYNC110  nothing tells when it is free
            await asyncio.sleep(_POLL_SECONDS * (0.5 + random.random()))  # noqa: S311  only to spread


async def lock(
    target: PostgresConnector, table: str, mode: str, *, wait_ms: int, seconds: float
) -> bool:
    """Take a table lock within the current transaction, asking again and again for a short time.

    False when it could not be had within `seconds`: the transaction is then as it was.
    """
    connection = await target.raw()
    deadline = time.monotonic() + seconds
    pause = 0.05
    with target.translated():
        while not await _tried(connection, table, mode, wait_ms):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311  only to spread
            pause = min(pause * 2, 2.0)
    return True


async def _tried(connection: Any, table: str, mode: str, wait_ms: int) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(
                f"SET LOCAL lock_timeout = '{wait_ms}ms'; LOCK TABLE {table} IN {mode} MODE; "
                "SET LOCAL lock_timeout = 0"
            )
    except asyncpg.exceptions.LockNotAvailableError:
        return False
    return True


def _key(schema: str, table: str) -> int:
    name = f"nomaflow copy\0{schema}\0{table}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), signed=True)
