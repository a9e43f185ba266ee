"""Connections to one SQLite file, and SQLite's complaints as sentences."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiosqlite

from nomaflow.connectors import location
from nomaflow.connectors.lending import Connections
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.errors import Category, StepError

DRIVER = (OSError, sqlite3.Error, sqlite3.Warning, OverflowError, ValueError)
"""Whatever aiosqlite raises; ValueError for a connection that is closed."""

MEMORY = ":memory:"
_SYNTAX = ("syntax error", "incomplete input", "unrecognized token", "one statement at a time")
OUT_OF_TIME = "the statement took longer than `statement_timeout_seconds`"
_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")

Database = aiosqlite.Connection


class SqliteConnections(Connections[Database]):
    """Connections of aiosqlite: each has a thread, which ends with it."""

    trouble = DRIVER

    async def _connect(self) -> Database:
        path = file_of(self.name, self.spec)
        if path != MEMORY and not Path(path).parent.is_dir():
            raise StepError(
                f"cannot connect to connector {self.name!r} ({path}): there is no folder "
                f"{Path(path).parent}",
                category="connection",
                retryable=False,
            )
        opening = aiosqlite.connect(
            path, timeout=self.connect_seconds, isolation_level=None, cached_statements=100
        )
        # A program that ends must not wait for a statement that nobody listens to.
        opening._thread.daemon = True  # noqa: SLF001  aiosqlite has no word for it
        try:
            connection = await opening
        except DRIVER as error:
            raise self._refused(error) from None
        try:
            await connection.execute("SELECT count(*) FROM sqlite_master")
        except DRIVER as error:
            await self._hang_up(connection)
            raise self._refused(error) from None
        except BaseException:
            self._drop(connection)
            raise
        return connection

    async def _introduce(self, connection: Database, _application: str) -> None:
        await connection.execute("PRAGMA foreign_keys = ON")

    async def _clean(self, _connection: Database) -> None:
        raise NotImplementedError("no connection to a file is used twice")

    def _is_reusable(self, _connection: Database) -> bool:
        # Opening a file costs nothing, and what a step left in a connection goes with it.
        return False

    async def _hang_up(self, connection: Database) -> None:
        with suppress(*DRIVER):
            await connection.interrupt()
        with suppress(*DRIVER):
            await connection.close()

    def _drop(self, connection: Database) -> None:
        connection.stop()

    def _refused(self, error: BaseException) -> StepError:
        path = file_of(self.name, self.spec)
        return StepError(
            f"cannot connect to connector {self.name!r} ({path}): {_words(error)}",
            category="connection",
        )


def file_of(name: str, spec: SqlConnectorSpec) -> str:
    """The file's path, `:memory:` for one that ends with its connection.

    `sqlite:///data/shop.db` is relative, `sqlite:////srv/shop.db` absolute.
    """
    if spec.url is None:
        path = spec.database or ""
    else:
        parts = location.split(spec.url)
        if parts is None or parts.netloc or parts.query:
            raise StepError(
                f"the URL of connector {name!r} must be sqlite:///relative/path or "
                "sqlite:////absolute/path",
                retryable=False,
            )
        path = unquote(parts.path).removeprefix("/")
    if not path or "\x00" in path:
        raise StepError(f"connector {name!r} names no file", retryable=False)
    return path


def failed(connector: str, error: BaseException) -> StepError:
    """A statement that failed."""
    said = _words(error)
    code = getattr(error, "sqlite_errorname", "") or ""
    category: Category = "error"
    if code.startswith(_LOCKED) or said == OUT_OF_TIME:
        category = "timeout"
    elif code.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR")) or "no active connection" in said:
        category = "connection"
    if code.startswith("SQLITE_READONLY"):
        said = f"{said}: this is a read-only transaction, or file (SQLSTATE 25006)"
    shown = f" ({code})" if code else ""
    misread = code in {"", "SQLITE_ERROR"} and any(words in said for words in _SYNTAX)
    return StepError(
        f"connector {connector!r}: {said}{shown}", category=category, retryable=not misread
    )


def _words(error: BaseException) -> Any:
    return str(error).partition("\n")[0] or type(error).__name__
