"""Making a target table that is not there yet, in the source's likeness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomaflow.errors import StepError
from nomaflow.steps.copying.naming import listed, qualified, quoted
from nomaflow.steps.copying.postgres.catalog import Column
from nomaflow.steps.copying.postgres.reading import Reading


async def create(
    connection: Any, schema: str, name: str, reading: Reading, mapping: Mapping[str, str]
) -> None:
    """Create schema and table within the current transaction: columns, types, NOT NULL, key.

    StepError for a column whose type the target's server does not have.
    """
    if not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)", schema
    ):
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
    wanted = mapping or {column.name: column.name for column in reading.columns}
    sources = {column.name: column for column in reading.columns}
    lines = [
        await _column(connection, new, sources[old])
        for new, old in wanted.items()
        if old in sources
    ]
    if key := _primary_key(reading, wanted):
        lines.append(f"PRIMARY KEY ({listed(key)})")
    await connection.execute(f"CREATE TABLE {qualified(schema, name)} ({', '.join(lines)})")


async def _column(connection: Any, name: str, source: Column) -> str:
    not_null = " NOT NULL" if source.not_null else ""
    return f"{quoted(name)} {await _type(connection, source)}{not_null}"


async def _type(connection: Any, source: Column) -> str:
    if source.kind == "p":
        raise StepError(
            f"the source column {source.name!r} has the type {source.base}, which no table can "
            "hold; cast it in `source.query`"
        )
    is_domain = source.declared != source.full_type
    if is_domain and await _is_known(connection, source.declared):
        return source.declared
    if source.is_builtin:
        return source.full_type
    if await _is_known(connection, source.base):
        return source.base
    if source.is_enum:
        return "text"
    raise StepError(
        f"the source column {source.name!r} has the type {source.base}, which the target's "
        "database does not have; create the type there, or cast the column in `source.query`"
    )


async def _is_known(connection: Any, name: str) -> bool:
    found = await connection.fetchval("SELECT pg_catalog.to_regtype($1) IS NOT NULL", name)
    return bool(found)


def _primary_key(reading: Reading, wanted: Mapping[str, str]) -> tuple[str, ...]:
    """The source table's key under the target's names, when all of it is copied."""
    new_names = {old: new for new, old in wanted.items()}
    key = reading.key
    return tuple(new_names[name] for name in key) if all(n in new_names for n in key) else ()
