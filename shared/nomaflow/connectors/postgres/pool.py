"""PostgreSQL connections of one connector: how they are made, introduced and hung up."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

import asyncpg

from nomaflow.connectors import location
from nomaflow.connectors.lending import CANCEL_SECONDS, CONNECT_SECONDS, Connections
from nomaflow.connectors.postgres import errors as postgres_errors
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.errors import StepError

_KNOWS_CLIENT_CHECK = 14  # client_connection_check_interval came with PostgreSQL 14
_OLDEST = 12
_PORT = 5432
_UNSHOWABLE = re.compile(r"[^\w:.\-/ ]", re.ASCII)


class PostgresConnections(Connections[Any]):
    """Connections of asyncpg."""

    trouble = postgres_errors.DRIVER

    async def _connect(self) -> Any:
        options = connect_options(self.name, self.spec)
        try:
            connection = await asyncpg.connect(
                **options, timeout=self.connect_seconds, statement_cache_size=0
            )
        except (ValueError, asyncpg.ClientConfigurationError):
            raise location.unreadable(self.name) from None
        except postgres_errors.DRIVER as error:
            raise self._refused(error) from None
        try:
            await _prepare_codecs(connection)
        except postgres_errors.DRIVER as error:
            connection.terminate()
            raise self._refused(error) from None
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _introduce(self, connection: Any, application: str) -> None:
        """Say who works here, and let the server notice within a second that nobody listens."""
        shown = _UNSHOWABLE.sub("?", application)
        settings = f"SET application_name = '{shown}'"
        if connection.get_server_version().major >= _KNOWS_CLIENT_CHECK:
            settings += "; SET client_connection_check_interval = '1s'"
        if self.spec.statement_timeout_seconds:
            milliseconds = round(float(self.spec.statement_timeout_seconds) * 1000)
            settings += f"; SET statement_timeout = {milliseconds}"
        await connection.execute(settings, timeout=CONNECT_SECONDS)

    async def _clean(self, connection: Any) -> None:
        await connection.execute("DISCARD ALL", timeout=5)

    def _is_reusable(self, connection: Any) -> bool:
        return not connection.is_closed() and not connection.is_in_transaction()

    async def _hang_up(self, connection: Any) -> None:
        try:
            await connection.close(timeout=CANCEL_SECONDS)
        except postgres_errors.DRIVER:
            connection.terminate()

    def _drop(self, connection: Any) -> None:
        connection.terminate()

    def _refused(self, error: BaseException) -> StepError:
        return postgres_errors.cannot_connect(self.name, where(self.spec), error)


def connect_options(name: str, spec: SqlConnectorSpec) -> dict[str, Any]:
    """What asyncpg needs, from a URL or from parts; StepError for a URL that cannot be read."""
    trust: Any = location.mode_of(spec)
    if spec.ca_file and trust in location.ENCRYPTED:
        trust = location.trust(name, trust, spec.ca_file)
    if spec.url is None:
        return {
            "host": spec.host or "localhost",
            "port": int(spec.port or _PORT),
            "user": spec.user,
            "password": spec.password,
            "database": spec.database or spec.user,
            "ssl": trust,
        }
    parts = location.split(spec.url)
    if parts is None:
        raise location.unreadable(name)
    settings = dict(parse_qsl(parts.query))
    said = spec.ssl_mode or spec.ca_file
    return {
        "dsn": parts._replace(scheme="postgresql").geturl(),
        "host": None if parts.hostname or "host" in settings else "localhost",
        "ssl": trust if said and "sslmode" not in settings else None,
    }


def where(spec: SqlConnectorSpec) -> str:
    """Where a connector leads, for errors: never its password."""
    try:
        return str(location.of("", spec, _PORT))
    except StepError:
        return "a URL that cannot be read"


async def _prepare_codecs(connection: Any) -> None:
    """JSON comes as Python values; what goes in was written as JSON text before."""
    version = connection.get_server_version().major
    if version < _OLDEST:
        raise asyncpg.InterfaceError(f"PostgreSQL {version} is too old; 12 is the oldest supported")
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, schema="pg_catalog", encoder=str, decoder=json.loads, format="text"
        )
