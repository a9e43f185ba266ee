"""MySQL and MariaDB as the source of a copy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from nomaflow.connectors.mysql.connector import MysqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import cells, dress, lines
from nomaflow.steps.copying.kinds import Field, Word
from nomaflow.steps.copying.mysql import catalog
from nomaflow.steps.copying.mysql.naming import quoted
from nomaflow.steps.copying.orders import Dress
from nomaflow.steps.copying.origins.base import Origin, Put, Rows, Spelling
from nomaflow.steps.copying.settings import Source

BATCH = 5_000
_ROWS_PER_PORTION = 2_000
# Above it a row is read value by value: the server escapes a text in a time that grows with the
# square of its length, and answers NULL for whatever is longer than its max_allowed_packet.
_LINE_BYTES = 32_000
_SHORT_LETTERS = 1_000
_WIDE = frozenset({Word.TEXT, Word.JSON, Word.BYTES})


class MysqlOrigin(Origin):
    """A described table or query of MySQL or MariaDB."""

    dialect = "mysql"

    def __init__(
        self,
        connector: MysqlConnector,
        shown: str,
        tail: str,
        params: Mapping[str, Any],
        dressed: Sequence[dress.Dressed],
        key: tuple[str, ...],
        estimated_rows: int | None,
        *,
        has_condition: bool,
    ) -> None:
        super().__init__()
        self._connector = connector
        self._tail = tail
        self._params = params
        self._sql = {column.field.name: column.sql for column in dressed}
        self._estimated = estimated_rows
        self._has_condition = has_condition
        self.shown = shown
        self.fields = tuple(column.field for column in dressed)
        self.key = key

    async def estimate(self) -> int | None:
        return self._estimated

    async def count(self) -> int:
        return int(await self._connector.scalar(f"SELECT count(*) {self._tail}", self._params))

    async def rows(self, names: Sequence[str]) -> AsyncGenerator[Rows, None]:
        columns = ", ".join(f"{self._bare(name)} AS c{n}" for n, name in enumerate(names))
        async with (
            self._connector.transaction(read_only=True),
            aclosing(self._read(f"SELECT {columns} {self._tail}", BATCH)) as batches,
        ):
            async for rows in batches:
                yield rows

    async def send(self, names: Sequence[str], spelling: Spelling, put: Put) -> int:
        """The server itself writes the lines; no value is touched here."""
        cells = ", '\\t', ".join(
            _cell(self.field(name), self._sql[name], spelling) for name in names
        )
        line, weight = f"CONCAT({cells}, '')", self._weight(names)
        if weight:
            line = f"IF({weight} > {_LINE_BYTES}, NULL, {line})"
        async with self._connector.transaction(read_only=True):
            count, long = await self._lines(f"SELECT CAST({line} AS BINARY) AS line", put)
            if long:
                await self._long(names, spelling, put, f"({line}) IS NULL")
        return count + long

    async def _lines(self, select: str, put: Put) -> tuple[int, int]:
        """How many rows came as lines, and how many are too long for one."""
        count = long = 0
        async with aclosing(self._read(f"{select} {self._tail}", _ROWS_PER_PORTION)) as batches:
            async for rows in batches:
                written = [row[0] for row in rows]
                if None in written:
                    long += written.count(None)
                    written = [line for line in written if line is not None]
                if written:
                    count += len(written)
                    await put(b"\n".join(written) + b"\n")
        return count, long

    def _weight(self, names: Sequence[str]) -> str:
        """About how many bytes a row has, as SQL; empty where every row is short."""
        wide = [
            f"IFNULL(LENGTH({self._sql[name]}), 0)" for name in names if _is_wide(self.field(name))
        ]
        return f"({' + '.join(wide)})" if wide else ""

    async def _long(
        self, names: Sequence[str], spelling: Spelling, put: Put, condition: str
    ) -> None:
        """The same for rows that the server makes no line of: their large values come bare."""
        fields = [self.field(name) for name in names]
        values = [_unescaped(field, self._sql[field.name], spelling) for field in fields]
        columns = ", ".join(f"{value} AS c{n}" for n, value in enumerate(values))
        word = "AND" if self._has_condition else "WHERE"
        select = f"SELECT {columns} {self._tail}\n{word} {condition}"
        async with aclosing(self._read(select, _ROWS_PER_PORTION)) as batches:
            async for rows in batches:
                columns_of = cells.transposed(rows, len(fields))
                await put(lines.encode([_texts(column, spelling) for column in columns_of]))

    def _bare(self, name: str) -> str:
        """What the driver reads as text where a number of Python's would not be the same."""
        field, sql = self.field(name), self._sql[name]
        match field.kind.word:
            case Word.FLOAT if field.kind.size == 32:  # noqa: PLR2004  bits
                return f"{sql} + 0e0"
            case Word.BOOL:
                return f"{sql} + 0"
            case Word.TIME | Word.DATE | Word.MOMENT | Word.JSON:
                return f"CAST({sql} AS CHAR)"
            case Word.INSTANT:
                return f"CONCAT({sql}, '+00:00')"
            case Word.OTHER:
                return f"BIN({sql} + 0)" if field.declared.startswith("bit") else sql
            case _:
                return sql

    async def _read(self, sql: str, batch: int) -> AsyncGenerator[Rows, None]:
        async with aclosing(self._connector.batches(sql, self._params, batch)) as found:
            async for _, rows in found:
                yield rows


def _is_wide(field: Field) -> bool:
    size = field.kind.size
    return field.kind.word in _WIDE and (size is None or size > _SHORT_LETTERS)


def _texts(column: Sequence[Any], spelling: Spelling) -> cells.Texts:
    return [spelling.hex_prefix + v.hex() if isinstance(v, bytes) else v for v in column]


def _cell(field: Field, sql: str, spelling: Spelling) -> str:
    """One cell of a line, escaped; NULL by COPY's word for it."""
    match field.kind.word:
        case Word.TEXT | Word.JSON:
            written = f"CONVERT({sql} USING utf8mb4)"
            for plain, escape in (
                ("\\\\", "\\\\\\\\"),
                ("\\t", "\\\\t"),
                ("\\n", "\\\\n"),
                ("\\r", "\\\\r"),
            ):
                written = f"REPLACE({written}, '{plain}', '{escape}')"
        case Word.BYTES:
            prefix = spelling.hex_prefix.replace("\\", "\\\\\\\\")
            written = f"CONCAT('{prefix}', LOWER(HEX({sql})))"
        case _:
            written = _plain(field, sql, spelling)
    if field.not_null:
        return written
    if field.kind.word in _WIDE:  # NULL is also what the server says where it has no room
        return f"IF({sql} IS NULL, '\\\\N', {written})"
    return f"IFNULL({written}, '\\\\N')"


def _unescaped(field: Field, sql: str, spelling: Spelling) -> str:
    """The same as it is: text, or bytes."""
    match field.kind.word:
        case Word.TEXT | Word.BYTES:
            return sql
        case Word.JSON:
            return f"CONVERT({sql} USING utf8mb4)"
        case _:
            return f"CAST({_plain(field, sql, spelling)} AS CHAR)"


def _plain(field: Field, sql: str, spelling: Spelling) -> str:
    """A value whose text holds nothing to escape."""
    match field.kind.word:
        case Word.FLOAT if field.kind.size == 32:  # noqa: PLR2004  bits
            return f"({sql} + 0e0)"
        case Word.BOOL:
            return f"({sql} + 0)"
        case Word.INSTANT:
            return f"CONCAT({sql}, '{spelling.zone}')"
        case Word.OTHER if field.declared.startswith("bit"):
            return f"BIN({sql} + 0)"
        case Word.UUID | Word.OTHER:
            # Else COPY's word for NULL would be read as a uuid, and be none.
            return f"CAST({sql} AS CHAR)"
        case _:
            return sql


async def describe(connector: MysqlConnector, source: Source, wear: Dress) -> MysqlOrigin:
    """Look at the source without reading rows; StepError when it is not there or not readable."""
    source.check_parameters("mysql")
    if source.table is not None:
        sheet = await catalog.table(connector, source.schema_name, source.table)
        asked = f"{source.schema_name}.{source.table}" if source.schema_name else source.table
        if sheet is None:
            raise StepError(f"the source table {asked} is not in {connector.name!r}")
        shown = f"{connector.name}: {sheet.shown}"
        tail = f"FROM {sheet.sql}" + (f"\nWHERE (\n{source.where}\n)" if source.where else "")
        fields, key = sheet.fields, sheet.primary_key
        estimated = None if source.where else sheet.estimated_rows
    else:
        shown = f"{connector.name}: a query"
        tail = f"FROM (\n{(source.query or '').strip().removesuffix(';')}\n) AS source"
        fields = await catalog.query_fields(connector, f"SELECT * {tail} LIMIT 0", source.params)
        key, estimated = (), None
    catalog.refuse_unreadable(fields, shown)
    dressed = dress.columns(fields, [quoted(field.name) for field in fields], wear, "mysql")
    renamed = {column.source: column.field.name for column in dressed}
    return MysqlOrigin(
        connector,
        shown,
        tail,
        source.params,
        dressed,
        tuple(renamed[name] for name in key),
        estimated,
        has_condition=bool(source.where),
    )
