"""Rows of other databases on their way into PostgreSQL: a reading in PostgreSQL's own types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import FROM_FUNCTION, Field, Kind, Word
from nomaflow.steps.copying.naming import qualified, quoted
from nomaflow.steps.copying.origins.base import POSTGRES, Origin
from nomaflow.steps.copying.postgres import catalog
from nomaflow.steps.copying.postgres.catalog import Column, Table
from nomaflow.steps.copying.postgres.diagnosis import ARRIVALS
from nomaflow.steps.copying.postgres.kinds import declared
from nomaflow.steps.copying.postgres.load import Put
from nomaflow.steps.copying.postgres.reading import Reading


class Sent:
    """An origin as a load sees it."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    @property
    def dropped(self) -> int:
        return self._origin.dropped

    async def send(self, columns: Sequence[str], put: Put) -> int:
        return await self._origin.send(columns, POSTGRES, put)

    async def estimate(self) -> int | None:
        return await self._origin.estimate()


async def likeness(
    target: PostgresConnector, origin: Origin, wanted: dict[str, Column | None]
) -> Reading:
    """A temporary table of the target's connection, with a column for each of the origin's.

    Its types hold every value of the origin's kinds; `wanted` are the target columns they are
    for, by the names of the origin.
    """
    connection = await target.raw()
    if origin.looks_at_letters:
        origin.letters = {
            field.name: column.typmod - 4  # varchar's own header
            for field in origin.fields
            if field.kind == Kind(Word.TEXT)
            and (column := wanted.get(field.name)) is not None
            and column.type_name == "varchar"
            and column.typmod >= 0
        }
    types = {field.name: _type(field, wanted.get(field.name)) for field in origin.fields}
    types |= {name: f"varchar({most})" for name, most in origin.letters.items()}
    if origin.dialect == "postgresql" and not wanted:
        with target.translated():
            types |= await _own_types(connection, origin)
    columns = ", ".join(f"{quoted(name)} {made}" for name, made in types.items())
    for field in origin.fields:
        if len(field.name.encode()) > 63:  # noqa: PLR2004  NAMEDATALEN - 1
            raise StepError(
                f"the source column {field.name!r} has a name longer than PostgreSQL keeps; rename "
                "it in `columns` or in `source.query`"
            )
    name = qualified("pg_temp", ARRIVALS)
    with target.translated():
        await connection.execute(f"DROP TABLE IF EXISTS {name}")
        await connection.execute(f"CREATE TEMPORARY TABLE {quoted(ARRIVALS)} ({columns})")
        table = await catalog.table(connection, "pg_temp", ARRIVALS)
    if table is None:
        raise StepError("the temporary table of the copy vanished while it was made")
    found = tuple(
        replace(column, not_null=field.not_null)
        for column, field in zip(table.columns, origin.fields, strict=True)
    )
    return Reading(origin.shown, f"FROM {name}", found, None, {}, {}, origin.key)


async def _own_types(connection: Any, origin: Origin) -> dict[str, str]:
    """Types of PostgreSQL's own that came by way of a function, as far as the target has them."""
    declared_types = {
        field.name: field.declared for field in origin.fields if field.declared != FROM_FUNCTION
    }
    known = await connection.fetch(
        "SELECT t FROM unnest($1::text[]) AS t WHERE pg_catalog.to_regtype(t) IS NOT NULL",
        list(declared_types.values()),
    )
    found = {row["t"] for row in known}
    return {name: made for name, made in declared_types.items() if made in found}


def _type(field: Field, target: Column | None) -> str:
    """The kind's own type; a time with no zone is in UTC, a duration is no time of day."""
    kind = field.kind
    if target is not None:
        if kind.word is Word.INTEGER and target.type_name == "bool":
            return "integer"
        if kind.word is Word.TIME and target.type_name == "interval":
            return "interval"
        if kind.word is Word.MOMENT and target.type_name == "timestamptz":
            return declared(Kind(Word.INSTANT, kind.size))
        if kind.word in {Word.JSON, Word.OTHER, Word.UUID} and target.type_name == "jsonb":
            return "jsonb" if kind.word is Word.JSON else "text"
    return declared(kind)


def sources_of(
    origin: Origin, table: Table | None, mapping: dict[str, str]
) -> dict[str, Column | None]:
    """The target column that each source column is for, as far as there is one."""
    if table is None:
        return {}
    if mapping:
        return {old: table.column(new) for new, old in mapping.items()}
    return {field.name: table.column(field.name) for field in origin.fields}
