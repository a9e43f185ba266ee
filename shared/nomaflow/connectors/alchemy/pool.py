"""Connections to Oracle and SQL Server over SQLAlchemy, and their complaints as sentences."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sqlalchemy import URL, NullPool
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from nomaflow.connectors import location
from nomaflow.connectors.lending import CANCEL_SECONDS, Connections
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.errors import Category, StepError

DRIVER = (OSError, ValueError, SQLAlchemyError)
"""Whatever comes through SQLAlchemy."""

_PORTS = {"oracle": 1521, "mssql": 1433}
_DRIVERS = {"oracle": "oracle+oracledb_async", "mssql": "mssql+aioodbc"}
_ODBC = "ODBC Driver 18 for SQL Server"


class AlchemyConnections(Connections[AsyncConnection]):
    """Connections that SQLAlchemy makes and does not pool: lending them is done here."""

    trouble = DRIVER

    def __init__(self, name: str, spec: SqlConnectorSpec, url: URL, dialect: str) -> None:
        super().__init__(name, spec)
        self._dialect = dialect
        # An error of ours must not show what was bound.
        self._engine: AsyncEngine = create_async_engine(
            url, poolclass=NullPool, hide_parameters=True
        )
        self._leaving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        await super().close()
        await self._engine.dispose()

    async def _connect(self) -> AsyncConnection:
        try:
            async with asyncio.timeout(self.connect_seconds):
                return await self._engine.connect()
        except DRIVER as error:
            raise self._refused(error) from None

    async def _introduce(self, connection: AsyncConnection, application: str) -> None:
        if self._dialect == "oracle":
            await connection.exec_driver_sql(
                "BEGIN dbms_application_info.set_module(:who, NULL); END;", {"who": application}
            )
            await connection.exec_driver_sql("ALTER SESSION SET TIME_ZONE = '+00:00'")
            await connection.commit()

    async def _clean(self, _connection: AsyncConnection) -> None:
        raise NotImplementedError("no connection is used twice")

    def _is_reusable(self, _connection: AsyncConnection) -> bool:
        # Neither driver offers a way to forget what a step left in a session.
        return False

    async def _hang_up(self, connection: AsyncConnection) -> None:
        with suppress(*DRIVER):
            async with asyncio.timeout(CANCEL_SECONDS):
                await connection.close()
                return
        self._drop(connection)

    def _drop(self, connection: AsyncConnection) -> None:
        task = asyncio.get_running_loop().create_task(_forgotten(connection))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _refused(self, error: BaseException) -> StepError:
        where = location.of(self.name, self.spec, _PORTS.get(self._dialect, 0))
        return StepError(
            f"cannot connect to connector {self.name!r} ({where}): {words(error)}",
            category="connection",
        )


async def _forgotten(connection: AsyncConnection) -> None:
    with suppress(*DRIVER):
        await connection.invalidate()


def url_of(name: str, spec: SqlConnectorSpec, dialect: str) -> URL:
    """What SQLAlchemy is to connect to; the query of a URL is the driver's own options."""
    found = location.of(name, spec, _PORTS[dialect])
    options = dict(found.options)
    database: str | None = found.database or None
    if dialect == "oracle" and database and not options.keys() & {"sid", "service_name"}:
        options["service_name"], database = database, None
    if dialect == "mssql":
        options.setdefault("driver", _ODBC)
        if location.mode_of(spec) in {"verify-ca", "verify-full"}:
            options.setdefault("TrustServerCertificate", "no")
    return URL.create(
        _DRIVERS[dialect],
        username=found.user or None,
        password=found.password or None,
        host=found.host,
        port=found.port,
        database=database,
        query=options,
    )


def failed(connector: str, error: BaseException) -> StepError:
    """A statement that failed."""
    category: Category = "error"
    if isinstance(error, OSError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    ):
        category = "connection"
    return StepError(f"connector {connector!r}: {words(error)}", category=category)


def words(error: BaseException) -> str:
    """The server's own words; SQLAlchemy adds the statement, which is not wanted here."""
    told = error.orig if isinstance(error, DBAPIError) and error.orig else error
    if isinstance(told, TimeoutError):
        return "no answer in time"
    return str(told).partition("\n")[0] or type(told).__name__
