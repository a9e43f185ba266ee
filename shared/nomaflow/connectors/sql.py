"""A SQL connector as steps see it, and the door that opens one for its URL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from nomaflow.connectors.spec import SqlConnectorSpec

Row = Mapping[str, Any]
Params = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Session:
    """How one step uses a connector.

    `application` is what the server shows (`nomaflow:<run>:<step>`), `on_backend_pid` hears of
    each server process that works for the step. With `one_transaction` everything the
    connector does is one transaction, kept by `commit()` and undone by `close()` without it;
    otherwise each statement stands alone outside `transaction()`.
    """

    application: str = "nomaflow"
    on_backend_pid: Callable[[int], None] = lambda _pid: None
    one_transaction: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement answered: its rows, and how many rows it read or changed."""

    rows: Sequence[Row]
    rowcount: int
    command: str = ""

    def first(self) -> Row | None:
        """The first row, or None when there is none."""
        return self.rows[0] if self.rows else None

    def all(self) -> list[Row]:
        """Every row."""
        return list(self.rows)


class SqlConnector(ABC):
    """One step's use of a database: one connection, taken at the first statement.

    Parameters are written `:name` and always bound, never spliced. Not safe for two statements
    at once; a step that wants that opens the connector twice.
    """

    name: str
    spec: SqlConnectorSpec

    @abstractmethod
    async def execute(self, sql: str, params: Params = None) -> Result:
        """Run one statement; StepError with the database's words when it fails."""

    async def scalar(self, sql: str, params: Params = None) -> Any:
        """The first column of the first row, or None."""
        row = await self.first(sql, params)
        return None if row is None else next(iter(row.values()), None)

    async def first(self, sql: str, params: Params = None) -> Row | None:
        """The first row, or None."""
        return (await self.execute(sql, params)).first()

    async def all(self, sql: str, params: Params = None) -> list[Row]:
        """Every row, in memory; `stream` for many."""
        return (await self.execute(sql, params)).all()

    @abstractmethod
    def stream(self, sql: str, params: Params = None, batch: int = 1000) -> AsyncIterator[Row]:
        """Rows one by one from a cursor on the server, `batch` rows fetched at a time."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[None]:
        """All or nothing; inside another transaction, a savepoint."""

    @abstractmethod
    async def run(self, query_name: str, **params: Any) -> Result:
        """Run a named query of this connector; `name:write` for one that changes data."""

    @abstractmethod
    async def commit(self) -> None:
        """Keep what a `one_transaction` session did; nothing to do otherwise."""

    @abstractmethod
    async def close(self) -> None:
        """Give the connection back; what `one_transaction` did and `commit` did not keep is undone."""

    @abstractmethod
    async def raw(self) -> Any:
        """The driver's own connection, for what this class does not offer (COPY)."""
