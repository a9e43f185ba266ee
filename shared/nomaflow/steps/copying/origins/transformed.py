"""A source whose rows pass through a function of the project's plugins, in a process of its own.

Three things go on at once, a few portions apart: the source is read, the function is called, the
target is written. The rows travel as text both ways, so that nothing is made of them here.
"""

from __future__ import annotations

import asyncio
import marshal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from nomaflow.errors import StepError
from nomaflow.steps.calls import PythonCall
from nomaflow.steps.copying import cells, lines
from nomaflow.steps.copying.flow import Flow
from nomaflow.steps.copying.function import packed
from nomaflow.steps.copying.function.words import HEAD, Column, Given, Wanted, kinds_from_json
from nomaflow.steps.copying.kinds import FROM_FUNCTION, Field, Kind, Word
from nomaflow.steps.copying.orders import Orders
from nomaflow.steps.copying.origins import base
from nomaflow.steps.copying.origins.base import FUNCTION, POSTGRES, Origin, Put, Rows, Spelling

_AHEAD = 4
"""Portions that are with the function or on their way to it."""

_ANSWERS = 2
"""Answers that wait for the target: a function may make much of little."""

_PORTION_BYTES = 200_000
_PORTION_ROWS = 8_000
_TEXT = Kind(Word.TEXT)


class Transformed(Origin):
    """The rows that the function answers; its first ones are called when the copy is prepared.

    The keys of the first row it keeps are the columns; every later row has the same ones.
    """

    def __init__(
        self, orders: Orders, inner: Origin, wanted: Mapping[str, base.Wanted] | None
    ) -> None:
        super().__init__()
        self._orders = orders
        self._inner = inner
        self._wanted = wanted
        self._given = Given(inner.fields, "values" if inner.holds_anything else "lines")
        self._portions: Flow[bytes] = Flow()
        self._answers: Flow[bytes] = Flow(_ANSWERS)
        self._ahead = asyncio.Semaphore(_AHEAD)
        loop = asyncio.get_running_loop()
        self._made: asyncio.Future[dict[str, Kind]] = loop.create_future()
        self._asked: asyncio.Future[Wanted] = loop.create_future()
        self._working: asyncio.Task[int] | None = None
        self._counts: tuple[int | None, int] = (None, 0)
        self.dialect = inner.dialect
        self.shown = inner.shown

    @classmethod
    async def opened(
        cls, orders: Orders, inner: Origin, wanted: Sequence[base.Wanted] | None
    ) -> Transformed:
        """Begin to read and to call, and go on until the function has kept a row."""
        targets = {orders.columns.get(column.name, column.name): column for column in wanted or ()}
        made = cls(orders, inner, None if wanted is None else targets)
        # The source's connection has no time for questions later.
        rows = await inner.count() if orders.ctx.dry_run else 0
        made._counts = (await inner.estimate(), rows)
        working = made._working = asyncio.create_task(made._work(), name="transform")
        try:
            either: set[asyncio.Future[Any]] = {working, made._made}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not made._made.done():
                await working
        except BaseException:
            await made.close()
            raise
        kinds = made._made.result() if made._made.done() else None
        made.fields = made._fields(kinds)
        made.key = inner.key if set(inner.key) <= {field.name for field in made.fields} else ()
        return made

    def _fields(self, kinds: Mapping[str, Kind] | None) -> tuple[Field, ...]:
        inner = {field.name: field for field in self._inner.fields}
        if kinds is None:
            kinds = dict.fromkeys(inner, _TEXT)
        found = []
        for name, made in kinds.items():
            old = inner.get(name)
            if self._wanted is not None:
                kind = getattr(self._wanted.get(name), "kind", _TEXT)
                found.append(Field(name, kind if isinstance(kind, Kind) else _TEXT, FROM_FUNCTION))
            elif old is not None:
                found.append(replace(old, not_null=name in self._inner.key))
            else:
                found.append(Field(name, made, FROM_FUNCTION))
        return tuple(found)

    async def estimate(self) -> int | None:
        return self._counts[0]

    async def count(self) -> int:
        return self._counts[1]

    async def close(self) -> None:
        working = self._working
        if working is not None:
            working.cancel()
            await asyncio.wait({working})
            if not working.cancelled():
                working.exception()  # whoever wanted the rows has heard of it

    async def rows(self, names: Sequence[str]) -> AsyncGenerator[Rows, None]:
        columns = tuple(Column(self.field(name)) for name in names)
        self._asked.set_result(Wanted(columns, "packed"))
        async for answer in self._answers.portions():
            try:
                unpacked = packed.unpack(answer)
            except ValueError as error:
                raise self._error(f"has a process that lies: {error}") from None
            yield list(zip(*unpacked, strict=True))
        await self._ended()

    async def send(self, names: Sequence[str], spelling: Spelling, put: Put) -> int:
        columns = tuple(self._column(name) for name in names)
        is_postgres = spelling is POSTGRES
        prefix = spelling.hex_prefix
        self._asked.set_result(Wanted(columns, "lines", prefix, is_strict=not is_postgres))
        async for answer in self._answers.portions():
            for piece in lines.pieces(answer, _PORTION_BYTES):
                await put(piece)
        return await self._ended()

    def _column(self, name: str) -> Column:
        field = self.field(name)
        type_name = getattr((self._wanted or {}).get(name), "type_name", None)
        if type_name is None:
            return Column(field, is_array=field.declared.endswith("[]"))
        is_whole = type_name in {"int2", "int4", "int8"}
        return Column(field, is_whole, is_array=type_name.startswith("_"))

    async def _ended(self) -> int:
        if self._working is None:
            raise RuntimeError("rows of a function that was never called")
        return await self._working

    async def _work(self) -> int:
        """Read the source and have the function called, to the end; how many rows were read.

        A failure of the source's own is the one to tell.
        """
        reading = asyncio.create_task(self._read(), name="transform source")
        call = PythonCall(str(self._orders.transform), {}, (), 1024, 0, rows=self)
        try:
            await self._orders.ctx.call_python(call)
            return await reading
        except BaseException:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            raise
        finally:
            self._answers.end()

    async def _read(self) -> int:
        try:
            if self._given.form == "values":
                return await self._read_values()
            return await self._read_lines()
        finally:
            self._portions.end()

    async def _read_lines(self) -> int:
        waiting: list[bytes] = []
        size = 0

        async def put(portion: bytes) -> None:
            nonlocal size
            waiting.append(portion)
            size += len(portion)
            if size >= _PORTION_BYTES:
                await give()

        async def give() -> None:
            nonlocal size
            whole, size = b"".join(waiting), 0
            waiting.clear()
            most = len(whole) * _PORTION_ROWS // max(whole.count(b"\n"), 1)
            for piece in lines.pieces(whole, max(1, min(most, len(whole)))):
                await self._portions.put(piece)

        rows = await self._inner.send(self._given.names, FUNCTION, put)
        await give()
        return rows

    async def _read_values(self) -> int:
        rows, width = 0, len(self._given.fields)
        async with aclosing(self._inner.rows(self._given.names)) as batches:
            async for batch in batches:
                rows += len(batch)
                await self._portions.put(marshal.dumps(cells.transposed(batch, width)))
        return rows

    # What the process of the function asks for (steps.calls.RowTalk).

    def given(self) -> Mapping[str, Any]:
        return self._given.as_json()

    async def portions(self) -> AsyncIterator[bytes]:
        async for portion in self._portions.portions():
            await self._ahead.acquire()
            yield portion

    async def wanted(self, made: Any) -> Mapping[str, Any]:
        kinds = kinds_from_json(made)
        if kinds is None or self._made.done():
            raise self._error("has a process that lies about its columns")
        self._made.set_result(kinds)
        return (await self._asked).as_json()

    async def answered(self, answer: bytes) -> None:
        if len(answer) < HEAD.size:
            raise self._error("has a process that answers in no form of ours")
        rows, kept = HEAD.unpack_from(answer)
        self._ahead.release()
        self.dropped += rows - kept
        if kept:
            await self._answers.put(answer[HEAD.size :])

    def _error(self, words: str) -> StepError:
        return StepError(f"{self._orders.transform} {words}", retryable=False)
