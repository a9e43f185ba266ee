"""MySQL and MariaDB connections of one connector: made, introduced, cleaned and hung up."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from asyncmy.constants.CLIENT import FOUND_ROWS, LOCAL_FILES

from nomaflow.connectors import location
from nomaflow.connectors.lending import CANCEL_SECONDS, Connections
from nomaflow.connectors.mysql import errors as mysql_errors
from nomaflow.connectors.mysql import values as mysql_values
from nomaflow.connectors.mysql.server import Server
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.errors import StepError

PORT = 3306
_IDLE_SECONDS = 28_800  # a step may think for long between two statements
_SLOW_READER_SECONDS = 3_600
_OPTIONS = ("charset", "ssl_mode", "ssl-mode", "sslmode", "ssl_ca", "unix_socket")
# Modes under which a text would be read otherwise than `statement.parse` reads it.
_UNWANTED_MODES = frozenset({"NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ANSI"})
_UNSHOWABLE = re.compile(r"[^\w:.\-/ ]", re.ASCII)


class MysqlConnections(Connections[Server]):
    """Connections of asyncmy: autocommit, UTC, strict, one statement at a time."""

    trouble = mysql_errors.DRIVER

    async def _connect(self) -> Server:
        connection = await self._opened(self.connect_seconds)
        try:
            await connection.one_statement_at_a_time()
            answer = await connection.say("SELECT @@SESSION.sql_mode, @@max_allowed_packet")
            mode, connection.longest = answer.rows[0]
            connection.mode = _strict(mode)
        except mysql_errors.DRIVER as error:
            connection.close()
            raise self._refused(error) from None
        except BaseException:
            connection.close()
            raise
        return connection

    async def _introduce(self, connection: Server, application: str) -> None:
        settings = [
            "NAMES utf8mb4",
            "SESSION autocommit = 1",
            f"SESSION sql_mode = '{connection.mode}'",
            "SESSION time_zone = '+00:00'",
            f"SESSION wait_timeout = {_IDLE_SECONDS}",
            f"SESSION net_write_timeout = {_SLOW_READER_SECONDS}",
        ]
        if self.spec.statement_timeout_seconds:
            seconds = float(self.spec.statement_timeout_seconds)
            settings.append(
                f"SESSION max_statement_time = {seconds:.3f}"
                if connection.is_mariadb
                else f"SESSION max_execution_time = {round(seconds * 1000)}"
            )
        await connection.say(f"SET {', '.join(settings)}")
        # The server knows no names of clients. A lock named for the run tells whoever comes to
        # end what a dead worker left behind that this connection number is the one it looks for.
        try:
            await connection.say(f"DO GET_LOCK('{mark(application, connection.number)}', 0)")
        except mysql_errors.DRIVER as error:
            if mysql_errors.number_of(error) not in range(1000, 2000):
                raise  # else a server that knows no such locks, some clusters

    async def _clean(self, connection: Server) -> None:
        async with asyncio.timeout(CANCEL_SECONDS):
            await connection.reset()

    def _is_reusable(self, connection: Server) -> bool:
        idle = not connection.is_in_transaction and not connection.is_working
        return connection.is_open and idle

    async def _hang_up(self, connection: Server) -> None:
        """A closed socket stops no statement here: the server is told over another connection."""
        number = connection.number
        is_working = connection.is_working
        connection.close()
        if is_working:
            await self.kill(number)

    def _drop(self, connection: Server) -> None:
        connection.close()

    def _refused(self, error: BaseException) -> StepError:
        return mysql_errors.cannot_connect(self.name, self._where(), error)

    async def kill(self, number: int, *, only_statement: bool = False) -> None:
        """End what a connection does, over another one; silent when that cannot be done."""
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                other = await self._opened(CANCEL_SECONDS)
                try:
                    what = "QUERY" if only_statement else "CONNECTION"
                    await other.say(f"KILL {what} {int(number)}")
                finally:
                    other.close()
        except (StepError, *mysql_errors.DRIVER):
            return

    async def _opened(self, seconds: float) -> Server:
        options = connect_options(self.name, self.spec)
        mode = options.pop("tls_mode")
        try:
            connection = Server(**options, connect_timeout=seconds)
            connection.prefers_tls = mode in {"prefer", "allow"}
            async with asyncio.timeout(seconds):
                await connection.connect()
        except mysql_errors.DRIVER as error:
            raise self._refused(error) from None
        return connection

    def _where(self) -> str:
        return str(location.of(self.name, self.spec, PORT))


def connect_options(name: str, spec: SqlConnectorSpec) -> dict[str, Any]:
    """What asyncmy's Connection needs, and `tls_mode` besides; StepError for an unknown option."""
    found = location.of(name, spec, PORT)
    options = dict(found.options)
    for option in options:
        if option not in _OPTIONS:
            raise StepError(
                f"the URL of connector {name!r} has the option `{option}`; known ones: "
                f"{', '.join(_OPTIONS)}",
                retryable=False,
            )
    said = spec.ssl_mode or options.get("ssl_mode") or options.get("ssl-mode")
    ca_file = spec.ca_file or options.get("ssl_ca")
    mode = (said or options.get("sslmode") or ("verify-full" if ca_file else "prefer")).lower()
    mode = mode.replace("_", "-").replace("required", "require").replace("disabled", "disable")
    tls = (
        None
        if mode == "disable" or "unix_socket" in options
        else location.trust(name, mode, ca_file)
    )
    return {
        "host": found.host,
        "port": found.port,
        "user": found.user or None,
        # As text asyncmy would write it in Latin-1.
        "password": found.password.encode(),
        "database": found.database or None,
        "unix_socket": options.get("unix_socket"),
        "ssl": tls,
        "charset": "utf8mb4",
        "autocommit": None,
        # Rows that were met, as PostgreSQL counts them, also where nothing had to change.
        # LOAD DATA LOCAL is for `Server.load`, which sends what it was given; asyncmy itself still
        # refuses a server that asks for a file of ours.
        "client_flag": FOUND_ROWS | LOCAL_FILES,
        "conv": mysql_values.decoders(),
        "tls_mode": mode,
    }


def mark(application: str, number: int) -> str:
    """The name of the lock that a step's connection holds; at most 64 characters."""
    return f"{_UNSHOWABLE.sub('?', application)[:45]}:{number}"


def _strict(mode: str) -> str:
    """The server's own mode, with what would silently change data or the meaning of a text out."""
    words = [word for word in mode.split(",") if word and word not in _UNWANTED_MODES]
    return ",".join(dict.fromkeys([*words, "STRICT_ALL_TABLES"]))
