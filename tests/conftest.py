"""Real servers for the tests: started once, a fresh database and an empty Valkey for each test."""

import asyncio
import importlib.util
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis.asyncio as redis

from nomaflow.embedded.servers import EmbeddedServers

# Servers that no wheel carries; each skips, or fails in CI, where its programs are missing.
pytest_plugins = ["mariadb", "directory"]

TEMPLATE = "nomaflow_template"


def database_at(url: str, name: str) -> str:
    """Give the same server's URL for another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _statement(url: str, sql: str) -> None:
    connection = await asyncpg.connect(database_at(url, "postgres"))
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """PostgreSQL 18 and Valkey 9 of this test session; they end with it, however it ends."""
    # Not pytest's tmp_path: as root the servers are another user, who cannot enter it.
    home = Path(tempfile.mkdtemp(prefix="nomaflow-tests-", dir="/tmp"))
    started = EmbeddedServers(home, durable=False)
    asyncio.run(started.start())
    yield started
    asyncio.run(started.stop())
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(servers: EmbeddedServers) -> str:
    """The name of a database that holds our migrated schema and no rows."""
    asyncio.run(_make_template(servers.database_url))
    return TEMPLATE


async def _make_template(url: str) -> None:
    await _statement(url, f"CREATE DATABASE {TEMPLATE}")
    # The schema may not be there yet while the house is being built.
    if importlib.util.find_spec("nomaflow.store.migrate"):
        from nomaflow.store import migrate

        await migrate.upgrade(database_at(url, TEMPLATE))


NewDatabase = Callable[[], Awaitable[str]]


@pytest.fixture
async def new_pg_url(servers: EmbeddedServers) -> AsyncIterator[NewDatabase]:
    """Make as many empty user databases as the test asks for; each call gives the URL of one."""
    made: list[str] = []

    async def make() -> str:
        name = f"user_{secrets.token_hex(6)}"
        await _statement(servers.database_url, f"CREATE DATABASE {name}")
        made.append(name)
        return database_at(servers.database_url, name)

    yield make
    for name in made:
        await _statement(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def pg_url(new_pg_url: NewDatabase) -> str:
    """One empty user database, for connector tests."""
    return await new_pg_url()


@pytest.fixture
async def database_url(servers: EmbeddedServers, template_database: str) -> AsyncIterator[str]:
    """A migrated database of Nomaflow's own, for this test alone."""
    name = f"nomaflow_{secrets.token_hex(6)}"
    create = f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY FILE_COPY"
    await _statement(servers.database_url, create)
    yield database_at(servers.database_url, name)
    await _statement(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def redis_url(servers: EmbeddedServers) -> str:
    """A real Valkey, emptied for this test."""
    client = redis.from_url(servers.redis_url)
    try:
        await client.flushall()
    finally:
        await client.aclose()
    return servers.redis_url
