"""A SQL connector as steps see it, and the door that opens one for its URL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from nomaflow.connectors import query_params, statement
from nomaflow.connectors.spec import NamedQuery, QueryParam, SqlConnectorSpec
from nomaflow.errors import StepError

Row = Mapping[str, Any]
Params = Mapping[str, Any] | None
Batch = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Names of columns, and rows of values in their order."""


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
    columns: Sequence[str] = ()
    """The names of the columns, one that comes twice twice; a row holds the last of those."""

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
    owned_pool: SqlPool | None = None

    @property
    @abstractmethod
    def dialect(self) -> str:
        """`postgresql`, `mysql`, `sqlite` ..."""

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
    def stream(
        self, sql: str, params: Params = None, batch: int = 1000
    ) -> AsyncGenerator[Row, None]:
        """Rows one by one from a cursor on the server, `batch` rows fetched at a time."""

    @abstractmethod
    def batches(
        self, sql: str, params: Params = None, batch: int = 1000
    ) -> AsyncGenerator[Batch, None]:
        """The same rows by the batch, as tuples: (columns, rows); nothing for an empty answer."""

    @abstractmethod
    def transaction(self, *, read_only: bool = False) -> AbstractAsyncContextManager[None]:
        """All or nothing; inside another transaction, a savepoint."""

    async def run(self, query_name: str, **params: Any) -> Result:
        """Run a named query of this connector; `name:write` for one that changes data.

        StepError when it is unknown, a read query is asked to write or the reverse, or a
        parameter is missing or unknown.
        """
        query, values = named_query(self.name, self.spec, query_name, params)
        async with self.transaction(read_only=query.operation == "read"):
            return await self.execute(query.sql, values)

    @abstractmethod
    async def commit(self) -> None:
        """Keep what a `one_transaction` session did; nothing to do otherwise."""

    @abstractmethod
    async def close(self) -> None:
        """Give the connection back; what `one_transaction` did without `commit` is undone."""

    @abstractmethod
    async def raw(self) -> Any:
        """The driver's own connection, for what this class does not offer (COPY)."""

    def trimmed(self, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        """The rows as read, or without the trailing blanks of text where `trim_strings` says so."""
        if not self.spec.trim_strings:
            return rows
        return [[v.rstrip(" ") if isinstance(v, str) else v for v in row] for row in rows]


class SqlPool(ABC):
    """The connections of one connector in one process, never more than its `pool_size`."""

    name: str
    spec: SqlConnectorSpec

    @abstractmethod
    def connector(self, session: Session) -> SqlConnector:
        """A step's use of the connector; it takes a connection when it first needs one."""

    @abstractmethod
    async def close(self) -> None:
        """Close every connection, those in use too."""

    async def end(self, number: int, application: str) -> None:  # noqa: ARG002  nothing to do
        """End a server process that `application` left behind, if it still is that one's."""
        # A file, or a server whose connections do not tell whose they are, has nothing to end.
        return


_DRIVERS = {
    "postgresql": "nomaflow.connectors.postgres.connector",
    "mysql": "nomaflow.connectors.mysql.connector",
    "sqlite": "nomaflow.connectors.sqlite.connector",
    "oracle": "nomaflow.connectors.alchemy.connector",
    "mssql": "nomaflow.connectors.alchemy.connector",
}
_ALIASES = {"postgres": "postgresql", "mariadb": "mysql", "sqlserver": "mssql", "sqlite3": "sqlite"}
_EXTRAS = ("mysql", "sqlite", "oracle", "mssql")


DIALECTS = tuple(_DRIVERS)


def known(word: str) -> str | None:
    """Return the database that a URL's scheme or a `driver` means, None for an unknown one."""
    word = word.lower().partition("+")[0]
    dialect = _ALIASES.get(word, word)
    return dialect if dialect in _DRIVERS else None


def dialect_of(name: str, spec: SqlConnectorSpec) -> str:
    """Which database a connector speaks to; StepError when this version cannot reach it."""
    scheme = (urlsplit(spec.url).scheme if spec.url else spec.driver or "").lower()
    dialect = known(scheme)
    if dialect is not None:
        return dialect
    what = f"the scheme {scheme!r}" if scheme else "no scheme"
    raise StepError(
        f"connector {name!r} has a URL with {what}; write postgresql:// mysql:// sqlite:/// "
        "oracle:// or mssql://",
        retryable=False,
    )


def pool(name: str, spec: SqlConnectorSpec) -> SqlPool:
    """The pool of a rendered connector; no connection is made yet."""
    dialect = dialect_of(name, spec)
    # Drivers are loaded when a connector first needs them: most are optional.
    try:
        driver = import_module(_DRIVERS[dialect])
        made = driver.make_pool(name, spec)
    except ModuleNotFoundError as error:
        if dialect not in _EXTRAS or (error.name or "").startswith("nomaflow"):
            raise
        raise StepError(
            f"connector {name!r} is a {dialect} database, and its driver is not installed here "
            f"({error.name}); install it with `pip install 'nomaflow[{dialect}]'`",
            retryable=False,
        ) from None
    if not isinstance(made, SqlPool):
        raise TypeError(f"{driver.__name__}.make_pool must answer a SqlPool")
    return made


def open(  # noqa: A001  connectors.sql.open says it best
    name: str, spec: SqlConnectorSpec, session: Session | None = None
) -> SqlConnector:
    """One connector with a pool of its own, closed with it (for a child process or a script)."""
    own = pool(name, spec)
    connector = own.connector(session or Session())
    connector.owned_pool = own
    return connector


def named_query(
    connector: str, spec: SqlConnectorSpec, reference: str, params: Mapping[str, Any]
) -> tuple[NamedQuery, dict[str, Any]]:
    """The query that `name` or `name:write` refers to, and its parameters with their defaults."""
    name, _, suffix = reference.partition(":")
    query = spec.queries.get(name)
    if query is None:
        known = ", ".join(sorted(spec.queries)) or "none"
        raise StepError(
            f"connector {connector!r} has no query named {name!r}; its queries: {known}",
            retryable=False,
        )
    if suffix not in {"", "read", "write"}:
        raise StepError(
            f"{reference!r} is not a query; write {name!r} or '{name}:write'", retryable=False
        )
    if suffix == "write" and query.operation == "read":
        raise StepError(
            f"query {name!r} of connector {connector!r} only reads; it cannot write",
            retryable=False,
        )
    if suffix != "write" and query.operation == "write":
        raise StepError(
            f"query {name!r} of connector {connector!r} changes data; refer to it as "
            f"'{name}:write'",
            retryable=False,
        )
    return query, _declared(name, query, params)


def _declared(name: str, query: NamedQuery, params: Mapping[str, Any]) -> dict[str, Any]:
    """The declared parameters with their types and defaults; without declarations, as given."""
    if not query.params:
        used = frozenset[str]().union(*statement.readings(query.sql))
        if unknown := sorted(set(params) - used):
            raise StepError(f"query {name!r} has no parameter `{unknown[0]}`", retryable=False)
        return dict(params)
    if unknown := sorted(set(params) - set(query.params)):
        known = ", ".join(f"`{wanted}`" for wanted in query.params)
        raise StepError(
            f"query {name!r} has no parameter `{unknown[0]}`; it has {known}", retryable=False
        )
    return {
        wanted: _value(name, wanted, declared, params) for wanted, declared in query.params.items()
    }


def _value(query: str, name: str, declared: QueryParam, given: Mapping[str, Any]) -> Any:
    value = given.get(name, declared.default)
    if value is None and declared.required:
        raise StepError(f"query {query!r} needs the parameter `{name}`", retryable=False)
    try:
        return query_params.coerced(declared.type, value)
    except ValueError as error:
        raise StepError(f"query {query!r}, parameter `{name}`: {error}", retryable=False) from None
