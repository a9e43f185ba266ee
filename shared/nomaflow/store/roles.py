"""The role of jobs in the service's own database: owner of `public`, stranger to `nomaflow`.

Its password is derived from the service's own, so every program that knows NOMAFLOW_DATABASE_URL
knows it and nothing has to be stored or handed around.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import asyncpg
import structlog

from nomaflow.store import database

log = structlog.get_logger(__name__)

ROLE = "nomaflow_jobs"


def _password(url: str) -> str:
    own = unquote(urlsplit(url).password or "")
    return hmac.new(own.encode(), b"nomaflow_jobs", hashlib.sha256).hexdigest()


def jobs_url(url: str) -> str:
    """Return the URL of the connector `default`: the same database as the role of the jobs."""
    parts = urlsplit(database.plain_url(url))
    host = parts.netloc.rpartition("@")[2]
    query = [(k, v) for k, v in parse_qsl(parts.query) if k not in {"user", "password"}]
    login = f"{ROLE}:{quote(_password(url), safe='')}"
    return urlunsplit((parts.scheme, f"{login}@{host}", parts.path, urlencode(query), ""))


async def ensure(url: str) -> bool:
    """Create the role and give it `public`; False (and a warning) where we may not create roles."""
    connection = await asyncpg.connect(database.plain_url(url), timeout=10)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(7266302)")
            await _ensure(connection, _password(url))
    except asyncpg.InsufficientPrivilegeError as refusal:
        log.warning(
            "jobs share the service's own role",
            reason=str(refusal),
            advice=f"create the role {ROLE} by hand, or let ours create roles",
        )
        return False
    finally:
        await connection.close()
    return True


async def _ensure(connection: asyncpg.Connection, password: str) -> None:
    known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE)
    verb = "ALTER" if known else "CREATE"
    await connection.execute(f"{verb} ROLE {ROLE} LOGIN PASSWORD '{password}'")  # hex digits only
    owner = await connection.fetchval(
        "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'"
    )
    if owner != ROLE:
        await connection.execute(f"GRANT {ROLE} TO CURRENT_USER")
        await connection.execute(f"ALTER SCHEMA public OWNER TO {ROLE}")
    base = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"GRANT CREATE, CONNECT, TEMPORARY ON DATABASE {base} TO {ROLE}")
    await connection.execute(f"ALTER ROLE {ROLE} IN DATABASE {base} SET search_path = public")
    await connection.execute("REVOKE ALL ON SCHEMA nomaflow FROM PUBLIC")


async def default_url(url: str) -> str:
    """Return where the connector `default` points: the jobs' role, or ours where it is missing."""
    connection = await asyncpg.connect(database.plain_url(url), timeout=10)
    try:
        known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE)
    finally:
        await connection.close()
    return jobs_url(url) if known else database.plain_url(url)
