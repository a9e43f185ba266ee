"""A transform's rows go through the real child: whole values there and back."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from nomaflow.errors import FunctionError, StepError
from nomaflow.plugins import rows

pytestmark = pytest.mark.asyncio(loop_scope="module")
VALUES = {
    "nothing": None, "yes": True, "big": 2**80, "half": 0.5, "nan": float("inf"),
    "text": "é😀\0",
    "price": Decimal("1.50"), "day": date(2024, 2, 29), "at": datetime(2024, 1, 1, tzinfo=UTC),
    "hour": time(10, 0, 0, 5), "long": timedelta(days=40, microseconds=1), "id": UUID(int=5),
    "raw": b"\x00\xff", "tags": ["a", None, Decimal(1)], "doc": {"a": [date(2024, 1, 1)]},
}  # fmt: skip


async def test_every_value_comes_back_as_it_went(workshop):
    workshop.write(
        "clean.py", "async def later(row):\n    return row\ndef same(row):\n    return row\n"
    )
    for name in ("same", "later"):
        answer = rows.unpack_answers(await workshop.call(f"clean:{name}", rows=[VALUES, VALUES]))
        assert answer == [VALUES, VALUES]
        assert [type(value) for value in answer[0].values()] == [type(v) for v in VALUES.values()]


async def test_none_drops_and_errors_are_told(workshop):
    workshop.write(
        "drop.py",
        """
        def odd(row):
            return row if row["n"] % 2 else None
        def fails(row):
            return {"n": 1 / row["n"]}
        def wrong(row):
            return 5
        """,
    )
    given = [{"n": n} for n in range(4)]
    answer = rows.unpack_answers(await workshop.call("drop:odd", rows=given))
    assert answer == [None, {"n": 1}, None, {"n": 3}]
    with pytest.raises(FunctionError, match="division by zero"):
        await workshop.call("drop:fails", rows=given)
    with pytest.raises(StepError, match="answered int for row 1"):
        await workshop.call("drop:wrong", rows=given)
    assert rows.unpack_answers(await workshop.call("drop:odd", rows=[])) == []
