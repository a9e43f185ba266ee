"""What most tests of the library open: our own database and the bell, on this test's servers."""

from collections.abc import AsyncIterator

import pytest

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
