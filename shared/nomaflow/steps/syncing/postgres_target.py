"""Batches into a PostgreSQL table: one statement each, every value read as its column's type."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from nomaflow.connectors.postgres import errors as postgres_errors
from nomaflow.connectors.postgres.binding import as_text
from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.naming import qualified, quoted
from nomaflow.steps.syncing.settings import Target
from nomaflow.steps.syncing.writing import (
    ColumnFacts,
    Writer,
    Written,
    check_columns,
    check_key,
    check_key_values,
)

_TABLE = """
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = pg_catalog.to_regclass($1)"""
_COLUMNS = """
    SELECT a.attname::text AS name, a.attnotnull AS not_null,
      a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS filled,
      a.attgenerated <> '' OR a.attidentity = 'a' AS readonly,
      n.nspname::text AS type_schema, t.typname::text AS type_name,
      coalesce(b.typname, t.typname)::text AS base, t.typcategory::text AS category
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_UNIQUE = """
    SELECT array_agg(a.attname::text) AS columns
    FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
    GROUP BY i.indexrelid"""

_WRITABLE = {"r", "p", "f", "v"}
_INTEGERS = {"int2", "int4", "int8", "oid"}
_JSON = {"json", "jsonb"}


@dataclass(frozen=True, slots=True)
class _Column:
    facts: ColumnFacts
    cast: str
    write: Callable[[Any], str]


class PostgresTable(Writer):
    """One table; the statement is prepared once and run for every batch."""

    def __init__(
        self,
        connector: PostgresConnector,
        shown: str,
        statement: str,
        columns: Sequence[_Column],
        key: Sequence[str],
    ) -> None:
        self.shown = shown
        self._connector, self._statement = connector, statement
        self._columns, self._key = columns, key
        self._names = [column.facts.name for column in columns]
        self._prepared: Any = None

    async def write(self, columns: Sequence[Sequence[Any]]) -> Written:
        check_key_values(columns, self._names, self._key)
        connection = await self._connector.raw()
        with self._connector.translated():
            texts = self._texts(columns)
            if self._prepared is None:
                self._prepared = await connection.prepare(self._statement)
            try:
                row = await self._prepared.fetchrow(*texts)
            except asyncpg.DataError as error:
                where = await self._misfit(connection, texts)
                if where is None:
                    raise
                words = postgres_errors.failed(self._connector.name, error).message
                raise StepError(f"column `{where}`: {words}") from error
        return Written(row[0], row[1])

    def _texts(self, columns: Sequence[Sequence[Any]]) -> list[list[str | None]]:
        try:
            return [
                [v if v is None or v.__class__ is str else column.write(v) for v in values]
                for column, values in zip(self._columns, columns, strict=True)
            ]
        except RecursionError:
            raise StepError("a value is nested too deep to be written", retryable=False) from None

    async def _misfit(self, connection: Any, texts: Sequence[Sequence[str | None]]) -> str | None:
        """Which column holds a value that its type cannot read: the database does not say."""
        for column, values in zip(self._columns, texts, strict=True):
            try:
                await connection.fetch(
                    f"SELECT count(v::{column.cast}) FROM unnest($1::text[]) AS v", values
                )
            except asyncpg.DataError:
                return column.facts.name
        return None


async def open_table(
    connector: PostgresConnector, target: Target, mapped: Sequence[str]
) -> PostgresTable:
    """Look at the table and make ready to write; StepError for what does not fit it."""
    assert target.table is not None  # noqa: S101  the settings have seen to it
    connection = await connector.raw()
    name = (
        qualified(target.schema_name, target.table) if target.schema_name else quoted(target.table)
    )
    with connector.translated():
        table = await connection.fetchrow(_TABLE, name)
        if table is None or table["kind"] not in _WRITABLE:
            where = f"{target.schema_name}.{target.table}" if target.schema_name else target.table
            what = "there is no table" if table is None else "nothing can be written to"
            raise StepError(
                f"connector {connector.name!r}: {what} `{where}`; make it before the sync",
                retryable=False,
            )
        rows = await connection.fetch(_COLUMNS, table["oid"])
        unique = [row["columns"] for row in await connection.fetch(_UNIQUE, table["oid"])]
    shown = f"{table['schema']}.{table['name']}"
    found = {row["name"]: _column(row) for row in rows}
    check_columns(shown, [column.facts for column in found.values()], mapped, target.key)
    if target.key:
        check_key(shown, target.key, unique)
    columns = [found[column] for column in mapped]
    where = qualified(table["schema"], table["name"])
    statement = _statement(where, columns, target.key, plain=table["kind"] == "r")
    return PostgresTable(connector, shown, statement, columns, target.key)


def _column(row: Mapping[str, Any]) -> _Column:
    facts = ColumnFacts(
        row["name"], row["type_name"], row["not_null"], row["filled"], row["readonly"]
    )
    # Spelled with its schema, quoted: so a type takes no default length (`bit` alone is one bit),
    # and a text that is too long is refused on its way into the column instead of cut here.
    cast = f"{quoted(row['type_schema'])}.{quoted(row['type_name'])}"
    if row["category"] == "A":
        return _Column(facts, cast, _array)
    if row["base"] in _JSON:
        return _Column(facts, cast, _json)
    return _Column(facts, cast, _whole if row["base"] in _INTEGERS else _text)


def _statement(table: str, columns: Sequence[_Column], key: Sequence[str], *, plain: bool) -> str:
    """Insert or update all rows of a batch; answers how many of each.

    Of rows with the same key, as the key's own type compares, the last one counts. They are
    written in the order of the key, so that two writers never wait for each other in a circle.
    """
    names = ", ".join(quoted(column.facts.name) for column in columns)
    values = [f"g.c{n}::{column.cast}" for n, column in enumerate(columns)]
    arrays = ", ".join(f"${n}::text[]" for n in range(1, len(columns) + 1))
    aliases = ", ".join(f"c{n}" for n in range(len(columns)))
    given = f"unnest({arrays}) WITH ORDINALITY AS g ({aliases}, place)"
    if not key:
        return (
            f"WITH written AS (INSERT INTO {table} ({names}) SELECT {', '.join(values)} "
            f"FROM {given} ORDER BY g.place RETURNING true) SELECT count(*), 0::bigint FROM written"
        )
    places = [n for name in key for n, column in enumerate(columns) if column.facts.name == name]
    keys = ", ".join(values[n] for n in places)
    parts = [f"{value} AS {quoted(c.facts.name)}" for value, c in zip(values, columns, strict=True)]
    rest = [quoted(c.facts.name) for c in columns if c.facts.name not in key]
    update = ", ".join(f"{name} = excluded.{name}" for name in rest)
    deed = f"DO UPDATE SET {update}" if rest else "DO NOTHING"
    on = ", ".join(quoted(name) for name in key)
    rows = (
        f"SELECT DISTINCT ON ({keys}) {', '.join(parts)} FROM {given} ORDER BY {keys}, place DESC"
    )
    # xmax is 0 in a row version that no other came before; a partitioned table and a view do not
    # show it, so there the known keys are counted first, in the same snapshot.
    insert = f"INSERT INTO {table} ({names}) SELECT {names} FROM given ON CONFLICT ({on}) {deed}"
    if plain:
        return (
            f"WITH given AS ({rows}), written AS ({insert} RETURNING xmax = 0 AS inserted) "
            "SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) "
            "FROM written"
        )
    same = " AND ".join(f"t.{quoted(name)} = given.{quoted(name)}" for name in key)
    return (
        f"WITH given AS MATERIALIZED ({rows}), known AS (SELECT count(*) AS n FROM given "
        f"WHERE EXISTS (SELECT FROM {table} t WHERE {same})), written AS ({insert} RETURNING true) "
        "SELECT greatest(count(*) - n, 0), least(n, count(*)) FROM known LEFT JOIN written ON true "
        "GROUP BY n"
    )


def _text(value: Any) -> str:
    written: str = as_text("value", value).value
    return written


def _whole(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _text(value)


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, default=_text)


def _array(value: Any) -> str:
    """A list as PostgreSQL writes arrays (manual, section 8.15.2)."""
    if not isinstance(value, list | tuple):
        return _text(value)
    return "{" + ",".join(map(_element, value)) + "}"


def _element(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case list() | tuple():
            return _array(value)
        case _:
            text = _text(value).replace("\\", "\\\\").replace('"', '\\"')
            return f'"{text}"'
