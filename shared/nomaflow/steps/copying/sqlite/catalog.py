"""What an SQLite file says of its tables, in shared words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nomaflow.connectors import statement
from nomaflow.connectors.sqlite.connector import SqliteConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import Field, Kind, Sheet, Word
from nomaflow.steps.copying.naming import qualified, quoted

_MICROSECONDS = 6
_VIEW = "nomaflow_shape"
# The first word that is found in a declared type decides (what is stored is SQLite's own affair).
_WORDS: tuple[tuple[str, Kind], ...] = (
    ("JSON", Kind(Word.JSON)),
    ("UUID", Kind(Word.UUID)),
    ("BOOL", Kind(Word.BOOL)),
    ("DECIMAL", Kind(Word.DECIMAL)),
    ("NUMERIC", Kind(Word.DECIMAL)),
    ("NUMBER", Kind(Word.DECIMAL)),
    ("MONEY", Kind(Word.DECIMAL)),
    ("WITH TIME ZONE", Kind(Word.INSTANT, _MICROSECONDS)),
    ("TIMESTAMPTZ", Kind(Word.INSTANT, _MICROSECONDS)),
    ("TIMESTAMP", Kind(Word.MOMENT, _MICROSECONDS)),
    ("DATETIME", Kind(Word.MOMENT, _MICROSECONDS)),
    ("INT", Kind(Word.INTEGER, 64)),
    ("CHAR", Kind(Word.TEXT)),
    ("CLOB", Kind(Word.TEXT)),
    ("TEXT", Kind(Word.TEXT)),
    ("BLOB", Kind(Word.BYTES)),
    ("REAL", Kind(Word.FLOAT, 64)),
    ("FLOA", Kind(Word.FLOAT, 64)),
    ("DOUB", Kind(Word.FLOAT, 64)),
    ("DATE", Kind(Word.DATE)),
    ("TIME", Kind(Word.TIME, _MICROSECONDS)),
)
_LENGTH = re.compile(r"\s*\(.*\)")


async def table(connector: SqliteConnector, schema: str | None, name: str) -> Sheet | None:
    """The table or view of that name, as SQLite finds it (without regard to case), or None."""
    where = quoted(schema or "main")
    found = await connector.first(
        f"SELECT name, type FROM {where}.sqlite_master "
        "WHERE type IN ('table', 'view') AND name = :name COLLATE NOCASE",
        {"name": name},
    )
    if found is None:
        return None
    real = str(found["name"])
    columns = await connector.all(f"PRAGMA {where}.table_xinfo({quoted(real)})")
    key = sorted((row["pk"], row["name"]) for row in columns if row["pk"])
    keys = []
    for index in await connector.all(f"PRAGMA {where}.index_list({quoted(real)})"):
        if index["unique"] and not index["partial"] and index["origin"] != "pk":
            parts = await connector.all(f"PRAGMA {where}.index_info({quoted(index['name'])})")
            if all(part["name"] is not None for part in parts):
                keys.append(tuple(str(part["name"]) for part in parts))
    fields = tuple(_field(row) for row in columns if row["hidden"] != 1)
    if len(key) == 1:  # an INTEGER PRIMARY KEY gives itself a number
        fields = tuple(_numbered(field) if field.name == key[0][1] else field for field in fields)
    return Sheet(
        schema or "",
        real,
        qualified(schema, real) if schema else quoted(real),
        fields,
        tuple(str(name) for _, name in key),
        tuple(keys),
        is_view=found["type"] == "view",
    )


def _field(row: Mapping[str, Any]) -> Field:
    declared = str(row["type"])
    return Field(
        str(row["name"]),
        kind_of(declared),
        declared or "no type",
        not_null=bool(row["notnull"]) or bool(row["pk"]),
        has_default=row["dflt_value"] is not None,
        generated="s" if row["hidden"] in {2, 3} else "",
    )


def _numbered(field: Field) -> Field:
    if field.declared.upper() != "INTEGER":
        return field
    return Field(
        field.name, field.kind, field.declared, field.not_null, field.has_default, "", identity="d"
    )


def kind_of(declared: str) -> Kind:
    """What a column declared so is meant to hold; OTHER: whatever comes."""
    upper = _LENGTH.sub("", declared).upper()
    return next((kind for word, kind in _WORDS if word in upper), Kind(Word.OTHER))


async def query_fields(
    connector: SqliteConnector, select: str, params: Mapping[str, Any]
) -> tuple[Field, ...]:
    """The columns a query answers; those that are columns of tables keep their types.

    SQLite tells them of a view only, which takes no parameters; their values change no type.
    """
    database = await connector.raw()
    with connector.translated():
        cursor = await database.execute(select, dict(params))
        names = [field[0] for field in cursor.description or ()]
        await cursor.close()
    plain = statement.parse(select, "sqlite").spliced(dict.fromkeys(params, "NULL"))
    try:
        await connector.execute(f"CREATE TEMP VIEW {_VIEW} AS {plain}")
        rows = await connector.all(f"PRAGMA temp.table_xinfo({_VIEW})")
        types = {row["name"]: row["type"] for row in rows}
    except StepError:
        types = {}
    finally:
        await connector.execute(f"DROP VIEW IF EXISTS temp.{_VIEW}")
    return tuple(
        Field(name, kind_of(types.get(name, "")), types.get(name) or "no type") for name in names
    )


def affinity(declared: str) -> str:
    """What SQLite does to values of a column declared so (sqlite.org/datatype3.html, 3.1)."""
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in upper or not upper or upper == "NO TYPE":
        return "BLOB"
    return "REAL" if any(word in upper for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"
