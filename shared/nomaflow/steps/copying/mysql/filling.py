"""Lines of COPY's text form into a table of MySQL: LOAD DATA where it may, else INSERTs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow.connectors.mysql import values as mysql_values
from nomaflow.connectors.mysql.connector import MysqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import lines
from nomaflow.steps.copying.flow import through
from nomaflow.steps.copying.kinds import Field, Passage, Word
from nomaflow.steps.copying.mysql.naming import listed, quoted
from nomaflow.steps.copying.orders import Passed
from nomaflow.steps.copying.origins.base import MYSQL, Origin
from nomaflow.steps.copying.progress import Progress

_INSERT_BYTES = 1_000_000
_ROW = re.compile(r" at row (\d+)$")
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
        answer = await self.connector.load(text, portions)
        if answer.warnings:
            raise self._told(await self.connector.warnings())
        return answer.changed

    async def _insert(self, portions: AsyncIterator[bytes]) -> int:
        """For servers whose operator has LOCAL switched off."""
        targets = [passage.target for passage in self.passages]
        head = f"INSERT INTO {self.table} ({listed(t.name for t in targets)}) VALUES "
        written = 0
        async for portion in portions:
            for rows in _batches([self._literals(row) for row in lines.decode(portion)]):
                answer = await self.connector.say(head + ", ".join(rows))
                if answer.warnings:
                    raise self._told(await self.connector.warnings(), written)
                written += len(rows)
        return written

    def _literals(self, row: Sequence[str | None]) -> str:
        cells = []
        for passage, cell in zip(self.passages, row, strict=True):
            literal = "NULL" if cell is None else mysql_values.text(passage.source.name, cell)
            cells.append(_made_of(passage, literal) or literal)
        return f"({', '.join(cells)})"

    def _told(self, warnings: Sequence[tuple[str, int, str]], before: int = 0) -> StepError:
        """The first warning as a sentence with the row and the names of both columns."""
        found = [row for row in warnings if row[1] != _NOTE_OF_CHECK] or warnings
        words = found[0][2]
        row = _ROW.search(words)
        column = _COLUMN.search(words)
        place = f"row {int(row.group(1)) + before}" if row else "a row"
        passage = next(
            (p for p in self.passages if column and p.target.name == column.group(1)), None
        )
        through_columns = ""
        if passage is not None:
            through_columns = (
                f": the source column {passage.source.name!r} ({passage.source.declared}) holds "
                f"what the target column {passage.target.name!r} ({passage.target.declared}) "
                "cannot hold without loss"
            )
        return StepError(
            f"connector {self.connector.name!r}: {place} of the source was not kept as it is"
            f"{through_columns}; the server says: {words}"
        )


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


def _batches(rows: Sequence[str]) -> list[list[str]]:
    """Rows in INSERTs of about a megabyte."""
    batches: list[list[str]] = []
    size = _INSERT_BYTES
    for row in rows:
        if size + len(row) > _INSERT_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(row)
        size += len(row)
    return batches


async def _counted(portions: AsyncIterator[bytes], heard: Progress) -> AsyncIterator[bytes]:
    rows = 0
    async for portion in portions:
        yield portion
        rows += portion.count(b"\n")
        heard(rows)
