"""A step's use of an SQLite file over aiosqlite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from nomaflow.connectors import statement
from nomaflow.connectors.borrowed import BorrowedConnector, command_of, values_of
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.connectors.sql import Params, Result, Session, SqlPool
from nomaflow.connectors.sqlite import values as sqlite_values
from nomaflow.connectors.sqlite.pool import DRIVER, OUT_OF_TIME, Database, SqliteConnections, failed
from nomaflow.errors import StepError


class SqlitePool(SqlPool):
    """The connections of one SQLite connector in this process."""

    def __init__(self, name: str, spec: SqlConnectorSpec) -> None:
        self.name = name
        self.spec = spec
        self._connections = SqliteConnections(name, spec)

    def connector(self, session: Session) -> SqliteConnector:
        return SqliteConnector(self.name, self.spec, session, self._connections)

    async def close(self) -> None:
        await self._connections.close()


def make_pool(name: str, spec: SqlConnectorSpec) -> SqlitePool:
    """What `connectors.sql.pool` calls for sqlite:/// URLs."""
    return SqlitePool(name, spec)


class SqliteConnector(BorrowedConnector[Database]):
    """One connection to the file, one statement at a time, each in a thread of its own.

    A file has one writer at a time: a transaction that writes waits for another one for as long
    as the connector's `connect_timeout_seconds`, then fails with "database is locked".
    """

    trouble = DRIVER
    streams_beside = True

    @property
    def dialect(self) -> str:
        return "sqlite"

    async def execute(self, sql: str, params: Params = None) -> Result:
        connection = await self._ready(sql)
        with self.translated():
            names, values = self._bound(sql, params)
            async with _limit(self.spec, connection):
                cursor = await connection.execute(names, values)
                rows = await cursor.fetchall() if cursor.description else []
            columns = [field[0] for field in cursor.description or ()]
            changed = max(cursor.rowcount, 0)
            await cursor.close()
        if not columns:
            return Result([], changed, command_of(sql, answered=False))
        found = [dict(zip(columns, row, strict=True)) for row in self.trimmed(list(rows))]
        return Result(found, len(found), command_of(sql, answered=True), columns)

    async def _batches(
        self, connection: Database, sql: str, params: Params, batch: int
    ) -> AsyncGenerator[tuple[Sequence[str], list[Any]], None]:
        with self.translated():
            text, values = self._bound(sql, params)
            async with _limit(self.spec, connection):
                cursor = await connection.execute(text, values)
            try:
                columns = [field[0] for field in cursor.description or ()]
                while True:
                    async with _limit(self.spec, connection):
                        rows = list(await cursor.fetchmany(batch)) if columns else []
                    if not rows:
                        break
                    yield columns, rows
            finally:
                if not self._broken:
                    await cursor.close()

    def _bound(self, sql: str, params: Params) -> tuple[str, dict[str, Any]]:
        parsed = statement.parse(sql, "sqlite")
        given = values_of(parsed.order(), params)
        return sql, {name: sqlite_values.bind(name, value) for name, value in given}

    def _backend_pid(self, _connection: Database) -> None:
        return None

    async def _say(self, connection: Database, words: str) -> None:
        await connection.execute(words)

    async def _begin(self, connection: Database, *, read_only: bool) -> None:
        # A transaction that will write asks for the file at once: one that read first would be
        # refused for good when another has written meanwhile (sqlite.org/lang_transaction.html).
        await connection.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")

    async def _reads_only(self, connection: Database, *, on: bool) -> None:
        await connection.execute(f"PRAGMA query_only = {'ON' if on else 'OFF'}")

    def _failed(self, error: BaseException) -> StepError:
        return failed(self.name, error)


@asynccontextmanager
async def _limit(spec: SqlConnectorSpec, connection: Database) -> AsyncIterator[None]:
    """A statement's time, and its end when the step is cancelled: SQLite is told to stop."""
    seconds = spec.statement_timeout_seconds
    try:
        async with asyncio.timeout(float(seconds) if seconds else None):
            try:
                yield
            except asyncio.CancelledError:
                await connection.interrupt()
                raise
    except TimeoutError:
        raise sqlite3.OperationalError(OUT_OF_TIME) from None
