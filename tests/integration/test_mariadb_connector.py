import asyncio
import time
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from nomaflow.connectors import spec, sql
from nomaflow.errors import StepError
from nomaflow.steps import json_values


@pytest.fixture
async def connector(mariadb_url):
    opened = sql.open("shop", spec.parse({"kind": "sql", "url": mariadb_url}))
    yield opened
    await opened.close()


TYPES = """
    CREATE TABLE things (
        id bigint unsigned PRIMARY KEY, n decimal(30, 10), f double, at datetime(6), stamp timestamp(6)
        NULL, d date, t time(6), y year, b bit(4), b1 bit(1), j json, e enum('sad', 'ok'),
        raw varbinary(20), txt varchar(200), flag tinyint(1), u uuid
    )
"""


async def test_values_come_back_as_they_went(connector):
    await connector.execute(TYPES)
    moment = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    given = {
        "id": 2**64 - 1,
        "n": Decimal("12345678901234567890.0123456789"),
        "f": 0.1,
        "at": moment,
        "stamp": moment,
        "d": date(9999, 12, 31),
        "t": timedelta(hours=-838, minutes=-59, seconds=-59),
        "y": 2024,
        "b": 5,
        "b1": True,
        "j": {"a": [1, None, "é'\\"]},
        "e": "ok",
        "raw": bytes(range(20)),
        "txt": "it's \\ \0 \n % ? :a é 🎉 \"",
        "flag": True,
        "u": UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff"),
    }
    names = ", ".join(f":{name}" for name in given)
    done = await connector.execute(f"INSERT INTO things VALUES ({names})", given)
    assert (done.rowcount, done.command, done.first()) == (1, "INSERT", None)
    row = await connector.first("SELECT * FROM things")
    assert row == {
        **given,
        "at": moment.replace(tzinfo=None),
        "stamp": moment.replace(tzinfo=None),
        "b1": 1,
        "flag": 1,
        "j": '{"a": [1, null, "é\'\\\\"]}',
        "u": str(given["u"]),
    }
    assert json_values.row(row)["n"] == "12345678901234567890.0123456789"
