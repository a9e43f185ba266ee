"""What tests of the library open: this test's database, bell and workshop, and a web server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from loopback import Loopback
from workshop import Workshop, workshop

from nomaflow.broker import connection
from nomaflow.broker.bell import Bell
from nomaflow.store import database
from nomaflow.store.database import Database


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A migrated database of Nomaflow's own, opened as its programs open it."""
    opened = await database.connect(database_url, max_size=12)
    yield opened
    await opened.close()


@pytest.fixture
async def bell(redis_url: str) -> AsyncIterator[Bell]:
    """A bell that rings in this test's Valkey."""
    redis = connection.connect(redis_url)
    async with Bell(redis) as made:
        yield made
    await redis.aclose()


@pytest.fixture
async def shop(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Workshop]:
    """A project folder, and what runs of its jobs need."""
    async with workshop(database_url, redis_url, tmp_path / "project") as made:
        yield made


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    """An HTTP server that answers what the test tells it to."""
    made = Loopback()
    await made.start()
    yield made
    await made.stop()
