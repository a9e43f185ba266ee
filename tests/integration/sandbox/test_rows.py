"""The rows of a copy go through the real child: whole values there and back."""

from __future__ import annotations

import asyncio
import marshal
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from nomaflow.errors import FunctionError, StepError
from nomaflow.steps.copying import lines
from nomaflow.steps.copying.function import packed
from nomaflow.steps.copying.function.words import HEAD, Column, Given, Wanted, kinds_from_json
from nomaflow.steps.copying.kinds import FROM_FUNCTION, Field, Kind, Word

pytestmark = pytest.mark.asyncio(loop_scope="module")
MADE = {
    "nothing": None, "yes": True, "big": 2**80, "half": 0.5, "nan": float("inf"),
    "text": "é😀\0",
    "price": Decimal("1.50"), "day": date(2024, 2, 29), "at": datetime(2024, 1, 1, tzinfo=UTC),
    "hour": time(10, 0, 0, 5), "long": timedelta(days=40, microseconds=1), "id": UUID(int=5),
    "raw": b"\x00\xff", "tags": ["a", None, Decimal(1)], "doc": {"a": [date(2024, 1, 1)]},
}  # fmt: skip


class Talk:
    """A copy that gives these portions of one column and wants every column that is made."""

    def __init__(self, *portions, form="packed") -> None:
        is_lines = form == "lines"
        field = Field("n", Kind(Word.INTEGER, 64), "bigint")
        self._given = Given((field,), "lines" if is_lines else "values")
        self._portions = [
            lines.encode([[str(n) for n in part]]) if is_lines else marshal.dumps([part])
            for part in portions
        ]
        self._form = form
        self.made: dict[str, Kind] | None = None
        self.answers: list[tuple[int, int, object]] = []

    def given(self):
        return self._given.as_json()

    async def portions(self):
        for portion in self._portions:
            yield portion

    async def wanted(self, made):
        self.made = kinds_from_json(made)
        columns = [Column(Field(name, kind, FROM_FUNCTION)) for name, kind in self.made.items()]
        return Wanted(tuple(columns), self._form).as_json()

    async def answered(self, answer):
        rows, kept = HEAD.unpack_from(answer)
        body = answer[HEAD.size :]
        if self._form == "packed":
            body = packed.unpack(body) if kept else []
        self.answers.append((rows, kept, body))


async def test_every_value_comes_back_as_it_went(workshop):
    workshop.write(
        "clean.py",
        f"""
        import datetime
        from decimal import Decimal
        from uuid import UUID
        inf = float("inf")
        MADE = {MADE!r}
        async def later(row):
            return MADE
        def now(row):
            return MADE
        """,
    )
    for name in ("now", "later"):
        talk = Talk([1, 2])
        await workshop.call(f"clean:{name}", rows=talk)
        [(rows, kept, columns)] = talk.answers
        assert (rows, kept) == (2, 2)
        for column, value in zip(columns, MADE.values(), strict=True):
            assert column == [value, value]
            assert type(column[0]) is type(value)
    assert talk.made["price"] == Kind(Word.DECIMAL)


async def test_one_import_serves_all_portions_and_none_drops(workshop):
    workshop.write(
        "drop.py",
        """
        import nomaflow
        print("imported")
        seen = 0
        def odd(row):
            global seen
            seen += 1
            return {"n": row["n"], "seen": seen} if row["n"] % 2 else None
        """,
    )
    talk = Talk([0, 2], [1, 3], [4], [5])
    await workshop.call("drop:odd", rows=talk)
    assert talk.answers == [(2, 0, []), (2, 2, [[1, 3], [3, 4]]), (1, 0, []), (1, 1, [[5], [6]])]
    assert workshop.ear.said().count("imported") == 1


async def test_what_is_wrong_is_told_with_its_row(workshop):
    workshop.write(
        "wrong.py",
        """
        from nomaflow.errors import StepError
        def fails(row):
            return {"n": 10 / (row["n"] - 7)}
        def list_instead(row):
            return [row]
        def refuses(row):
            raise StepError("not on a Sunday", retryable=False)
        def exits(row):
            raise SystemExit(3)
        """,
    )
    with pytest.raises(FunctionError, match=r"^ZeroDivisionError: .* \(row 8\)$") as told:
        await workshop.call("wrong:fails", rows=Talk([0, 1, 2, 3, 4], [5, 6, 7, 8]))
    assert "wrong.py" in told.value.failure.traceback
    with pytest.raises(StepError, match="answered list for row 1"):
        await workshop.call("wrong:list_instead", rows=Talk([1]))
    with pytest.raises(StepError, match=r"^not on a Sunday \(row 1\)$") as refused:
        await workshop.call("wrong:refuses", rows=Talk([1]))
    assert not refused.value.retryable
    with pytest.raises(StepError, match=r"called sys.exit\(3\).*row 1"):
        await workshop.call("wrong:exits", rows=Talk([1]))


async def test_lines_come_back_as_lines(workshop):
    workshop.write("same.py", "def same(row):\n    return row\n")
    talk = Talk([1, 2], [3], form="lines")
    await workshop.call("same:same", rows=talk)
    assert talk.answers == [(2, 2, b"1\n2\n"), (1, 1, b"3\n")]
    nothing = Talk()
    await workshop.call("same:same", rows=nothing)
    assert nothing.answers == []


async def test_a_call_that_is_cancelled_ends(workshop):
    workshop.write(
        "slow.py",
        "import os, time\ndef slow(row):\n    print('pid', os.getpid())\n    time.sleep(60)\n",
    )
    call = asyncio.create_task(workshop.call("slow:slow", rows=Talk([1])))
    await workshop.ear.pids(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
