"""What a target table looks like: its columns, what they take, and what names a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.directory.target import TableSettings
from nomaflow.steps.directory.values import Kind

Flag = Literal["truth", "number", "time"]


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """A column: what it takes, how its type is spelled in a cast, and what a flag in it says."""

    name: str
    kind: Kind
    type: str
    is_computed: bool = False
    flag: Flag | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """A table; `keys` are the sets of columns that name one row."""

    schema: str
    table: str
    columns: Mapping[str, ColumnShape]
    keys: Sequence[frozenset[str]]

    @property
    def shown(self) -> str:
        """Its name for people."""
        return f"{self.schema}.{self.table}" if self.schema else self.table


_POSTGRES_COLUMNS = """
    SELECT n.nspname::text AS schema, a.attname::text AS name, t.typname::text AS type_name,
           CASE WHEN t.typtype = 'd' THEN b.typname ELSE t.typname END::text AS base,
           tn.nspname::text AS type_schema, a.attgenerated::text <> '' AS is_computed
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype
    WHERE c.oid = pg_catalog.to_regclass(:name) AND c.relkind IN ('r', 'p') ORDER BY a.attnum
"""
_POSTGRES_KEYS = """
    SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS k(attnum)
                 JOIN pg_catalog.pg_attribute a
                   ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS columns
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = pg_catalog.to_regclass(:name) AND i.indisunique AND i.indisvalid
      AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
"""
_TYPE = ("type_schema", "type_name")
_POSTGRES_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("text", "varchar", "bpchar", "citext", "name"), Kind.TEXT),
    **dict.fromkeys(("json", "jsonb"), Kind.JSON),
    **dict.fromkeys(("timestamp", "timestamptz", "date"), Kind.TIME),
    "bytea": Kind.BYTES,
    "bool": Kind.TRUTH,
}
_POSTGRES_FLAGS: dict[str, Flag] = {
    "bool": "truth",
    **dict.fromkeys(("int2", "int4", "int8", "numeric"), "number"),
    **dict.fromkeys(("timestamp", "timestamptz", "date"), "time"),
}
_MYSQL_COLUMNS = """
    SELECT c.table_schema AS `schema`, c.column_name AS name, c.data_type AS type_name,
           c.extra LIKE '%GENERATED%' AND c.extra NOT LIKE '%DEFAULT_GENERATED%' AS is_computed
    FROM information_schema.columns c JOIN information_schema.tables t
      ON t.table_schema = c.table_schema AND t.table_name = c.table_name
    WHERE c.table_schema = COALESCE(:schema, DATABASE()) AND c.table_name = :table
      AND t.table_type = 'BASE TABLE' ORDER BY c.ordinal_position
"""
_MYSQL_KEYS = """
    SELECT index_name AS name, column_name AS part, sub_part IS NOT NULL AS is_part
    FROM information_schema.statistics
    WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table AND non_unique = 0
    ORDER BY index_name, seq_in_index
"""
_MYSQL_KINDS = {
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), Kind.BYTES),
    **dict.fromkeys(("binary", "varbinary"), Kind.BYTES),
    **dict.fromkeys(("char", "varchar", "enum", "set"), Kind.TEXT),
    **dict.fromkeys(("tinytext", "text", "mediumtext", "longtext"), Kind.TEXT),
    **dict.fromkeys(("datetime", "timestamp", "date"), Kind.TIME_UTC),
    "json": Kind.JSON,
    "tinyint": Kind.FLAG,
}
_MYSQL_NUMBERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "bit"})


async def look(connector: SqlConnector, settings: TableSettings) -> Shape:
    """Look at the target; StepError when there is no such table or database."""
    match connector.dialect:
        case "postgresql":
            shape = await _postgres(connector, settings)
        case "mysql":
            shape = await _mysql(connector, settings)
        case "sqlite":
            shape = await _sqlite(connector, settings)
        case other:
            raise StepError(
                f"ldap_sync fills no table of a {other} database; write `target_query` instead",
                retryable=False,
            )
    if not shape.columns:
        raise StepError(
            f"there is no table {settings.shown} in connector {connector.name!r}", retryable=False
        )
    if frozenset(settings.key) not in shape.keys:
        named = ", ".join(settings.key)
        raise StepError(
            f"{shape.shown} has no primary key or unique index on ({named}), so the row of an "
            "entry could not be found again; add one",
            retryable=False,
        )
    return shape


async def _postgres(connector: SqlConnector, settings: TableSettings) -> Shape:
    quoted = [part.replace('"', '""') for part in (settings.schema, settings.table) if part]
    name = {"name": ".".join(f'"{part}"' for part in quoted)}
    rows = await connector.all(_POSTGRES_COLUMNS, name)
    columns = {
        row["name"]: ColumnShape(
            row["name"],
            postgres_kind(row["base"]),
            # Spelled so, a type never takes a default length, which would cut a value short.
            ".".join('"' + row[part].replace('"', '""') + '"' for part in _TYPE),
            row["is_computed"],
            _POSTGRES_FLAGS.get(row["base"]),
        )
        for row in rows
    }
    keys = [frozenset(row["columns"]) for row in await connector.all(_POSTGRES_KEYS, name)]
    return Shape(rows[0]["schema"] if rows else "", settings.table, columns, keys)


def postgres_kind(type_name: str) -> Kind:
    """What a column of a type takes; an array's name begins with `_`."""
    if type_name.startswith("_"):
        return Kind.ARRAY
    return _POSTGRES_KINDS.get(type_name, Kind.OTHER)


async def _mysql(connector: SqlConnector, settings: TableSettings) -> Shape:
    name = {"schema": settings.schema, "table": settings.table}
    rows = await connector.all(_MYSQL_COLUMNS, name)
    columns = {
        row["name"]: ColumnShape(
            row["name"],
            _MYSQL_KINDS.get(row["type_name"].lower(), Kind.OTHER),
            row["type_name"],
            bool(row["is_computed"]),
            _mysql_flag(row["type_name"].lower()),
        )
        for row in rows
    }
    found: dict[str, set[str]] = {}
    for row in await connector.all(_MYSQL_KEYS, name):
        # A key over the beginning of a text names no row.
        part = f"{row['part']}\x00beginning" if row["is_part"] else row["part"]
        found.setdefault(row["name"], set()).add(part)
    schema = rows[0]["schema"] if rows else ""
    return Shape(schema, settings.table, columns, [frozenset(parts) for parts in found.values()])


def _mysql_flag(type_name: str) -> Flag | None:
    if type_name in _MYSQL_NUMBERS:
        return "number"
    return "time" if type_name in {"datetime", "timestamp", "date"} else None


async def _sqlite(connector: SqlConnector, settings: TableSettings) -> Shape:
    schema = settings.schema or "main"
    name = {"table": settings.table, "schema": schema}
    rows = await connector.all(
        "SELECT i.name, i.type, i.pk, i.hidden FROM pragma_table_xinfo(:table, :schema) AS i "
        "JOIN pragma_table_list AS l ON l.name = :table AND l.schema = :schema "
        "AND l.type = 'table' WHERE i.hidden <> 1",
        name,
    )
    columns = {row["name"]: _sqlite_column(row) for row in rows}
    primary = frozenset(row["name"] for row in rows if row["pk"])
    found: dict[str, set[str]] = {}
    for row in await connector.all(
        "SELECT l.name AS name, i.name AS part FROM pragma_index_list(:table, :schema) AS l, "
        'pragma_index_info(l.name, :schema) AS i WHERE l."unique" AND NOT l.partial',
        name,
    ):
        found.setdefault(row["name"], set()).add(row["part"] or "\x00an expression")
    keys = [frozenset(parts) for parts in found.values()]
    return Shape(schema, settings.table, columns, [primary, *keys] if primary else keys)


def _sqlite_column(row: Mapping[str, Any]) -> ColumnShape:
    """SQLite has no types but what the declared words hint at (sqlite.org/datatype3.html)."""
    word = row["type"].upper()
    kind: Kind = Kind.TEXT
    flag: Flag | None = None
    if "BOOL" in word:
        kind, flag = Kind.FLAG, "number"
    elif "DATE" in word or "TIME" in word:
        kind, flag = Kind.TIME_UTC, "time"
    elif "INT" in word:
        kind, flag = Kind.OTHER, "number"
    elif "BLOB" in word:
        kind = Kind.BYTES
    elif "JSON" in word:
        kind = Kind.JSON
    elif any(part in word for part in ("REAL", "FLOA", "DOUB", "NUM", "DEC")):
        kind, flag = Kind.OTHER, "number"
    computed = row["hidden"] in {2, 3}
    return ColumnShape(row["name"], kind, row["type"], computed, flag)
