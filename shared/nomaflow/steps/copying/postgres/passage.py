"""The rows on their way: COPY out of one server into another, a few portions at a time."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.orders import Passed
from nomaflow.steps.copying.postgres import placing

Format = Literal["binary", "text"]
Heard = Callable[[int], None]

PORTIONS = 8
"""Portions of 64 to 256 KB that may wait between the two servers: all the memory a copy takes."""

SEGMENT: dict[Format, int] = {"binary": 32_000_000, "text": 8_000_000}
SEGMENT_SECONDS = 10.0
"""Bytes or time after which a COPY into the target ends and the next begins, in one transaction.

The driver does not notice a server that has refused a row before its COPY ends; a refusal of the
first row would otherwise be heard only after the last. Lines of text are kept so long, to tell
the row that was refused.
"""

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_SAMPLED_ROWS = 20
_SAMPLE_EVERY = 16


@dataclass(frozen=True, slots=True)
class Into:
    """Where COPY writes; `frozen` rows are seen by older snapshots too (a table just created)."""

    schema: str
    table: str
    columns: tuple[str, ...]
    frozen: bool = False


Reader = Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[int]]
"""Reads a source to its end: gives every portion of whole rows away, answers how many rows."""


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
    reading = await source.raw()

    async def read(put: Callable[[bytes], Awaitable[None]]) -> int:
        with source.translated():
            return _count(str(await reading.copy_from_query(select, output=put, format=form)))

    return await write(read, target, into, form=form, heard=heard)


async def write(
    read: Reader, target: PostgresConnector, into: Into, *, form: Format, heard: Heard
) -> Passed:
    """Write what `read` reads into a table, while it is read."""
    writing = await target.raw()
    stream = _Stream(form, heard)

    async def whole() -> int:
        try:
            return await read(stream.put)
        finally:
            stream.end()

    reader = asyncio.create_task(whole())
    try:
        while not stream.is_over:
            try:
                with target.translated():
                    status = await writing.copy_to_table(
                        into.table,
                        schema_name=into.schema,
                        columns=into.columns,
                        source=stream.segment(until=writing.is_closed),
                        format=form,
                        freeze=into.frozen or None,
                    )
            except StepError as error:
                before, sent = stream.written, stream.sent
                told = placing.placed(error, into.table, into.columns, sent, before)
                raise told from error.__cause__
            stream.settle(_count(status))
    except BaseException:
        await _stopped(reader)  # a failure of the source's own is the one to tell
        raise
    return Passed(await reader, stream.written)


async def _stopped(reader: asyncio.Task[int]) -> None:
    """End the reading side; raises its failure when it had one."""
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader


class _Stream:
    """What the source has sent and the target has not taken yet, cut into segments.

    An end that comes from a failure of the source looks like any other here: the reader's own
    exception, raised before anything is committed, tells it.
    """

    def __init__(self, form: Format, heard: Heard) -> None:
        self._form = form
        self._heard = heard
        self._portions: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(PORTIONS)
        self._counter = RowCounter(form)
        self._begun = False
        self.is_over = False
        self.written = 0
        self.sent: list[bytes] = []
        """The lines of this COPY, where it is text."""

    async def put(self, portion: bytes) -> None:
        """Take a portion of whole rows (the server sends a message per row); waits for room."""
        await self._room.acquire()
        self._portions.put_nowait(portion)

    def end(self) -> None:
        """No more portions come."""
        self._portions.put_nowait(None)

    async def segment(self, until: Callable[[], bool]) -> AsyncIterator[bytes]:
        """The bytes of one COPY: to the end, or to the size of a segment, or `until` is true."""
        is_binary = self._form == "binary"
        if is_binary and self._begun:
            yield _HEADER  # the first segment brings the source's own
        self._begun = True
        sent = 0
        self.sent = []
        portion = b""
        deadline = time.monotonic() + SEGMENT_SECONDS
        # The source's last portion ends with its own trailer, after which nothing may follow.
        while not until() and (
            (sent < SEGMENT[self._form] and time.monotonic() < deadline)
            or portion.endswith(_TRAILER)
        ):
            received = await self._portions.get()
            if received is None:
                self.is_over = True
                if is_binary and not sent:
                    yield _TRAILER
                return
            self._room.release()
            portion = received
            self._heard(self._counter.add(portion))
            sent += len(portion)
            if not is_binary:
                self.sent.append(portion)
            yield portion
        if is_binary:
            yield _TRAILER

    def settle(self, rows: int) -> None:
        """The target has taken so many rows of the last segment; the count is exact again."""
        self.written += rows
        self._counter.settle(self.written)


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

    def settle(self, rows: int) -> None:
        """So many rows have passed, exactly."""
        self._rows = float(rows)

    def _sample(self, portion: bytes) -> None:
        place = start = len(_HEADER) if portion.startswith(_HEADER[:11]) else 0
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
