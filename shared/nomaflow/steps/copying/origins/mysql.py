"""MySQL and MariaDB as the source of a copy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from nomaflow.connectors.mysql.connector import MysqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import dress
from nomaflow.steps.copying.kinds import Field, Word
from nomaflow.steps.copying.mysql import catalog
from nomaflow.steps.copying.mysql.naming import quoted
from nomaflow.steps.copying.orders import Dress
from nomaflow.steps.copying.origins.base import Origin, Put, Rows, Spelling, batch_size
from nomaflow.steps.copying.settings import Source

BATCH = 5_000
_ROWS_PER_PORTION = 2_000


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
    ) -> None:
        super().__init__()
        self._connector = connector
        self._tail = tail
        self._params = params
        self._sql = {column.field.name: column.sql for column in dressed}
        self._estimated = estimated_rows
        self.shown = shown
        self.fields = tuple(column.field for column in dressed)
        self.key = key

    async def estimate(self) -> int | None:
        return self._estimated

    async def count(self) -> int:
        return int(await self._connector.scalar(f"SELECT count(*) {self._tail}", self._params))

    async def rows(self, names: Sequence[str]) -> AsyncGenerator[Rows, None]:
        columns = ", ".join(f"{self._bare(name)} AS c{n}" for n, name in enumerate(names))
        async with aclosing(self._read(f"SELECT {columns} {self._tail}", BATCH)) as batches:
            async for rows in batches:
                yield rows

    async def send(self, names: Sequence[str], spelling: Spelling, put: Put) -> int:
        """The server itself writes the lines; no value is touched here."""
        cells = ", ".join(_cell(self.field(name), self._sql[name], spelling) for name in names)
        line = f"SELECT CAST(CONCAT_WS('\\t', {cells}) AS BINARY) AS line {self._tail}"
        count = 0
        async with aclosing(self._read(line, _ROWS_PER_PORTION)) as batches:
            async for rows in batches:
                written = [row[0] for row in rows]
                count += len(written)
                if None in written:
                    row = count - len(written) + written.index(None) + 1
                    raise StepError(
                        f"row {row} of the source ({self.shown}) is longer than the server's "
                        "max_allowed_packet; raise it, or leave its large column out"
                    )
                await put(b"\n".join(written) + b"\n")
        return count

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
        async with self._connector.transaction(read_only=True):
            size = await batch_size(self._connector, sql, self._params, batch)
            async with aclosing(self._connector.batches(sql, self._params, size)) as found:
                async for _, rows in found:
                    yield rows


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
        case Word.FLOAT if field.kind.size == 32:  # noqa: PLR2004  bits
            written = f"({sql} + 0e0)"
        case Word.BOOL:
            written = f"({sql} + 0)"
        case Word.INSTANT:
            written = f"CONCAT({sql}, '{spelling.zone}')"
        case Word.OTHER if field.declared.startswith("bit"):
            written = f"BIN({sql} + 0)"
        case Word.UUID | Word.OTHER:
            # Else COPY's word for NULL would be read as a uuid, and be none.
            written = f"CAST({sql} AS CHAR)"
        case _:
            written = sql
    return written if field.not_null else f"IFNULL({written}, '\\\\N')"


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
    )
