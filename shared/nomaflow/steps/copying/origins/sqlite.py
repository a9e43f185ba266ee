"""SQLite as the source of a copy: any column may hold anything, so every value is looked at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from nomaflow.connectors.sqlite.connector import SqliteConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import dress
from nomaflow.steps.copying.naming import quoted
from nomaflow.steps.copying.orders import Dress
from nomaflow.steps.copying.origins.base import Origin, Rows, batch_size
from nomaflow.steps.copying.settings import Source
from nomaflow.steps.copying.sqlite import catalog

BATCH = 5_000


class SqliteOrigin(Origin):
    """A described table or query of SQLite."""

    dialect = "sqlite"
    looks_at_letters = True
    holds_anything = True

    def __init__(
        self,
        connector: SqliteConnector,
        shown: str,
        tail: str,
        params: Mapping[str, Any],
        dressed: Sequence[dress.Dressed],
        key: tuple[str, ...],
    ) -> None:
        super().__init__()
        self._connector = connector
        self._tail = tail
        self._params = params
        self._sql = {column.field.name: column.sql for column in dressed}
        self.shown = shown
        self.fields = tuple(column.field for column in dressed)
        self.key = key

    async def count(self) -> int:
        return int(await self._connector.scalar(f"SELECT count(*) {self._tail}", self._params))

    async def estimate(self) -> int | None:
        return await self.count()  # a file is counted faster than it is copied

    async def rows(self, names: Sequence[str]) -> AsyncGenerator[Rows, None]:
        columns = ", ".join(f"{self._sql[name]} AS c{n}" for n, name in enumerate(names))
        select = f"SELECT {columns} {self._tail}"
        async with self._connector.transaction(read_only=True):
            size = await batch_size(self._connector, select, self._params, BATCH)
            async with aclosing(self._connector.batches(select, self._params, size)) as found:
                async for _, rows in found:
                    yield rows


async def describe(connector: SqliteConnector, source: Source, wear: Dress) -> SqliteOrigin:
    """Look at the source without reading rows; StepError when it is not there or not readable."""
    source.check_parameters("sqlite")
    if source.table is not None:
        sheet = await catalog.table(connector, source.schema_name, source.table)
        if sheet is None:
            raise StepError(f"the source table {source.table} is not in {connector.name!r}")
        shown = f"{connector.name}: {sheet.shown}"
        tail = f"FROM {sheet.sql}" + (f"\nWHERE (\n{source.where}\n)" if source.where else "")
        fields, key = sheet.fields, sheet.primary_key
    else:
        shown = f"{connector.name}: a query"
        query = (source.query or "").strip().removesuffix(";")
        tail = f"FROM (\n{query}\n) AS source"
        fields = await catalog.query_fields(connector, f"SELECT * {tail} LIMIT 0", source.params)
        key = ()
    dressed = dress.columns(fields, [quoted(field.name) for field in fields], wear, "sqlite")
    renamed = {column.source: column.field.name for column in dressed}
    return SqliteOrigin(
        connector, shown, tail, source.params, dressed, tuple(renamed[name] for name in key)
    )
