"""The databases of the examples, made on the PostgreSQL server that Nomaflow itself uses."""

import secrets
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

HERE = Path(__file__).parent
FILLED_BY = {
    "ops": HERE / "nightly-sync" / "operational.sql",
    "reporting": HERE / "nightly-sync" / "reporting.sql",
    "billing": HERE / "billing" / "billing.sql",
    "people": HERE / "ldap-mirror" / "users.sql",
    "shop": HERE / "row-count-assertion" / "shop.sql",
}


async def make(owner_url: str, name: str) -> str:
    """Create the database `name` if it is missing, fill it anew, and give the URL for connectors.

    Its owner is a role of its own, `example_<name>`, with a new password at each call.
    """
    role, password = f"example_{name}", secrets.token_urlsafe(24)
    server = await asyncpg.connect(owner_url)
    try:
        for wanted, options in (("reporting_reader", "NOLOGIN"), (role, "LOGIN")):
            known = await server.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", wanted)
            if not known:
                await server.execute(f"CREATE ROLE {wanted} {options}")
        await server.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
        if not await server.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await server.execute(f"CREATE DATABASE {name} OWNER {role}")
    finally:
        await server.close()
    parts = urlsplit(owner_url)
    login = f"{role}:{quote(password)}@{parts.netloc.rpartition('@')[2]}"
    url = urlunsplit(parts._replace(netloc=login, path=f"/{name}"))
    database = await asyncpg.connect(url)
    try:
        await database.execute(FILLED_BY[name].read_text(encoding="utf-8"))
    finally:
        await database.close()
    return url
