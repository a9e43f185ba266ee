"""Whether a connector works: green or red, and why, within five seconds."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nomaflow.connectors import sql
from nomaflow.connectors.http import client as http_client
from nomaflow.connectors.http import connector as http
from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow.connectors.ldap import connector as ldap
from nomaflow.connectors.ldap import schema as ldap_schema
from nomaflow.connectors.spec import (
    ConnectorSpec,
    HttpConnectorSpec,
    LdapConnectorSpec,
    SqlConnectorSpec,
)
from nomaflow.errors import StepError

SECONDS = 5.0
_UNAUTHORISED = (401, 403, 407)
# What a server is, and whom it takes us for.
_WHO = {
    "postgresql": (
        "SELECT split_part(version(), ' on ', 1)",
        "SELECT current_user || '@' || current_database()",
    ),
    "mysql": (
        "SELECT concat(if(version() LIKE '%MariaDB%', 'MariaDB ', 'MySQL '), version())",
        "SELECT concat(current_user(), ' in ', coalesce(database(), 'no database'))",
    ),
    "sqlite": (
        "SELECT 'SQLite ' || sqlite_version()",
        "SELECT count(*) || ' tables' FROM sqlite_master WHERE type = 'table'",
    ),
    "oracle": (
        "SELECT banner FROM v$version FETCH FIRST 1 ROWS ONLY",
        "SELECT user FROM dual",
    ),
    "mssql": ("SELECT @@VERSION", "SELECT concat(suser_sname(), ' in ', db_name())"),
}
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class ConnectorTestResult:
    """What a test found: `ok`, how long it took, and a sentence without secrets."""

    ok: bool
    milliseconds: int
    message: str


async def connector(
    name: str, spec: ConnectorSpec, policy: HttpPolicy | None = None
) -> ConnectorTestResult:
    """Try a rendered connector for at most five seconds; a failure is an answer, never raised."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(SECONDS):
            ok, message = await _tried(name, spec, policy or HttpPolicy())
    except TimeoutError:
        ok, message = False, f"no answer within {SECONDS:g} s"
    except StepError as error:
        ok, message = False, error.message
    return ConnectorTestResult(ok, round((time.monotonic() - started) * 1000), message)


async def _tried(name: str, spec: ConnectorSpec, policy: HttpPolicy) -> tuple[bool, str]:
    match spec:
        case SqlConnectorSpec():
            return True, await _sql(name, spec)
        case HttpConnectorSpec():
            return await _http(spec, policy)
        case LdapConnectorSpec():
            return True, await _ldap(spec)
        case _:
            return False, f"{spec.kind} connectors cannot be tested in this version"


async def _sql(name: str, spec: SqlConnectorSpec) -> str:
    dialect = sql.dialect_of(name, spec)
    if dialect == "sqlite" and (missing := _no_file_yet(spec)):
        return missing
    opened = sql.open(name, spec, sql.Session(application="nomaflow:test"))
    try:
        said = [str(await opened.scalar(words)) for words in _WHO[dialect]]
    finally:
        await opened.close()
    return ", ".join(said)


def _no_file_yet(spec: SqlConnectorSpec) -> str | None:
    """A file that a first statement will make is no reason to make it now."""
    path = Path(spec.database or unquote(urlsplit(spec.url or "").path[1:]))
    if path.exists() or not path.parent.is_dir() or str(path) == ":memory:":
        return None
    return f"SQLite, {path.name} does not exist yet: the first statement makes it"


async def _ldap(spec: LdapConnectorSpec) -> str:
    session = await ldap.open(ldap.settings(spec))
    try:
        contexts = await ldap_schema.contexts(session)
        return f"bound to {session.described}; it holds {', '.join(contexts) or 'nothing it names'}"
    finally:
        await session.close()


async def _http(spec: HttpConnectorSpec, policy: HttpPolicy) -> tuple[bool, str]:
    """Any answer shows that the server is there; one that refuses us or fails is red."""
    request = http_client.Request("GET", "", max_bytes=1_000_000, follow_redirects=True)
    async with http_client.HttpClient(http.settings(spec, policy)) as client:
        reply = await client.send(request)
    said = f"GET {reply.url} answered {reply.status} {reply.reason}".rstrip()
    return reply.status not in _UNAUTHORISED and reply.status < _SERVER_ERROR, said
