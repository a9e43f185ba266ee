"""What MySQL's catalogue says of a table or a query, in shared words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from asyncmy.constants import FIELD_TYPE, FLAG

from nomaflow.connectors.mysql.connector import MysqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import Field, Kind, Sheet, Word
from nomaflow.steps.copying.mysql.naming import qualified

_TABLE = """
    SELECT t.TABLE_SCHEMA AS table_schema, t.TABLE_NAME AS table_name, t.TABLE_TYPE AS table_type,
           t.TABLE_ROWS AS table_rows
    FROM information_schema.TABLES AS t
    WHERE t.TABLE_SCHEMA = COALESCE(:schema, DATABASE()) AND t.TABLE_NAME = :name
"""
_COLUMNS = """
    SELECT COLUMN_NAME AS name, DATA_TYPE AS type, COLUMN_TYPE AS declared,
           CHARACTER_MAXIMUM_LENGTH AS letters, NUMERIC_PRECISION AS digits,
           NUMERIC_SCALE AS scale, DATETIME_PRECISION AS fraction, IS_NULLABLE AS nullable,
           COLUMN_DEFAULT AS standard, EXTRA AS extra
    FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :name ORDER BY ORDINAL_POSITION
"""
_KEYS = """
    SELECT INDEX_NAME AS name, COLUMN_NAME AS col, SUB_PART AS part
    FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :name AND NON_UNIQUE = 0
    ORDER BY INDEX_NAME, SEQ_IN_INDEX
"""
# MariaDB's JSON is text with a check.
_JSON = """
    SELECT CHECK_CLAUSE AS words FROM information_schema.CHECK_CONSTRAINTS
    WHERE CONSTRAINT_SCHEMA = :schema AND TABLE_NAME = :name
"""
_JSON_CHECK = re.compile(r"json_valid\(`((?:[^`]|``)+)`\)", re.IGNORECASE)
_INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 32, "int": 32, "bigint": 64}
_BYTES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_TEXTS = frozenset({"tinytext", "text", "mediumtext", "longtext"})
_CLOCKS = {"time": Word.TIME, "datetime": Word.MOMENT, "timestamp": Word.INSTANT}
_UNREADABLE = frozenset(
    {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"}
    | {"geometrycollection", "vector"}
)
_BINARY_CHARSET = 63
_BYTES_PER_LETTER = 4  # utf8mb4, in which every session of ours speaks


async def table(connector: MysqlConnector, schema: str | None, name: str) -> Sheet | None:
    """The table of that very name, or None; without `schema`, in the connection's database."""
    found = await connector.first(_TABLE, {"schema": schema, "name": name})
    if found is None:
        return None
    where = {"schema": found["table_schema"], "name": found["table_name"]}
    documents = await _documents(connector, where)
    columns = await connector.all(_COLUMNS, where)
    keys: dict[str, list[str]] = {}
    partial: set[str] = set()
    for row in await connector.all(_KEYS, where):
        keys.setdefault(row["name"], []).append(row["col"])
        if row["part"] is not None or row["col"] is None:
            partial.add(row["name"])
    whole = {index: tuple(names) for index, names in keys.items() if index not in partial}
    rows = found["table_rows"]
    return Sheet(
        where["schema"],
        where["name"],
        qualified(where["schema"], where["name"]),
        tuple(_field(column, documents) for column in columns),
        whole.pop("PRIMARY", ()),
        tuple(whole.values()),
        None if rows is None else int(rows) or None,
        is_view="VIEW" in str(found["table_type"]).upper(),
    )


async def _documents(connector: MysqlConnector, where: Mapping[str, str]) -> frozenset[str]:
    server = await connector.raw()
    if not server.is_mariadb:
        return frozenset()
    words = " ".join(str(row["words"]) for row in await connector.all(_JSON, where))
    return frozenset(name.replace("``", "`") for name in _JSON_CHECK.findall(words))


def _field(column: Mapping[str, Any], documents: frozenset[str]) -> Field:
    extra = str(column["extra"] or "").upper()
    generated = "GENERATED" in extra and "DEFAULT_GENERATED" not in extra
    name, declared = str(column["name"]), str(column["declared"])
    kind = Kind(Word.JSON) if name in documents else _kind(column, declared.lower())
    return Field(
        name,
        kind,
        declared,
        not_null=column["nullable"] == "NO",
        has_default=column["standard"] is not None or "DEFAULT_GENERATED" in extra,
        generated="s" if generated else "",
        identity="d" if "AUTO_INCREMENT" in extra else "",
    )


def _kind(column: Mapping[str, Any], declared: str) -> Kind:  # noqa: C901, PLR0911, PLR0912  a line per type
    name = str(column["type"]).lower()
    if name in _INTEGERS:
        return whole(_INTEGERS[name], unsigned="unsigned" in declared)
    if name in _CLOCKS:
        return Kind(_CLOCKS[name], int(column["fraction"] or 0))
    if name in _BYTES:
        return Kind(Word.BYTES)
    if name in _TEXTS:
        return Kind(Word.TEXT)
    match name:
        case "decimal" | "numeric":
            return Kind(Word.DECIMAL, int(column["digits"]), int(column["scale"]))
        case "float":
            return Kind(Word.FLOAT, 32)
        case "double" | "real":
            return Kind(Word.FLOAT, 64)
        case "char" | "varchar" | "enum" | "set":
            return Kind(Word.TEXT, int(column["letters"]) if column["letters"] else None)
        case "date":
            return Kind(Word.DATE)
        case "year":
            return Kind(Word.INTEGER, 16)
        case "bit":
            return Kind(Word.BOOL) if declared == "bit(1)" else Kind(Word.OTHER)
        case "json":
            return Kind(Word.JSON)
        case "uuid":
            return Kind(Word.UUID)
        case _:
            return Kind(Word.OTHER)


def whole(bits: int, *, unsigned: bool) -> Kind:
    """An integer's kind: one without a sign needs the next size, the largest a decimal."""
    if not unsigned:
        return Kind(Word.INTEGER, bits)
    if bits == 64:  # noqa: PLR2004  bits
        return Kind(Word.DECIMAL, 20, 0)
    return Kind(Word.INTEGER, bits * 2)


async def query_fields(
    connector: MysqlConnector, select: str, params: Mapping[str, Any]
) -> tuple[Field, ...]:
    """The columns a query answers, from an answer without rows."""
    server = await connector.raw()
    with connector.translated():
        await connector.execute(select, params)
    described = server._result.fields  # noqa: SLF001  the description has no signs and charsets
    return tuple(_answered(field) for field in described)


def _answered(field: Any) -> Field:
    words = {
        value: name.lower()
        for name, value in vars(FIELD_TYPE).items()
        if isinstance(value, int) and name.isupper()
    }
    kind = _answered_kind(field)
    declared = words.get(field.type_code, str(field.type_code))
    return Field(str(field.name), kind, declared, not_null=bool(field.flags & FLAG.NOT_NULL))


def _answered_kind(field: Any) -> Kind:  # noqa: C901, PLR0911, PLR0912  a line per type
    unsigned = bool(field.flags & FLAG.UNSIGNED)
    match field.type_code:
        case FIELD_TYPE.TINY:
            return whole(8, unsigned=unsigned)
        case FIELD_TYPE.SHORT | FIELD_TYPE.YEAR:
            return whole(16, unsigned=unsigned)
        case FIELD_TYPE.LONG | FIELD_TYPE.INT24:
            return whole(32, unsigned=unsigned)
        case FIELD_TYPE.LONGLONG:
            return whole(64, unsigned=unsigned)
        case FIELD_TYPE.NEWDECIMAL | FIELD_TYPE.DECIMAL:
            digits = field.length - bool(field.scale) - (not unsigned)
            return Kind(Word.DECIMAL, int(digits), int(field.scale))
        case FIELD_TYPE.FLOAT:
            return Kind(Word.FLOAT, 32)
        case FIELD_TYPE.DOUBLE:
            return Kind(Word.FLOAT, 64)
        case FIELD_TYPE.DATE | FIELD_TYPE.NEWDATE:
            return Kind(Word.DATE)
        case FIELD_TYPE.TIME:
            return Kind(Word.TIME, min(int(field.scale), 6))
        case FIELD_TYPE.DATETIME:
            return Kind(Word.MOMENT, min(int(field.scale), 6))
        case FIELD_TYPE.TIMESTAMP:
            return Kind(Word.INSTANT, min(int(field.scale), 6))
        case FIELD_TYPE.BIT:
            return Kind(Word.BOOL) if field.length == 1 else Kind(Word.OTHER)
        case FIELD_TYPE.JSON:
            return Kind(Word.JSON)
        case FIELD_TYPE.GEOMETRY:
            return Kind(Word.OTHER)
        case FIELD_TYPE.VAR_STRING | FIELD_TYPE.STRING | FIELD_TYPE.VARCHAR:
            if field.charsetnr == _BINARY_CHARSET:
                return Kind(Word.BYTES)
            return Kind(Word.TEXT, int(field.length) // _BYTES_PER_LETTER or None)
        case _:
            return Kind(Word.BYTES if field.charsetnr == _BINARY_CHARSET else Word.TEXT)


def refuse_unreadable(fields: Sequence[Field], shown: str) -> None:
    """StepError for a column whose bytes mean nothing to another database."""
    for field in fields:
        if field.declared.lower().partition("(")[0] in _UNREADABLE:
            raise StepError(
                f"the source column {field.name!r} of {shown} has the type {field.declared}, which "
                "cannot be copied; select ST_AsText of it in `source.query`"
            )
