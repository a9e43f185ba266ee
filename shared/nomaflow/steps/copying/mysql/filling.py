"""Lines of COPY's text form into a table of MySQL: LOAD DATA where it may, else INSERTs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow.connectors.mysql import values as mysql_values
from nomaflow.connectors.mysql.connector import MysqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import lines, telling
from nomaflow.steps.copying.flow import through
from nomaflow.steps.copying.kinds import Field, Passage, Word
from nomaflow.steps.copying.mysql.naming import listed, quoted
from nomaflow.steps.copying.orders import Passed
from nomaflow.steps.copying.origins.base import MYSQL, Origin
from nomaflow.steps.copying.progress import Progress

_INSERT_BYTES = 1_000_000
_SEGMENT = 4_000_000
"""Bytes after which one LOAD DATA ends and the next begins, in one transaction.

The server tells of a bad value at the end of its file only, and by a number of a row. What it has
been sent is kept so long, to tell which row that is.
"""
_ROW = re.compile(r" at row (\d+)\b")
_COLUMN = re.compile(r"column (?:`[^`]*`\.`[^`]*`\.)?[`']([^`']+)[`']", re.IGNORECASE)
_NOTE_OF_CHECK = 4038  # MariaDB says first where the JSON is wrong, then that it is


@dataclass(frozen=True, slots=True)
class Filling:
    """One table to fill: its name as SQL, and which column takes which column of the source."""

    connector: MysqlConnector
    table: str
    passages: tuple[Passage, ...]

    async def fill(self, origin: Origin, heard: Progress) -> Passed:
        """Write every row of the origin, within the transaction the connection is in.

        StepError naming row, column and value for whatever the server would not keep as it is.
        """
        names = [passage.source.name for passage in self.passages]
        heard.total = await origin.estimate()

        async def read(put: Any) -> int:
            return await origin.send(names, MYSQL, put)

        may_load = (await self.connector.say("SELECT @@GLOBAL.local_infile")).rows[0][0]
        write = self._load if may_load else self._insert
        count, written = await through(read, lambda portions: write(_counted(portions, heard)))
        heard.finish(written)
        return Passed(count, written, origin.dropped)

    async def _load(self, portions: AsyncIterator[bytes]) -> int:
        places, assigned = [], []
        for number, passage in enumerate(self.passages):
            name = quoted(passage.target.name)
            value = _made_of(passage, f"@c{number}")
            places.append(name if value is None else f"@c{number}")
            if value is not None:
                assigned.append(f"{name} = {value}")
        text = (
            f"LOAD DATA LOCAL INFILE 'nomaflow' INTO TABLE {self.table} CHARACTER SET utf8mb4 "
            r"FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n' "
            f"({', '.join(places)})" + (f" SET {', '.join(assigned)}" if assigned else "")
        )
        segments = _Segments(portions)
        written = 0
        while not segments.are_over:
            try:
                async with self.connector.transaction():
                    answer = await self.connector.load(text, segments.next())
                    if answer.warnings:
                        raise _RefusedError(await self.connector.warnings())
            except _RefusedError as refused:
                raise await self._told(refused, segments.lines(), written) from None
            written += answer.changed
        return written

    async def _insert(self, portions: AsyncIterator[bytes]) -> int:
        """For servers whose operator has LOCAL switched off."""
        written = 0
        room = (await self.connector.raw()).longest
        async for portion in portions:
            rows = lines.decode(portion)
            literals = [self._literals(row) for row in rows]
            for place, row in enumerate(literals):
                if room and len(row) + len(self._head) >= room:
                    raise self._too_long(rows[place], written + place + 1, room)
            for first, batch in _batches(literals):
                try:
                    async with self.connector.transaction():
                        await self._say(batch)
                except StepError as error:
                    if error.category != "error":
                        raise
                    refused = _refusal_of(error)
                    raise await self._told(refused, rows[first:], written + first) from error
            written += len(rows)
        return written

    @property
    def _head(self) -> str:
        return f"INSERT INTO {self.table} ({listed(p.target.name for p in self.passages)}) VALUES "

    async def _say(self, rows: Sequence[str]) -> None:
        answer = await self.connector.say(self._head + ", ".join(rows))
        if answer.warnings:
            raise _RefusedError(await self.connector.warnings())

    def _literals(self, row: Sequence[str | None]) -> str:
        cells = []
        for passage, cell in zip(self.passages, row, strict=True):
            literal = "NULL" if cell is None else mysql_values.text(passage.source.name, cell)
            cells.append(_made_of(passage, literal) or literal)
        return f"({', '.join(cells)})"

    async def _told(
        self,
        refused: _RefusedError,
        rows: Sequence[bytes] | Sequence[list[str | None]],
        before: int,
    ) -> StepError:
        """The first complaint as a sentence, with the row and the names of both columns.

        `rows` are those that were sent, and `before` how many went before them.
        """
        words = refused.words
        said, column = _ROW.search(words), _COLUMN.search(words)
        place = int(said.group(1)) - 1 if said else await self._place(rows)
        if place is None or place >= len(rows):
            return StepError(f"{self._where()}: a row was not kept as it is; {words}")
        cells = _cells(rows[place])
        passage = next(
            (p for p in self.passages if column and p.target.name == column.group(1)), None
        )
        names = [p.source.name for p in self.passages]
        shown = telling.row(names, cells, passage.source.name if passage else None)
        through_columns = ""
        if passage is not None:
            value = cells[self.passages.index(passage)]
            through_columns = (
                f": the source column {passage.source.name!r} ({passage.source.declared}) holds "
                f"{telling.value(value)}, which the target column {passage.target.name!r} "
                f"({passage.target.declared}) cannot hold without loss"
            )
        return StepError(
            f"{self._where()}: row {before + place + 1} of the source {shown} was not kept as it is"
            f"{through_columns}; the server says: {words}"
        )

    async def _place(self, rows: Sequence[bytes] | Sequence[list[str | None]]) -> int | None:
        """Which row the server meant, when it did not say: the first that it takes from nobody."""

        async def refuses(low: int, high: int) -> bool:
            literals = [self._literals(_cells(row)) for row in rows[low:high]]
            try:
                async with self.connector.transaction():
                    for _, batch in _batches(literals):
                        await self._say(batch)
                    raise telling.OnlyTriedError
            except telling.OnlyTriedError:
                return False
            except StepError:
                return True

        return await telling.first_refused(len(rows), refuses)

    def _too_long(self, row: Sequence[str | None], number: int, room: int) -> StepError:
        place = max(range(len(row)), key=lambda place: len(row[place] or ""))
        passage = self.passages[place]
        shown = telling.row([p.source.name for p in self.passages], row, passage.source.name)
        return StepError(
            f"{self._where()}: the source column {passage.source.name!r} "
            f"({passage.source.declared}) of row {number} {shown} is longer than the server's "
            f"max_allowed_packet of {room} bytes lets an INSERT be; raise it, or switch on "
            "local_infile there",
            retryable=False,
        )

    def _where(self) -> str:
        return f"connector {self.connector.name!r}"


class _RefusedError(StepError):
    """What the server has said of a row; its words are those of the first complaint."""

    def __init__(self, warnings: Sequence[tuple[str, int, str]]) -> None:
        found = [row for row in warnings if row[1] != _NOTE_OF_CHECK] or warnings
        self.words = found[0][2]
        super().__init__(self.words)


def _refusal_of(error: StepError) -> _RefusedError:
    return error if isinstance(error, _RefusedError) else _RefusedError([("", 0, error.message)])


class _Segments:
    """Portions cut into files for LOAD DATA; the lines of the last one are kept."""

    def __init__(self, portions: AsyncIterator[bytes]) -> None:
        self._portions = portions
        self._sent: list[bytes] = []
        self.are_over = False

    async def next(self) -> AsyncIterator[bytes]:
        self._sent = []
        size = 0
        while size < _SEGMENT:
            portion = await anext(self._portions, None)
            if portion is None:
                self.are_over = True
                return
            self._sent.append(portion)
            size += len(portion)
            yield portion

    def lines(self) -> list[bytes]:
        return b"".join(self._sent).split(b"\n")[:-1]


def _cells(row: bytes | list[str | None]) -> list[str | None]:
    return lines.decode(row + b"\n")[0] if isinstance(row, bytes) else row


def _made_of(passage: Passage, cell: str) -> str | None:
    """How a cell's text becomes the value; None where the server reads it by itself."""
    target: Field = passage.target
    declared = target.declared.lower()
    if target.kind.word is Word.BYTES:
        return f"UNHEX({cell})"
    if target.kind.word is Word.BOOL and declared.startswith("bit"):
        return f"CAST({cell} AS UNSIGNED)"
    if declared.startswith("bit"):
        return f"CAST(CONV({cell}, 2, 10) AS UNSIGNED)"
    return None


def _batches(rows: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Rows in INSERTs of about a megabyte, each with the place of its first."""
    batches: list[tuple[int, list[str]]] = []
    size = _INSERT_BYTES
    for place, row in enumerate(rows):
        if size + len(row) > _INSERT_BYTES:
            batches.append((place, []))
            size = 0
        batches[-1][1].append(row)
        size += len(row)
    return batches


async def _counted(portions: AsyncIterator[bytes], heard: Progress) -> AsyncIterator[bytes]:
    rows = 0
    async for portion in portions:
        yield portion
        rows += portion.count(b"\n")
        heard(rows)
