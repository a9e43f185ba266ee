"""A named query that is told of every entry, all in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, cast

from nomaflow.connectors import statement
from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.connectors.sql import SqlConnector, named_query
from nomaflow.errors import StepError
from nomaflow.steps.directory.batch import Batch, Failures, Text
from nomaflow.steps.directory.shape import postgres_kind
from nomaflow.steps.directory.table import is_row_fault, why
from nomaflow.steps.directory.target import EXAMPLES, Changes
from nomaflow.steps.directory.values import Kind

_AT_ONCE = 500
_KINDS = {
    "date": Kind.TIME,
    "datetime": Kind.TIME,
    "bool": Kind.TRUTH,
    "int": Kind.OTHER,
    "float": Kind.OTHER,
    "decimal": Kind.OTHER,
    "uuid": Kind.OTHER,
    "json": Kind.JSON,
}


class Query:
    """See `Target`. What it wrote is kept when the directory was read to its end."""

    def __init__(self, connector: SqlConnector, reference: str, failures: Failures) -> None:
        self._connector, self._reference = connector, reference
        name = reference.partition(":")[0]
        declared = connector.spec.queries.get(name)
        # With every parameter given, or the declared ones would be asked for now.
        given = dict.fromkeys(declared.params, "") if declared else {}
        query, _ = named_query(connector.name, connector.spec, reference, given)
        if query.operation != "write":
            raise StepError(
                f"query {name!r} of connector {connector.name!r} only reads; ldap_sync needs one "
                f'with operation = "write"',
                retryable=False,
            )
        self._query, self._failures = query, failures
        self._names: tuple[str, ...] = ()
        self._parameters = statement.parse(query.sql, connector.dialect).order()
        self._count = 0
        self._examples: list[Mapping[str, Any]] = []
        self._block: AbstractAsyncContextManager[None] | None = None
        self._many: str | None = None

    async def offered(self) -> Sequence[str]:
        return self._parameters

    async def kinds(self, columns: Sequence[str]) -> dict[str, Kind]:
        declared = self._query.params
        for name in columns:
            if name not in self._parameters:
                there = ", ".join(f":{parameter}" for parameter in self._parameters) or "none"
                raise StepError(
                    f"the query {self._reference!r} has no parameter `:{name}`; it has {there}",
                    retryable=False,
                )
        for name in self._parameters:
            if name not in columns and name not in declared:
                raise StepError(
                    f"no attribute fills the parameter `:{name}` of the query {self._reference!r}",
                    retryable=False,
                )
        kinds = {n: _KINDS[p.type] for n, p in declared.items() if p.type in _KINDS}
        if isinstance(self._connector, PostgresConnector):
            types = await self._connector.parameter_types(self._query.sql)
            kinds |= {name: _kind(spelled) for name, spelled in types.items()}
        return {name: kinds.get(name, Kind.TEXT) for name in columns}

    async def begin(self, columns: Sequence[str], *, rehearsal: bool) -> None:
        self._names = tuple(columns)
        if rehearsal:
            return
        if isinstance(self._connector, PostgresConnector):
            types = await self._connector.parameter_types(self._query.sql)
            casts = {at: f"::text::{types[n]}" for at, n in enumerate(self._parameters, 1)}
            parsed = statement.parse(self._query.sql, self._connector.dialect)
            self._many = parsed.numbered(casts)
        block = self._connector.transaction()
        await block.__aenter__()
        self._block = block

    async def add(self, batch: Batch) -> None:
        """Told in one go; entries that it refuses are found by halving and left out."""
        if self._block is None:
            self._rehearse(batch)
            return
        for start in range(0, len(batch), _AT_ONCE):
            await self._tell(batch.part(start, start + _AT_ONCE))

    async def keep(self, batch: Batch) -> None:
        """A query knows nothing of rows that are gone."""

    async def plan(self) -> Changes:
        return Changes(written=self._count, examples={"write": self._examples})

    async def apply(self) -> Changes:
        block, self._block = self._block, None
        if block is not None:
            await block.__aexit__(None, None, None)
        return Changes(written=self._count)

    async def end(self) -> None:
        """Undo what was not applied."""
        block, self._block = self._block, None
        if block is not None:
            undone = StepError("the directory was not read to its end")
            with suppress(StepError):
                await block.__aexit__(StepError, undone, None)

    def _rehearse(self, batch: Batch) -> None:
        self._count += len(batch)
        for _, values in batch.rows():
            if len(self._examples) >= EXAMPLES:
                break
            self._examples.append(dict(zip(self._names, values, strict=True)))

    async def _tell(self, batch: Batch) -> None:
        try:
            async with self._connector.transaction():
                if self._many is not None:
                    await self._tell_at_once(self._many, batch)
                else:
                    for _, values in batch.rows():
                        await self._connector.execute(self._query.sql, self._given(values))
        except StepError as error:
            if not is_row_fault(error):
                raise
            if len(batch) > 1:
                for half in batch.halves():
                    await self._tell(half)
                return
            self._failures.note(batch.names[0], why(error))
            return
        self._count += len(batch)

    async def _tell_at_once(self, sql: str, batch: Batch) -> None:
        """PostgreSQL takes many executions of one statement without waiting for each answer."""
        rows = [[_text(v) for v in self._given(values).values()] for _, values in batch.rows()]
        connection = await self._connector.raw()
        with cast("PostgresConnector", self._connector).translated():
            await connection.executemany(sql, rows)

    def _given(self, values: Sequence[Text]) -> dict[str, Any]:
        """Every parameter in the order of the statement, those without an attribute by default."""
        given: dict[str, Any] = dict(zip(self._names, values, strict=True))
        declared = self._query.params
        return {n: given[n] if n in given else declared[n].default for n in self._parameters}


def _kind(spelled: str) -> Kind:
    name = spelled.rpartition(".")[2].strip('"')
    return Kind.ARRAY if spelled.endswith("[]") else postgres_kind(name)


def _text(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return json.dumps(value)
        case _:
            return str(value)
