"""A step's use of a database whose driver leaves BEGIN, SAVEPOINT and COMMIT to words."""

from __future__ import annotations

import asyncio
import re
import sys
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, Generic, TypeVar

from nomaflow.connectors.lending import Connections
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.connectors.sql import Batch, Params, Row, Session, SqlConnector
from nomaflow.errors import NomaflowError, StepError

ROLLBACK_SECONDS = 5.0
_FIRST_WORD = re.compile(
    r"(?:\s|\(|--[^\n]*(?:\n|\Z)|#[^\n]*(?:\n|\Z)|/\*.*?\*/)*([A-Za-z]+)", re.DOTALL
)
_READING = frozenset(
    {"SELECT", "SHOW", "VALUES", "TABLE", "WITH", "EXPLAIN", "DESCRIBE", "DESC", "PRAGMA", "HELP"}
)
_ANSWERS_ROWS = _READING - {"SHOW", "EXPLAIN"}

C = TypeVar("C")


class BorrowedConnector(SqlConnector, Generic[C]):
    """One connection, one statement at a time."""

    trouble: tuple[type[BaseException], ...] = (OSError,)
    """What the driver raises."""

    def __init__(
        self, name: str, spec: SqlConnectorSpec, session: Session, connections: Connections[C]
    ) -> None:
        self.name = name
        self.spec = spec
        self._session = session
        self._connections = connections
        self._connection: C | None = None
        self._level = 0
        self._has_outer = False
        self._only_reads = False
        self._broken = False
        self._is_streaming = False

    async def raw(self) -> C:
        """The driver's connection, taken from the pool at the first call."""
        if self._connection is None:
            self._connection = await self._connections.acquire(self._session.application)
            pid = self._backend_pid(self._connection)
            if pid is not None:
                self._session.on_backend_pid(pid)
        if self._session.one_transaction and not self._has_outer:
            with self.translated():
                await self._begin(self._connection, read_only=False)
            self._has_outer = True
            self._level = 1
        return self._connection

    async def stream(
        self, sql: str, params: Params = None, batch: int = 1000
    ) -> AsyncGenerator[Row, None]:
        async with aclosing(self.batches(sql, params, batch)) as found:
            async for columns, rows in found:
                for row in rows:
                    yield dict(zip(columns, row, strict=True))

    async def batches(
        self, sql: str, params: Params = None, batch: int = 1000
    ) -> AsyncGenerator[Batch, None]:
        connection = await self._ready(sql)
        self._is_streaming = True
        try:
            async with aclosing(self._batches(connection, sql, params, batch)) as found:
                async for columns, rows in found:
                    yield columns, self.trimmed(rows)
        finally:
            self._is_streaming = False

    @asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[None]:
        connection = await self.raw()
        level, reads = self._level, self._only_reads
        with self.translated():
            if level == 0:
                await self._begin(connection, read_only=read_only)
            else:
                await self._say(connection, f"SAVEPOINT nomaflow_{level}")
            if read_only:
                await self._reads_only(connection, on=True)
        self._level, self._only_reads = level + 1, reads or read_only
        try:
            yield
        except BaseException:
            await self._undo(connection, level)
            raise
        else:
            with self.translated():
                await self._keep(connection, level)
        finally:
            self._level, self._only_reads = level, reads
            if read_only and not reads and not self._broken:
                with self.translated():
                    await self._reads_only(connection, on=False)

    def spoil(self) -> None:
        """The connection is not to be used by anyone else: `close` hangs up."""
        self._broken = True

    async def commit(self) -> None:
        if self._has_outer and self._connection is not None:
            self._has_outer, self._level = False, 0
            with self.translated():
                await self._say(self._connection, "COMMIT")

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        has_outer, self._has_outer, self._level = self._has_outer, False, 0
        try:
            if connection is not None:
                if has_outer and not self._broken:
                    try:
                        await self._say(connection, "ROLLBACK")
                    except self.trouble:
                        self._broken = True
                await self._connections.release(connection, clean=not self._broken)
        finally:
            if self.owned_pool is not None:
                await self.owned_pool.close()

    async def _ready(self, sql: str) -> C:
        """The connection, if this statement may go to it now."""
        if self._is_streaming and not self.streams_beside:
            raise StepError(
                f"connector {self.name!r}: the rows of a stream are still being read, and "
                f"{self.dialect} answers one statement at a time; read them to the end first, or "
                "collect them with `all`",
                retryable=False,
            )
        if self._only_reads and first_word(sql) not in _READING:
            raise StepError(
                f"connector {self.name!r}: {first_word(sql) or 'the statement'} changes data, and "
                "this is a read-only transaction (SQLSTATE 25006)",
                retryable=False,
            )
        return await self.raw()

    streams_beside = False
    """Whether a statement may run while the rows of another are read."""

    @abstractmethod
    def _backend_pid(self, connection: C) -> int | None:
        """The number under which the server knows the connection."""

    @abstractmethod
    async def _say(self, connection: C, words: str) -> None:
        """Run a statement of our own that answers no rows."""

    @abstractmethod
    async def _begin(self, connection: C, *, read_only: bool) -> None:
        """Open a transaction."""

    async def _reads_only(self, connection: C, *, on: bool) -> None:
        """Let the server refuse writes from here on, where `_begin` alone does not say it."""

    @abstractmethod
    def _batches(
        self, connection: C, sql: str, params: Params, batch: int
    ) -> AsyncGenerator[tuple[Sequence[str], list[Any]], None]:
        """Columns and rows as the driver gives them."""

    @abstractmethod
    def _failed(self, error: BaseException) -> StepError:
        """The driver's exception as a sentence."""

    async def _keep(self, connection: C, level: int) -> None:
        words = "COMMIT" if level == 0 else f"RELEASE SAVEPOINT nomaflow_{level}"
        await self._say(connection, words)

    async def _undo(self, connection: C, level: int) -> None:
        """Roll back; a connection that cannot, or was cancelled, is hung up, which undoes too."""
        if self._broken or isinstance(sys.exception(), asyncio.CancelledError | GeneratorExit):
            self._broken = True
            return
        words = "ROLLBACK" if level == 0 else f"ROLLBACK TO SAVEPOINT nomaflow_{level}"
        try:
            async with asyncio.timeout(ROLLBACK_SECONDS):
                await self._say(connection, words)
        except self.trouble:  # TimeoutError is an OSError
            self._broken = True

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The driver's exceptions as StepError; a cancelled statement spoils the connection."""
        try:
            yield
        except asyncio.CancelledError:
            self._broken = True
            raise
        except NomaflowError as error:
            raise StepError(f"connector {self.name!r}: {error.message}", retryable=False) from None
        except self.trouble as error:
            raise self._failed(error) from error


def first_word(sql: str) -> str:
    """The statement's verb in capitals, behind comments and brackets; empty when there is none."""
    found = _FIRST_WORD.match(sql)
    return found.group(1).upper() if found else ""


def command_of(sql: str, *, answered: bool) -> str:
    """What `Result.command` says: SELECT for whatever only answers rows."""
    word = first_word(sql)
    return "SELECT" if answered and word in _ANSWERS_ROWS else word


def values_of(names: Sequence[str], params: Params) -> list[tuple[str, Any]]:
    """Each name with its value; StepError for one that has none."""
    given = params or {}
    for name in names:
        if name not in given:
            raise StepError(
                f"the SQL text uses `:{name}`, and no such parameter is given", retryable=False
            )
    return [(name, given[name]) for name in names]
