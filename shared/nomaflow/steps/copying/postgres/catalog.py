"""What the catalogue says of a table: its columns and types, its keys, what hangs on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow.steps.copying.naming import qualified, quoted

_FIRST_USER_OID = 16384  # below it, types are PostgreSQL's own and the same on every server

# A domain counts as the type it is made of; its constraints are checked by the target.
_TYPES = """
    CROSS JOIN LATERAL (
        WITH RECURSIVE chain(oid, typmod, depth) AS (
            SELECT a.type, a.typmod, 0
            UNION ALL
            SELECT t.typbasetype, t.typtypmod, depth + 1
            FROM chain JOIN pg_catalog.pg_type t ON t.oid = chain.oid WHERE t.typtype = 'd'
        )
        SELECT oid, typmod FROM chain ORDER BY depth DESC LIMIT 1
    ) AS bottom
    JOIN pg_catalog.pg_type b ON b.oid = bottom.oid
"""

_FIELDS = """
    a.name, a.not_null, a.identity, a.generated, a.has_default,
    bottom.oid AS type, bottom.typmod, b.typname AS type_name, b.typtype::text AS kind,
    b.typsend <> 0 AND b.typreceive <> 0 AS has_binary,
    pg_catalog.format_type(bottom.oid, NULL) AS base,
    pg_catalog.format_type(bottom.oid, bottom.typmod) AS full_type,
    pg_catalog.format_type(a.type, a.typmod) AS declared
"""

_TABLE_COLUMNS = f"""
    SELECT {_FIELDS} FROM (
        SELECT attnum AS place, attname::text AS name, atttypid AS type, atttypmod AS typmod,
               attnotnull AS not_null, attidentity::text AS identity,
               attgenerated::text AS generated, atthasdef AS has_default
        FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
    ) AS a {_TYPES} ORDER BY a.place
"""

_QUERY_COLUMNS = f"""
    SELECT {_FIELDS} FROM (
        SELECT place, name, type, -1 AS typmod, false AS not_null, '' AS identity,
               '' AS generated, false AS has_default
        FROM unnest($1::text[], $2::oid[]) WITH ORDINALITY AS given(name, type, place)
    ) AS a {_TYPES} ORDER BY a.place
"""

_TABLE = """
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
           GREATEST(c.reltuples, 0)::bigint AS estimated_rows, c.relhasrules AS has_rules
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = pg_catalog.to_regclass($1)
"""

_KEYS = """
    SELECT i.indisprimary AS is_primary,
           ARRAY(SELECT a.attname::text
                 FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
                 JOIN pg_catalog.pg_attribute a
                   ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                 ORDER BY k.place) AS columns
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid
"""

_DATABASE = """
    SELECT pg_catalog.pg_postmaster_start_time()::text || ' ' || oid::text AS identity,
           current_user::text AS role
    FROM pg_catalog.pg_database WHERE datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and its type; for a domain, the type underneath.

    `base` is the type's name without length, `full_type` with it, `declared` as the table says.
    """

    name: str
    type: int
    typmod: int
    type_name: str
    kind: str
    has_binary: bool
    base: str
    full_type: str
    declared: str
    not_null: bool = False
    identity: str = ""
    generated: str = ""
    has_default: bool = False

    @property
    def is_builtin(self) -> bool:
        """One of PostgreSQL's own types, whose number means the same on every server."""
        return self.type < _FIRST_USER_OID

    @property
    def is_enum(self) -> bool:
        return self.kind == "e"

    @property
    def names_objects(self) -> bool:
        """Of type regclass and the like: their number means another object on another server."""
        return self.is_builtin and self.type_name.lstrip("_").startswith("reg")


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the catalogue shows it."""

    oid: int
    schema: str
    name: str
    kind: str
    estimated_rows: int
    has_rules: bool
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    unique_keys: tuple[tuple[str, ...], ...]

    @property
    def sql(self) -> str:
        """Its name for a statement."""
        return qualified(self.schema, self.name)

    @property
    def shown(self) -> str:
        """Its name for people."""
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def row_key(self, copied: Sequence[str]) -> tuple[str, ...]:
        """Columns that name one row: the primary key, else a unique key that is never NULL."""
        for key in (self.primary_key, *self.unique_keys):
            columns = [self.column(name) for name in key]
            if key and all(c and c.not_null and c.name in copied for c in columns):
                return key
        return ()


@dataclass(frozen=True, slots=True)
class Database:
    """Which database a connection reached, and as whom."""

    identity: str
    role: str


async def database(connection: Any) -> Database:
    """The database behind a connection: equal identities are one database."""
    row = await connection.fetchrow(_DATABASE)
    return Database(row["identity"], row["role"])


async def table(connection: Any, schema: str | None, name: str) -> Table | None:
    """The table of that very name, or None; without `schema`, the first on the search path."""
    spelled = quoted(name) if schema is None else qualified(schema, name)
    found = await connection.fetchrow(_TABLE, spelled)
    if found is None:
        return None
    keys = await connection.fetch(_KEYS, found["oid"])
    return Table(
        **dict(found),
        columns=_columns(await connection.fetch(_TABLE_COLUMNS, found["oid"])),
        primary_key=next((tuple(key["columns"]) for key in keys if key["is_primary"]), ()),
        unique_keys=tuple(tuple(key["columns"]) for key in keys if not key["is_primary"]),
    )


async def query_columns(connection: Any, attributes: Sequence[Any]) -> tuple[Column, ...]:
    """The columns of a prepared query; their lengths are not known."""
    names = [attribute.name for attribute in attributes]
    types = [attribute.type.oid for attribute in attributes]
    return _columns(await connection.fetch(_QUERY_COLUMNS, names, types))


def _columns(rows: Sequence[Any]) -> tuple[Column, ...]:
    return tuple(Column(**dict(row)) for row in rows)
