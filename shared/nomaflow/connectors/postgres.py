"""A step's use of a PostgreSQL database over asyncpg."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from nomaflow.connectors import postgres_errors, statement
from nomaflow.connectors.binding import as_text, bind, spelled
from nomaflow.connectors.postgres_pool import PostgresConnections
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.connectors.sql import Params, Result, Row, Session, SqlConnector, SqlPool
from nomaflow.errors import NomaflowError, StepError

_PREPARED_AT_MOST = 100
_AMBIGUOUS = (
    asyncpg.exceptions.IndeterminateDatatypeError,
    asyncpg.exceptions.AmbiguousParameterError,
)
_NUMBER = re.compile(r"\$(\d+)")
_numbers = itertools.count(1)


class PostgresPool(SqlPool):
    """The connections of one PostgreSQL connector in this process."""

    def __init__(self, name: str, spec: SqlConnectorSpec) -> None:
        self.name = name
        self.spec = spec
        self._connections = PostgresConnections(name, spec, int(spec.pool_size))

    def connector(self, session: Session) -> PostgresConnector:
        return PostgresConnector(self.name, self.spec, session, self._connections)

    async def close(self) -> None:
        await self._connections.close()


def make_pool(name: str, spec: SqlConnectorSpec) -> PostgresPool:
    """What `connectors.sql.pool` calls for postgresql:// URLs."""
    return PostgresPool(name, spec)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a statement is sent: numbered so, with these casts, its parameters of these types."""

    parsed: statement.Statement
    apart: bool
    casts: Mapping[int, str]
    types: Sequence[Any]

    def order(self) -> tuple[str, ...]:
        return self.parsed.order(apart=self.apart)


@dataclass(frozen=True, slots=True)
class Ready:
    """A prepared statement and the values to run it with."""

    prepared: Any
    values: Sequence[Any]


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
        self._shapes: dict[str, Shape] = {}
        self._prepared: OrderedDict[str, Any] = OrderedDict()

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
            ready = await self._ready(connection, sql, params or {})
            try:
                records = await ready.prepared.fetch(*ready.values)
            except asyncpg.exceptions.InvalidCachedStatementError:
                if connection.is_in_transaction():
                    raise
                self._forget()  # the table changed its columns since; ask the server anew
                ready = await self._ready(connection, sql, params or {})
                records = await ready.prepared.fetch(*ready.values)
        command = ready.prepared.get_statusmsg() or ""
        return Result(
            [dict(record) for record in records], _rowcount(command), command.partition(" ")[0]
        )

    async def stream(
        self, sql: str, params: Params = None, batch: int = 1000
    ) -> AsyncGenerator[Row, None]:
        connection = await self.raw()
        if not connection.is_in_transaction():
            async with self.transaction():
                async for row in self.stream(sql, params, batch):
                    yield row
            return
        with self.translated(sql):
            ready = await self._ready(connection, sql, params or {})
            async for record in ready.prepared.cursor(*ready.values, prefetch=batch):
                yield dict(record)

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
        except asyncio.CancelledError:
            self._broken = True  # close() cancels on the server and hangs up
            raise
        except BaseException:
            if not connection.is_closed():
                with self.translated():
                    await block.rollback()
            raise
        with self.translated():
            await block.commit()

    async def commit(self) -> None:
        if self._outer is not None:
            outer, self._outer = self._outer, None
            with self.translated():
                await outer.commit()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        outer, self._outer = self._outer, None
        self._forget()
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
            shape = await self._shape(connection, sql)
            await connection.execute("SELECT")  # see `describe`
        return {
            name: spelled(server) for name, server in zip(shape.order(), shape.types, strict=True)
        }

    async def describe(self, sql: str) -> Sequence[Any]:
        """The columns a query answers, without running it: objects with `.name` and `.type`."""
        connection = await self.raw()
        with self.translated(sql):
            shape = await self._shape(connection, sql)
            prepared = await self._prepare(
                connection, shape.parsed.numbered(shape.casts, apart=shape.apart)
            )
            # The driver prepares without ending the implicit transaction; a BEGIN that asks for
            # a snapshot of its own would come too late.
            await connection.execute("SELECT")
            return tuple(prepared.get_attributes())

    async def _ready(self, connection: Any, sql: str, params: Mapping[str, Any]) -> Ready:
        shape = self._shapes.get(sql) or await self._shape(connection, sql)
        order = shape.order()
        for name in order:
            if name not in params:
                raise StepError(f"the SQL text uses `:{name}`, and no such parameter is given")
        bound = [
            bind(name, params[name], server)
            if number not in shape.casts
            else as_text(name, params[name])
            for number, (name, server) in enumerate(zip(order, shape.types, strict=True), 1)
        ]
        casts = dict(shape.casts)
        casts.update({n: value.cast for n, value in enumerate(bound, 1) if value.cast})
        text = shape.parsed.numbered(casts, apart=shape.apart)
        return Ready(await self._prepare(connection, text), [value.value for value in bound])

    async def _shape(self, connection: Any, sql: str) -> Shape:
        """Ask the server what types the parameters have.

        A name that PostgreSQL cannot give one type at every place (`:since IS NULL OR t > :since`)
        is numbered once per place, and a place with no type of its own is text.
        """
        parsed = statement.parse(sql)
        apart = False
        casts: dict[int, str] = {}
        while True:
            try:
                text = parsed.numbered(casts, apart=apart)
                prepared = await self._try_prepare(connection, text, risky=bool(parsed.names))
            except _AMBIGUOUS as error:
                found = _NUMBER.search(str(error))
                if not apart and len(parsed.names) > len(parsed.order()):
                    apart = True
                elif found is not None and int(found.group(1)) not in casts:
                    casts[int(found.group(1))] = "::text"
                else:
                    raise
            else:
                shape = Shape(parsed, apart, casts, prepared.get_parameters())
                self._shapes[sql] = shape
                return shape

    async def _try_prepare(self, connection: Any, text: str, *, risky: bool) -> Any:
        if risky and connection.is_in_transaction():
            async with connection.transaction():  # a refusal must not end the outer transaction
                return await self._prepare(connection, text)
        return await self._prepare(connection, text)

    async def _prepare(self, connection: Any, text: str) -> Any:
        prepared = self._prepared.get(text)
        if prepared is None:
            # Named, so that the server keeps to what it described, or says that it cannot: an
            # unnamed one is parsed anew each time, and rows of a changed table are misread.
            prepared = await connection.prepare(text, name=f"nomaflow_{next(_numbers)}")
            self._prepared[text] = prepared
            if len(self._prepared) > _PREPARED_AT_MOST:
                self._prepared.popitem(last=False)
        else:
            self._prepared.move_to_end(text)
        return prepared

    def _forget(self) -> None:
        self._shapes.clear()
        self._prepared.clear()

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
        except (ValueError, *postgres_errors.DRIVER) as error:
            shape = self._shapes.get(sql or "")
            names = shape.order() if shape else ()
            raise postgres_errors.failed(self.name, error, names) from error


def _rowcount(command: str) -> int:
    """The count a command tag ends with: `INSERT 0 2`, `UPDATE 3`, `SELECT 30`; DDL has none."""
    last = command.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
