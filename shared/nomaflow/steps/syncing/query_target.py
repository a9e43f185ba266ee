"""Batches through a named query: once with arrays where it takes arrays, else row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nomaflow.connectors import statement
from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.connectors.spec import NamedQuery, SqlConnectorSpec
from nomaflow.connectors.sql import Result, SqlConnector, named_query
from nomaflow.errors import StepError
from nomaflow.steps.syncing.writing import Writer, Written


class QueryWriter(Writer):
    """A named query whose parameters are the mapped columns; a batch is one transaction."""

    def __init__(
        self,
        connector: SqlConnector,
        reference: str,
        query: NamedQuery,
        defaults: Mapping[str, Any],
        mapped: Sequence[str],
        *,
        takes_arrays: bool,
    ) -> None:
        self.shown = f"the query `{reference}`"
        self._connector, self._query, self._defaults = connector, query, defaults
        self._mapped, self._takes_arrays = mapped, takes_arrays

    async def write(self, columns: Sequence[Sequence[Any]]) -> Written:
        sql = self._query.sql
        async with self._connector.transaction():
            if self._takes_arrays:
                whole = dict(zip(self._mapped, map(list, columns), strict=True))
                return _written(await self._connector.execute(sql, {**self._defaults, **whole}))
            inserted = updated = 0
            for row in zip(*columns, strict=True):
                values = dict(zip(self._mapped, row, strict=True))
                one = _written(await self._connector.execute(sql, {**self._defaults, **values}))
                inserted, updated = inserted + one.inserted, updated + one.updated
            return Written(inserted, updated)


async def open_query(connector: SqlConnector, reference: str, mapped: Sequence[str]) -> QueryWriter:
    """Find the query and how it takes its rows; StepError when the map does not fit it."""
    query, defaults = named_query(
        connector.name, _without(connector.spec, reference, mapped), reference, {}
    )
    if query.operation != "write":
        raise StepError(
            f"query `{reference}` of connector {connector.name!r} only reads; a sync writes",
            retryable=False,
        )
    names = statement.parse(query.sql, connector.dialect).order()
    for name in mapped:
        if name not in names:
            known = ", ".join(f"`:{known}`" for known in names) or "none"
            raise StepError(
                f"the map fills `{name}`, and query `{reference}` has no such parameter; it has "
                f"{known}",
                retryable=False,
            )
    for name in names:
        if name not in mapped and name not in defaults:
            raise StepError(
                f"query `{reference}` needs `:{name}`, which the map does not fill",
                retryable=False,
            )
    takes_arrays = False
    if isinstance(connector, PostgresConnector):
        types = await connector.parameter_types(query.sql)
        takes_arrays = all(types[name].endswith("[]") for name in mapped)
    return QueryWriter(connector, reference, query, defaults, mapped, takes_arrays=takes_arrays)


def _without(spec: SqlConnectorSpec, reference: str, mapped: Sequence[str]) -> SqlConnectorSpec:
    """The connector as if its query did not declare what the map fills."""
    name = reference.partition(":")[0]
    query = spec.queries.get(name)
    if query is None:
        return spec
    rest = {key: param for key, param in query.params.items() if key not in mapped}
    queries = {**spec.queries, name: query.model_copy(update={"params": rest})}
    return spec.model_copy(update={"queries": queries})


def _written(result: Result) -> Written:
    """Count by a column `inserted` where the query returns one; else every row is an update."""
    if result.rows and all(isinstance(row.get("inserted"), bool) for row in result.rows):
        inserted = sum(row["inserted"] for row in result.rows)
        return Written(inserted, len(result.rows) - inserted)
    return Written(0, result.rowcount)
