"""Batches into a SQLite or MariaDB table: one statement with a row of parameters for each item."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.syncing.settings import Target
from nomaflow.steps.syncing.writing import (
    ColumnFacts,
    Writer,
    Written,
    check_columns,
    check_key,
    check_key_values,
)

MOST_PARAMETERS = {"sqlite": 32_000, "mysql": 65_000}
"""What one statement takes (sqlite.org/limits.html; the MySQL protocol counts in 16 bits)."""

_TIMES = ("datetime", "timestamp")


class PlainTable(Writer):
    """One table of a database without arrays."""

    def __init__(
        self,
        connector: SqlConnector,
        table: str,
        shown: str,
        columns: Sequence[ColumnFacts],
        key: Sequence[str],
    ) -> None:
        self.shown = shown
        self._connector, self._table, self._key = connector, table, key
        self._quote = _quotes(connector.dialect)
        self._names = [column.name for column in columns]
        self._write = [_value_of(column, connector.dialect) for column in columns]

    async def write(self, columns: Sequence[Sequence[Any]]) -> Written:
        check_key_values(columns, self._names, self._key)
        rows = [
            [write(value) for write, value in zip(self._write, row, strict=True)]
            for row in zip(*columns, strict=True)
        ]
        rows = self._last_of_each(rows)
        most = MOST_PARAMETERS[self._connector.dialect]
        if len(rows) * len(self._names) > most:
            raise StepError(
                f"a batch of {len(rows)} rows and {len(self._names)} columns has more than "
                f"{most:,} parameters; set a smaller `batch_size`",
                retryable=False,
            )
        async with self._connector.transaction():
            known = await self._known(rows) if self._key else 0
            await self._connector.execute(self._statement(len(rows)), _numbered(rows))
        return Written(len(rows) - known, known)

    def _last_of_each(self, rows: list[list[Any]]) -> list[list[Any]]:
        """Of rows with the same key, the last one."""
        if not self._key:
            return rows
        places = [self._names.index(name) for name in self._key]
        return list({tuple(str(row[place]) for place in places): row for row in rows}.values())

    async def _known(self, rows: list[list[Any]]) -> int:
        places = [self._names.index(name) for name in self._key]
        keys = [[row[place] for place in places] for row in rows]
        names = ", ".join(self._quote(name) for name in self._key)
        # A single column in brackets is no row value to SQLite.
        left = f"({names})" if len(places) > 1 else names
        given = _places(len(keys), len(places), brackets=len(places) > 1)
        wrapped = (
            f"VALUES {given}" if self._connector.dialect == "sqlite" and len(places) > 1 else given
        )
        sql = f"SELECT count(*) FROM {self._table} WHERE {left} IN ({wrapped})"
        return int(await self._connector.scalar(sql, _numbered(keys)))

    def _statement(self, count: int) -> str:
        names = ", ".join(map(self._quote, self._names))
        insert = f"INSERT INTO {self._table} ({names}) VALUES {_places(count, len(self._names))}"
        if not self._key:
            return insert
        rest = [self._quote(name) for name in self._names if name not in self._key]
        keys = [self._quote(name) for name in self._key]
        if self._connector.dialect == "mysql":
            changes = [f"{name} = VALUES({name})" for name in rest] or [f"{keys[0]} = {keys[0]}"]
            return f"{insert} ON DUPLICATE KEY UPDATE {', '.join(changes)}"
        changes = [f"{name} = excluded.{name}" for name in rest]
        deed = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
        return f"{insert} ON CONFLICT ({', '.join(keys)}) DO {deed}"


async def open_table(connector: SqlConnector, target: Target, mapped: Sequence[str]) -> PlainTable:
    """Look at the table and make ready to write; StepError for what does not fit it."""
    assert target.table is not None  # noqa: S101  the settings have seen to it
    look = {"sqlite": _sqlite_columns, "mysql": _mysql_columns}.get(connector.dialect)
    if look is None:
        raise StepError(
            f"http_sync writes to PostgreSQL, MariaDB, MySQL and SQLite tables, not to "
            f"{connector.dialect}; give a named query instead of a table",
            retryable=False,
        )
    columns, unique = await look(connector, target)
    shown = f"{target.schema_name}.{target.table}" if target.schema_name else target.table
    if not columns:
        raise StepError(
            f"connector {connector.name!r}: there is no table `{shown}`; make it before the sync",
            retryable=False,
        )
    check_columns(shown, columns, mapped, target.key)
    if target.key:
        check_key(shown, target.key, unique)
    by_name = {column.name: column for column in columns}
    quote = _quotes(connector.dialect)
    parts = [target.schema_name, target.table] if target.schema_name else [target.table]
    table = ".".join(quote(part) for part in parts)
    return PlainTable(connector, table, shown, [by_name[name] for name in mapped], target.key)


async def _sqlite_columns(
    connector: SqlConnector, target: Target
) -> tuple[list[ColumnFacts], list[list[str]]]:
    names = {"table": target.table, "schema": target.schema_name or "main"}
    rows = await connector.all(
        'SELECT name, type, "notnull", dflt_value, pk, hidden '
        "FROM pragma_table_xinfo(:table, :schema)",
        names,
    )
    whole_key = [row["name"] for row in rows if row["pk"]]
    alias = len(whole_key) == 1  # an INTEGER PRIMARY KEY is filled by SQLite itself
    columns = [
        ColumnFacts(
            row["name"],
            str(row["type"]).lower(),
            bool(row["notnull"]),
            row["dflt_value"] is not None or (alias and bool(row["pk"])),
            bool(row["hidden"]),
        )
        for row in rows
    ]
    indexes = await connector.all(
        "SELECT l.name AS index_name, i.name AS column_name "
        "FROM pragma_index_list(:table, :schema) l, pragma_index_info(l.name, :schema) i "
        'WHERE l."unique" AND NOT l.partial',
        names,
    )
    return columns, [whole_key, *_grouped(indexes)]


async def _mysql_columns(
    connector: SqlConnector, target: Target
) -> tuple[list[ColumnFacts], list[list[str]]]:
    names = {"table": target.table, "schema": target.schema_name}
    rows = await connector.all(
        "SELECT column_name AS name, data_type AS type, is_nullable AS nullable, "
        "column_default AS fallback, extra AS extra FROM information_schema.columns "
        "WHERE table_name = :table AND table_schema = coalesce(:schema, database()) "
        "ORDER BY ordinal_position",
        names,
    )
    columns = [
        ColumnFacts(
            row["name"],
            str(row["type"]).lower(),
            row["nullable"] == "NO",
            row["fallback"] is not None or "auto_increment" in str(row["extra"]).lower(),
            "generated" in str(row["extra"]).lower()
            and "default_generated" not in str(row["extra"]).lower(),
        )
        for row in rows
    ]
    indexes = await connector.all(
        "SELECT index_name AS index_name, column_name AS column_name "
        "FROM information_schema.statistics WHERE non_unique = 0 AND table_name = :table "
        "AND table_schema = coalesce(:schema, database())",
        names,
    )
    return columns, _grouped(indexes)


def _grouped(indexes: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for row in indexes:
        found.setdefault(row["index_name"], []).append(row["column_name"])
    return list(found.values())


def _quotes(dialect: str) -> Callable[[str], str]:
    mark = "`" if dialect == "mysql" else '"'
    return lambda name: mark + name.replace(mark, mark * 2) + mark


def _places(rows: int, columns: int, *, brackets: bool = True) -> str:
    lines = []
    for row in range(rows):
        names = ", ".join(f":p{row * columns + column}" for column in range(columns))
        lines.append(f"({names})" if brackets else names)
    return ", ".join(lines)


def _numbered(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    values = [value for row in rows for value in row]
    return {f"p{number}": value for number, value in enumerate(values)}


def _value_of(column: ColumnFacts, dialect: str) -> Callable[[Any], Any]:
    """How a JSON value is bound: tables and lists as JSON text, times as MariaDB reads them."""
    is_time = dialect == "mysql" and column.type in _TIMES

    def write(value: Any) -> Any:
        if isinstance(value, Mapping | list | tuple):
            return json.dumps(value, allow_nan=False, ensure_ascii=False, default=str)
        if is_time and isinstance(value, str):
            return _instant(value)
        return value

    return write


def _instant(text: str) -> Any:
    """RFC 3339 text as UTC without its zone, which a DATETIME has no room for."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
