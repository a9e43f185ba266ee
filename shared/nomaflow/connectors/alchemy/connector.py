"""A step's use of Oracle or SQL Server, over SQLAlchemy's asynchronous drivers.

Written to their manuals and run on SQLite alone: no server of either kind can run where this is
tested.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any
from uuid import UUID

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from nomaflow.connectors import statement
from nomaflow.connectors.alchemy.pool import DRIVER, AlchemyConnections, failed, url_of
from nomaflow.connectors.borrowed import BorrowedConnector, command_of, values_of
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.connectors.sql import Params, Result, Session, SqlPool, dialect_of
from nomaflow.errors import StepError

_MODULES = {"oracle": "oracledb", "mssql": "aioodbc"}


class AlchemyPool(SqlPool):
    """The connections of one Oracle or SQL Server connector in this process."""

    def __init__(self, name: str, spec: SqlConnectorSpec, url: URL, dialect: str) -> None:
        self.name = name
        self.spec = spec
        self._dialect = dialect
        self._connections = AlchemyConnections(name, spec, url, dialect)

    def connector(self, session: Session) -> AlchemyConnector:
        opened = AlchemyConnector(self.name, self.spec, session, self._connections)
        opened.speaks = self._dialect
        return opened

    async def close(self) -> None:
        await self._connections.close()


def make_pool(name: str, spec: SqlConnectorSpec) -> AlchemyPool:
    """What `connectors.sql.pool` calls for oracle:// and mssql:// URLs."""
    dialect = dialect_of(name, spec)
    import_module(_MODULES[dialect])  # a missing driver is told of here, not in a traceback
    return AlchemyPool(name, spec, url_of(name, spec, dialect), dialect)


class AlchemyConnector(BorrowedConnector[AsyncConnection]):
    """One connection, one statement at a time.

    Neither server knows a read-only transaction for certain: what a reading one did is undone.
    """

    trouble = DRIVER
    speaks = ""

    @property
    def dialect(self) -> str:
        return self.speaks

    async def execute(self, sql: str, params: Params = None) -> Result:
        connection = await self._ready(sql)
        with self.translated():
            async with self._limit():
                result = await connection.exec_driver_sql(*self._bound(sql, params))
            changed = max(result.rowcount, 0)
            columns = list(result.keys()) if result.returns_rows else []
            found = [tuple(row) for row in result.fetchall()] if columns else []
            result.close()
            await self._settle(connection)
        rows = [dict(zip(columns, row, strict=True)) for row in self.trimmed(found)]
        count = len(rows) if columns else changed
        return Result(rows, count, command_of(sql, answered=bool(columns)), columns)

    async def _batches(
        self, connection: AsyncConnection, sql: str, params: Params, batch: int
    ) -> AsyncGenerator[tuple[Sequence[str], list[Any]], None]:
        text, values = self._bound(sql, params)
        with self.translated():
            async with self._limit():
                # The asynchronous face of SQLAlchemy streams no text in the driver's own words.
                result = await connection.run_sync(
                    lambda plain: plain.exec_driver_sql(
                        text, values, {"stream_results": True, "max_row_buffer": batch}
                    )
                )
            try:
                columns = list(result.keys()) if result.returns_rows else []
                while columns:
                    async with self._limit():
                        rows = await connection.run_sync(lambda _: result.fetchmany(batch))
                    if not rows:
                        break
                    yield columns, [tuple(row) for row in rows]
            finally:
                if not self._broken:
                    await connection.run_sync(lambda _: result.close())
            await self._settle(connection)

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[None]:
        seconds = self.spec.statement_timeout_seconds
        try:
            async with asyncio.timeout(float(seconds) if seconds else None):
                yield
        except TimeoutError:
            self._broken = True  # the statement may still run: the connection is given up
            raise StepError(
                f"connector {self.name!r}: the statement took longer than "
                "`statement_timeout_seconds`",
                category="timeout",
            ) from None

    def _bound(self, sql: str, params: Params) -> tuple[str, Any]:
        """The statement in the driver's own way of marking parameters, and their values."""
        reads_as = self.speaks if self.speaks in statement.DIALECTS else "sqlite"
        parsed = statement.parse(sql, reads_as)
        values = {name: _bind(value) for name, value in values_of(parsed.order(), params)}
        if self.speaks == "mssql":
            text = parsed.spliced(dict.fromkeys(values, "?"))
            return text, tuple(values[name] for name in parsed.order(apart=True))
        return sql, values

    async def _settle(self, connection: AsyncConnection) -> None:
        """Outside a transaction each statement stands for itself."""
        if self._level == 0:
            await connection.commit()

    def _backend_pid(self, _connection: AsyncConnection) -> None:
        return None

    async def _say(self, connection: AsyncConnection, words: str) -> None:
        match words.split():
            case ["COMMIT"]:
                await connection.commit()
            case ["ROLLBACK"]:
                await connection.rollback()
            case ["RELEASE", *_] if self.speaks in {"oracle", "mssql"}:
                return  # a savepoint ends with its transaction
            case ["SAVEPOINT", name] if self.speaks == "mssql":
                await connection.exec_driver_sql(f"SAVE TRANSACTION {name}")
            case ["ROLLBACK", "TO", "SAVEPOINT", name] if self.speaks == "mssql":
                await connection.exec_driver_sql(f"ROLLBACK TRANSACTION {name}")
            case _:
                await connection.exec_driver_sql(words)

    async def _begin(self, connection: AsyncConnection, *, read_only: bool) -> None:
        """Transactions begin by themselves with their first statement."""
        if read_only and self.speaks == "oracle":
            await connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    async def _keep(self, connection: AsyncConnection, level: int) -> None:
        if level == 0 and self._only_reads:
            await connection.rollback()
            return
        await super()._keep(connection, level)

    def _failed(self, error: BaseException) -> StepError:
        return failed(self.name, error)


def _bind(value: Any) -> Any:
    match value:
        case Mapping() | list() | tuple():
            return json.dumps(value, allow_nan=False, ensure_ascii=False, default=str)
        case UUID():
            return str(value)
        case _:
            return value
