"""PostgreSQL connections of one connector: made, bounded, lent and taken back clean."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import asyncpg

from nomaflow.connectors import postgres_errors
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.errors import StepError

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
CANCEL_SECONDS = 1.5
_KNOWS_CLIENT_CHECK = 14  # client_connection_check_interval came with PostgreSQL 14
_OLDEST = 12
_UNSHOWABLE = re.compile(r"[^\w:.\-/ ]", re.ASCII)


@dataclass(slots=True)
class PostgresConnections:
    """At most `size` connections at once; idle ones are kept for half a minute."""

    name: str
    spec: SqlConnectorSpec
    size: int
    _slots: asyncio.Semaphore = field(init=False)
    _idle: list[tuple[Any, float]] = field(default_factory=list, init=False)
    _busy: set[Any] = field(default_factory=set, init=False)
    _reaper: asyncio.TimerHandle | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.size)

    async def acquire(self, application: str) -> Any:
        """A clean connection that shows `application` on the server; waits for a free one.

        StepError (category connection) when none can be made.
        """
        await self._slots.acquire()
        try:
            connection = await self._kept(application) or await self._made(application)
        except BaseException:
            self._slots.release()
            raise
        self._busy.add(connection)
        return connection

    async def release(self, connection: Any, *, clean: bool) -> None:
        """Take a connection back; one that is not `clean` is closed, its statement cancelled."""
        self._busy.discard(connection)
        try:
            if clean and not connection.is_closed() and not connection.is_in_transaction():
                await connection.execute("DISCARD ALL", timeout=5)
                self._idle.append((connection, time.monotonic()))
                self._watch()
            else:
                await _hang_up(connection)
        except postgres_errors.DRIVER:
            connection.terminate()
        except asyncio.CancelledError:
            connection.terminate()
            raise
        finally:
            self._slots.release()

    async def close(self) -> None:
        """Close every connection; statements in flight are cancelled on the server."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        connections = [*self._busy, *(connection for connection, _ in self._idle)]
        self._busy.clear()
        self._idle.clear()
        await asyncio.gather(*(_hang_up(connection) for connection in connections))

    async def _kept(self, application: str) -> Any:
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.is_closed():
                continue
            try:
                await _introduce(connection, application)
            except postgres_errors.DRIVER:
                connection.terminate()  # the server went away meanwhile; a new one will tell
                continue
            except asyncio.CancelledError:
                connection.terminate()
                raise
            return connection
        return None

    async def _made(self, application: str) -> Any:
        options = connect_options(self.name, self.spec)
        try:
            connection = await asyncpg.connect(
                **options, timeout=CONNECT_SECONDS, statement_cache_size=0
            )
        except (ValueError, asyncpg.ClientConfigurationError):
            raise _unreadable(self.name) from None
        except postgres_errors.DRIVER as error:
            raise postgres_errors.cannot_connect(self.name, where(self.spec), error) from None
        try:
            await _prepare_codecs(connection)
            await _introduce(connection, application)
        except postgres_errors.DRIVER as error:
            connection.terminate()
            raise postgres_errors.cannot_connect(self.name, where(self.spec), error) from None
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _watch(self) -> None:
        if self._reaper is None and self._idle:
            self._reaper = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._reap)

    def _reap(self) -> None:
        self._reaper = None
        now = time.monotonic()
        kept = [
            (connection, since) for connection, since in self._idle if now - since < IDLE_SECONDS
        ]
        for connection, since in self._idle:
            if now - since >= IDLE_SECONDS:
                connection.terminate()
        self._idle[:] = kept
        self._watch()


def connect_options(name: str, spec: SqlConnectorSpec) -> dict[str, Any]:
    """What asyncpg needs, from a URL or from parts; StepError for a URL that cannot be read."""
    if spec.url is None:
        return {
            "host": spec.host or "localhost",
            "port": int(spec.port or 5432),
            "user": spec.user,
            "password": spec.password,
            "database": spec.database or spec.user,
            "ssl": spec.ssl_mode or "prefer",
        }
    parts = _read(spec.url)
    if parts is None:
        raise _unreadable(name)
    settings = dict(parse_qsl(parts.query))
    return {
        "dsn": parts._replace(scheme="postgresql").geturl(),
        "host": None if parts.hostname or "host" in settings else "localhost",
        "ssl": spec.ssl_mode if "sslmode" not in settings else None,
    }


def where(spec: SqlConnectorSpec) -> str:
    """Where a connector leads, for errors: never its password."""
    if spec.url is None:
        return postgres_errors.place(
            spec.host or "localhost", spec.port or 5432, spec.database, spec.user
        )
    parts = _read(spec.url)
    if parts is None:
        return "a URL that cannot be read"
    query = dict(parse_qsl(parts.query))
    return postgres_errors.place(
        parts.hostname or query.get("host", "localhost"),
        parts.port or query.get("port", 5432),
        unquote(parts.path.lstrip("/")),
        unquote(parts.username or ""),
    )


def _read(url: str) -> SplitResult | None:
    """The URL's parts; None when a raw `/ # ? @` in the password has torn it apart."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    torn = "@" in parts.path or "@" in parts.fragment or (parts.fragment and not parts.username)
    return None if torn else parts


def _unreadable(name: str) -> StepError:
    # The parser's own words would quote a part of the URL, perhaps of the password.
    return StepError(
        f"the URL of connector {name!r} cannot be read: a password that holds @ / # ? or % is "
        "written percent-encoded, or the connector by parts (host, user, password ...)",
        retryable=False,
    )


async def _prepare_codecs(connection: Any) -> None:
    """JSON comes as Python values; what goes in was written as JSON text before."""
    version = connection.get_server_version().major
    if version < _OLDEST:
        raise asyncpg.InterfaceError(f"PostgreSQL {version} is too old; 12 is the oldest supported")
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, schema="pg_catalog", encoder=str, decoder=json.loads, format="text"
        )


async def _introduce(connection: Any, application: str) -> None:
    """Say who works here, and let the server notice within a second that nobody listens."""
    shown = _UNSHOWABLE.sub("?", application)
    settings = f"SET application_name = '{shown}'"
    if connection.get_server_version().major >= _KNOWS_CLIENT_CHECK:
        settings += "; SET client_connection_check_interval = '1s'"
    await connection.execute(settings, timeout=CONNECT_SECONDS)


async def _hang_up(connection: Any) -> None:
    """Close; a statement still running is cancelled on the server first."""
    try:
        await connection.close(timeout=CANCEL_SECONDS)
    except postgres_errors.DRIVER:
        connection.terminate()
