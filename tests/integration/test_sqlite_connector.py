from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from nomaflow.connectors import spec, sql
from nomaflow.errors import StepError


@pytest.fixture
async def connector(tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db"
    opened = sql.open("shop", spec.parse({"kind": "sql", "url": url}))
    yield opened
    await opened.close()


async def test_values_are_bound_never_spliced(connector):
    await connector.execute("CREATE TABLE t (id integer PRIMARY KEY, x, at, j)")
    hostile = "'; DROP TABLE t; -- \" \0 % ? :id é 🎉"
    done = await connector.execute(
        "INSERT INTO t VALUES (:id, :x, :at, :j)",
        {"id": 1, "x": hostile, "at": datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), "j": {"a": [1]}},
    )
    assert (done.rowcount, done.command) == (1, "INSERT")
    assert await connector.first("SELECT * FROM t WHERE x = :x", {"x": hostile}) == {
        "id": 1,
        "x": hostile,
        "at": "2024-05-06 07:08:09+00:00",
        "j": '{"a": [1]}',
    }
