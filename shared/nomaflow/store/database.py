"""A bounded pool of connections to the service's own database, and how values cross it."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import asyncpg
import structlog
from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

log = structlog.get_logger(__name__)

T = TypeVar("T")

SHORTEST_PAUSE = 0.2
LONGEST_PAUSE = 3.0

Record: TypeAlias = Any
"""A row: a mapping by column, an iterable of values in order. asyncpg has no types."""


class Connection(Protocol):
    """What we ask of one asyncpg connection."""

    async def fetch(self, sql: str, *values: Any) -> Sequence[Record]: ...

    async def fetchrow(self, sql: str, *values: Any) -> Record | None: ...

    async def fetchval(self, sql: str, *values: Any) -> Any: ...

    async def execute(self, sql: str, *values: Any) -> str: ...

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None: ...

    async def set_type_codec(self, name: str, **how: Any) -> None: ...


STATEMENT_TIMEOUT_MS = 30_000
"""No statement of ours may hold a connection longer; a stuck one would hide a stuck program."""
ANSWER_SECONDS = STATEMENT_TIMEOUT_MS / 1000 + 5
"""A server that has not answered by then is not there any more, though the connection is."""


def dump(value: Any) -> str:
    """Write a value as JSON text; dates, decimals and UUIDs become text."""
    return to_json(value, fallback=str, inf_nan_mode="null").decode()


async def prepare(connection: Connection) -> None:
    """Let json and jsonb come and go as Python values."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, encoder=dump, decoder=from_json, schema="pg_catalog", format="text"
        )


class Database:
    """The pool; one per program."""

    Error = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    """What the server or the connection to it may raise; programs wait and try again.

    asyncpg calls it an internal error when the server hangs up between two of its messages.
    """

    def __init__(self, pool: asyncpg.Pool, url: str) -> None:
        self.pool = pool
        self.url = url

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend one connection."""
        async with self.pool.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend one connection inside a transaction."""
        async with self.pool.acquire() as connection, connection.transaction():
            yield connection

    async def fetch(self, sql: str, *values: Any) -> Sequence[Record]:
        """Answer all rows."""
        rows: Sequence[Record] = await self.pool.fetch(sql, *values)
        return rows

    async def fetchrow(self, sql: str, *values: Any) -> Record | None:
        """Answer the first row, or None."""
        return await self.pool.fetchrow(sql, *values)

    async def fetchval(self, sql: str, *values: Any) -> Any:
        """Answer the first column of the first row, or None."""
        return await self.pool.fetchval(sql, *values)

    async def execute(self, sql: str, *values: Any) -> str:
        """Run a statement; answer its command tag."""
        tag: str = await self.pool.execute(sql, *values)
        return tag

    async def close(self) -> None:
        """Give every connection back."""
        await self.pool.close()


async def _as_it_is(_connection: Connection) -> None:
    """No statement of ours leaves anything behind in a session.

    asyncpg's own cleaning costs a round trip after every statement, and when the server went
    away in that moment, the answer to the statement was lost with it.
    """


BY_KEY: Final = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""How statements are planned that all look rows up by their keys.

A plan is made once for a connection, perhaps while the tables are empty and reading them whole is
cheapest; it must still be right when they are not.
"""


async def connect(
    url: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    application: str = "nomaflow",
    plans: Mapping[str, str] | None = None,
) -> Database:
    """Open the pool; raises what asyncpg raises when the server cannot be reached."""
    pool = await asyncpg.create_pool(
        plain_url(url),
        min_size=min_size,
        max_size=max_size,
        init=prepare,
        reset=_as_it_is,
        timeout=10,
        command_timeout=ANSWER_SECONDS,
        max_inactive_connection_lifetime=300,
        server_settings={
            "application_name": application,
            "search_path": "nomaflow",
            "statement_timeout": str(STATEMENT_TIMEOUT_MS),
            "timezone": "UTC",
            **(plans or {}),
        },
    )
    return Database(pool, url)


async def patiently(ask: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T | None:
    """Ask until the database answers, however long that takes; None when told to stop first."""
    pause = SHORTEST_PAUSE
    while not stop.is_set():
        try:
            return await ask()
        except (OSError, TimeoutError, *Database.Error) as error:
            log.warning("waiting for the database", error=type(error).__name__)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
        pause = min(pause * 2, LONGEST_PAUSE)
    return None


def plain_url(url: str) -> str:
    """Return the URL with the scheme libpq knows, whatever SQLAlchemy driver it names."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def sqlalchemy_url(url: str) -> str:
    """Return the URL with the asyncpg driver, for migrations and cold tools."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+asyncpg://", url)
