"""The rows on their way: COPY out of one server into another, a few portions at a time."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from nomaflow.connectors.postgres import PostgresConnector

Format = Literal["binary", "text"]
Heard = Callable[[int], None]

PORTIONS = 8
"""Portions of 64 to 256 KB that may wait between the two servers: all the memory a copy takes."""

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_SAMPLED_ROWS = 20
_SAMPLE_EVERY = 16


@dataclass(frozen=True, slots=True)
class Passed:
    """How many rows left the source and how many the target took."""

    read: int
    written: int


@dataclass(frozen=True, slots=True)
class Into:
    """Where COPY writes; `frozen` rows are seen by older snapshots too (a table just created)."""

    schema: str
    table: str
    columns: tuple[str, ...]
    frozen: bool = False


async def copy(
    source: PostgresConnector,
    select: str,
    target: PostgresConnector,
    into: Into,
    *,
    form: Format,
    heard: Heard,
) -> Passed:
    """Pass the rows of `select` into a table; `heard` is told about how many have passed.

    StepError from whichever side fails; the target's transaction then holds nothing of it.
    """
    reading, writing = await source.raw(), await target.raw()
    portions: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(PORTIONS)
    counter = RowCounter(form)

    async def read() -> str:
        try:
            with source.translated():
                status = await reading.copy_from_query(select, output=portions.put, format=form)
        except Exception as error:
            # Told to the writer, whose COPY then fails: an end would look like a short table.
            await portions.put(error)
            raise
        await portions.put(None)
        return str(status)

    async def arriving() -> AsyncIterator[bytes]:
        while (portion := await portions.get()) is not None:
            if isinstance(portion, Exception):
                raise portion
            heard(counter.add(portion))
            yield portion

    reader = asyncio.create_task(read())
    try:
        with target.translated():
            written = await writing.copy_to_table(
                into.table,
                schema_name=into.schema,
                columns=into.columns,
                source=arriving(),
                format=form,
                freeze=into.frozen or None,
            )
    except BaseException:
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader  # a failure of the source's own is the one to tell
        raise
    return Passed(_count(await reader), _count(written))


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])


class RowCounter:
    """About how many rows have passed: exact for text, from samples of their width for binary.

    Each portion holds whole rows, since the server sends a message per row.
    """

    def __init__(self, form: Format) -> None:
        self._form = form
        self._rows = 0.0
        self._width = 0.0
        self._portions = 0

    def add(self, portion: bytes) -> int:
        """Count a portion; the rows so far."""
        if self._form == "text":
            self._rows += portion.count(b"\n")
            return int(self._rows)
        if self._portions % _SAMPLE_EVERY == 0:
            self._sample(portion)
        self._portions += 1
        if self._width:
            self._rows += len(portion) / self._width
        return int(self._rows)

    def _sample(self, portion: bytes) -> None:
        place = start = len(_SIGNATURE) + 8 if portion.startswith(_SIGNATURE) else 0
        rows = 0
        while rows < _SAMPLED_ROWS and (after := _row_end(portion, place)) is not None:
            place = after
            rows += 1
        if rows:
            width = (place - start) / rows
            self._width = (self._width + width) / 2 if self._width else width


def _row_end(portion: bytes, place: int) -> int | None:
    """Where the row that starts at `place` ends; None when the portion does not hold it whole."""
    try:
        (fields,) = struct.unpack_from("!h", portion, place)
        place += 2
        for _ in range(fields):
            (length,) = struct.unpack_from("!i", portion, place)
            place += 4 + max(length, 0)
    except struct.error:
        return None
    return place if fields >= 0 and place <= len(portion) else None
