"""A step's use of a PostgreSQL database over asyncpg."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from nomaflow.connectors.postgres import errors as postgres_errors
from nomaflow.connectors.postgres.binding import spelled
from nomaflow.connectors.postgres.pool import PostgresConnections
from nomaflow.connectors.postgres.statements import Statements
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.connectors.sql import Batch, Params, Result, Row, Session, SqlConnector, SqlPool
from nomaflow.errors import NomaflowError, StepError

_ROLLBACK_SECONDS = 5.0


class PostgresPool(SqlPool):
    """The connections of one PostgreSQL connector in this process."""

    def __init__(self, name: str, spec: SqlConnectorSpec) -> None:
        self.name = name
        self.spec = spec
        self._connections = PostgresConnections(name, spec)

    def connector(self, session: Session) -> PostgresConnector:
        return PostgresConnector(self.name, self.spec, session, self._connections)

    async def close(self) -> None:
        await self._connections.close()

    async def end(self, number: int, application: str) -> None:
        connector = self.connector(Session(application="nomaflow:rescue"))
        try:
            await connector.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid = :pid AND left(application_name, 60) = left(:application, 60)",
                {"pid": number, "application": application},
            )
        finally:
            await connector.close()


def make_pool(name: str, spec: SqlConnectorSpec) -> PostgresPool:
    """What `connectors.sql.pool` calls for postgresql:// URLs."""
    return PostgresPool(name, spec)


class PostgresConnector(SqlConnector):
    """One connection, one statement at a time."""

    def __init__(
        self,
        name: str,
        spec: SqlConnectorSpec,
        session: Session,
        connections: PostgresConnections,
    ) -> None:
        self.name = name
        self.spec = spec
        self._session = session
        self._connections = connections
        self._connection: Any = None
        self._outer: Any = None
        self._broken = False
        self._statements = Statements()

    @property
    def dialect(self) -> str:
        return "postgresql"

    async def raw(self) -> Any:
        """The asyncpg connection, taken from the pool at the first call."""
        if self._connection is None:
            self._connection = await self._connections.acquire(self._session.application)
            self._session.on_backend_pid(self._connection.get_server_pid())
        if self._session.one_transaction and self._outer is None:
            self._outer = self._connection.transaction()
            with self.translated():
                await self._outer.start()
        return self._connection

    async def execute(self, sql: str, params: Params = None) -> Result:
        connection = await self.raw()
        with self.translated(sql):
            ready = await self._statements.ready(connection, sql, params or {})
            try:
                records = await ready.prepared.fetch(*ready.values)
            except asyncpg.exceptions.InvalidCachedStatementError:
                if connection.is_in_transaction():
                    raise
                self._statements.forget()  # the table has changed its columns since
                ready = await self._statements.ready(connection, sql, params or {})
                records = await ready.prepared.fetch(*ready.values)
        command = ready.prepared.get_statusmsg() or ""
        return Result(
            [self._row(record) for record in records],
            _rowcount(command),
            command.partition(" ")[0],
            [attribute.name for attribute in ready.prepared.get_attributes()],
        )

    async def stream(
        self, sql: str, params: Params = None, batch: int = 1000
    ) -> AsyncGenerator[Row, None]:
        connection = await self.raw()
        if not connection.is_in_transaction():
            async with self.transaction(), aclosing(self.stream(sql, params, batch)) as rows:
                async for row in rows:
                    yield row
            return
        with self.translated(sql):
            ready = await self._statements.ready(connection, sql, params or {})
            async for record in ready.prepared.cursor(*ready.values, prefetch=batch):
                yield self._row(record)

    async def batches(
        self, sql: str, params: Params = None, batch: int = 1000
    ) -> AsyncGenerator[Batch, None]:
        connection = await self.raw()
        if not connection.is_in_transaction():
            async with self.transaction(), aclosing(self.batches(sql, params, batch)) as found:
                async for columns, rows in found:
                    yield columns, rows
            return
        with self.translated(sql):
            ready = await self._statements.ready(connection, sql, params or {})
            columns = [attribute.name for attribute in ready.prepared.get_attributes()]
            cursor = await ready.prepared.cursor(*ready.values)
            while records := await cursor.fetch(batch):
                yield columns, self.trimmed(records)

    def _row(self, record: Any) -> Row:
        if not self.spec.trim_strings:
            return dict(record)
        return {k: v.rstrip(" ") if isinstance(v, str) else v for k, v in record.items()}

    @asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[None]:
        connection = await self.raw()
        nested = connection.is_in_transaction()
        block = connection.transaction(readonly=read_only and not nested)
        with self.translated():
            await block.start()
            if read_only and nested:
                await connection.execute("SET LOCAL transaction_read_only = on")
        try:
            yield
        except BaseException:
            await self._undo(block)
            raise
        with self.translated():
            await block.commit()

    def spoil(self) -> None:
        """The connection is not to be used by anyone else: `close` hangs up."""
        self._broken = True

    async def commit(self) -> None:
        if self._outer is not None:
            outer, self._outer = self._outer, None
            with self.translated():
                await outer.commit()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        outer, self._outer = self._outer, None
        self._statements.forget()
        try:
            if connection is not None:
                clean = not self._broken
                if clean and outer is not None and not connection.is_closed():
                    with self.translated():
                        await outer.rollback()
                await self._connections.release(connection, clean=clean)
        finally:
            if self.owned_pool is not None:
                await self.owned_pool.close()

    async def parameter_types(self, sql: str) -> dict[str, str]:
        """The SQL type of each `:name` of a statement, as the server reads it."""
        connection = await self.raw()
        with self.translated(sql):
            shape = await self._statements.shape(connection, sql)
            await connection.execute("SELECT")  # see `describe`
        return {
            name: spelled(server) for name, server in zip(shape.order(), shape.types, strict=True)
        }

    async def describe(self, sql: str) -> Sequence[Any]:
        """The columns a query answers, without running it: objects with `.name` and `.type`."""
        connection = await self.raw()
        with self.translated(sql):
            shape = await self._statements.shape(connection, sql)
            prepared = await self._statements.prepare(connection, shape.text)
            # The driver prepares without ending the implicit transaction; a BEGIN that asks for
            # a snapshot of its own would come too late.
            await connection.execute("SELECT")
            return tuple(prepared.get_attributes())

    async def _undo(self, block: Any) -> None:
        """Roll back; a connection that cannot, or was cancelled, is hung up, which undoes too."""
        if self._broken or isinstance(sys.exception(), asyncio.CancelledError):
            self._broken = True
            return
        try:
            async with asyncio.timeout(_ROLLBACK_SECONDS):
                await block.rollback()
        except postgres_errors.DRIVER:
            self._broken = True

    @contextmanager
    def translated(self, sql: str | None = None) -> Iterator[None]:
        """The driver's exceptions as StepError; a cancelled statement spoils the connection."""
        try:
            yield
        except asyncio.CancelledError:
            self._broken = True
            raise
        except NomaflowError as error:
            raise StepError(f"connector {self.name!r}: {error.message}", retryable=False) from None
        except (ValueError, OverflowError, *postgres_errors.DRIVER) as error:
            names = self._statements.names(sql)
            raise postgres_errors.failed(self.name, error, names) from error


def _rowcount(command: str) -> int:
    """The count a command tag ends with: `INSERT 0 2`, `UPDATE 3`, `SELECT 30`; DDL has none."""
    last = command.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
