"""The same statements as MariaDB, MySQL and SQLite take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nomaflow.steps.directory.batch import Batch
from nomaflow.steps.directory.shape import ColumnShape
from nomaflow.steps.directory.statements import ENTRY, FITS, NUMBER, Statements
from nomaflow.steps.directory.values import Kind


class _InTwo(Statements):
    """Databases whose upsert cannot be told to look at one key, or does not say what it did."""

    batch_rows = 1_000

    def values(self, batch: Batch) -> Mapping[str, Any]:
        rows = [[*values, name] for name, values in batch.rows()]
        return {"rows": json.dumps(rows, ensure_ascii=False)}

    def prepared(self) -> list[str]:
        return []

    def add(self) -> str:
        return (
            f"INSERT INTO {self._stash_sql} ({self._listed(self._names)}, {ENTRY}) "
            f"SELECT {self._read(self._columns)}, r.entry FROM {self._table()}"
        )

    def keep(self) -> str:
        return (
            f"INSERT INTO {self._kept_sql} ({self._listed(self._key)}) "
            f"SELECT {self._read(self._columns, self._key)} FROM {self._table()}"
        )

    def upsert(self, part: str) -> list[tuple[str, str]]:
        pairs = self._pairs()
        new = (
            f"INSERT INTO {self._target} ({self._listed(list(pairs))}) "
            f"SELECT {', '.join(pairs.values())} FROM {self._stash_sql} AS s WHERE s.{FITS} {part} "
            f"AND NOT EXISTS (SELECT 1 FROM {self._target} AS t WHERE {self._same_key()})"
        )
        changed = [(self._update(part), "updated")] if self._compared() else []
        return [*changed, (new, "inserted")]

    def _table(self) -> str:
        """The rows of a batch as a table, a column for each value and one for the entry's name."""
        raise NotImplementedError

    def _update(self, part: str) -> str:
        raise NotImplementedError

    def _cast(self, text: str, column: ColumnShape) -> str:
        return self._bytes(text) if column.kind is Kind.BYTES else text

    def _bytes(self, text: str) -> str:
        raise NotImplementedError


class MysqlStatements(_InTwo):
    """Statements as MariaDB 10.6 and MySQL 8 take them."""

    def quoted(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def create(self) -> list[str]:
        own = (
            f"{NUMBER} BIGINT AUTO_INCREMENT PRIMARY KEY, {ENTRY} LONGTEXT, "
            f"{FITS} TINYINT NOT NULL DEFAULT 1"
        )
        return [
            (
                f"CREATE TEMPORARY TABLE {self._stash_sql} ({own}, "
                f"INDEX ({self._listed(self._key)})) "
                f"AS SELECT {self._listed(self._names)} FROM {self._target} LIMIT 0"
            ),
            (
                f"CREATE TEMPORARY TABLE {self._kept_sql} (INDEX ({self._listed(self._key)})) "
                f"AS SELECT {self._listed(self._key)} FROM {self._target} LIMIT 0"
            ),
        ]

    def lock(self) -> str | None:
        return "SELECT GET_LOCK(:name, 3600)"

    def unlock(self) -> str | None:
        return "SELECT RELEASE_LOCK(:name)"

    def differ(self, pairs: Mapping[str, str], old: str = "t") -> str:
        if not pairs:
            return "false"
        # Bit by bit: by most collations Bob equals bob and bób.
        return (
            "NOT ("
            + " AND ".join(
                f"CAST({old}.{self.quoted(name)} AS BINARY) <=> CAST({new} AS BINARY)"
                for name, new in pairs.items()
            )
            + ")"
        )

    def _table(self) -> str:
        texts = ", ".join(f"c{at} LONGTEXT PATH '$[{at}]'" for at in range(len(self._names)))
        entry = f"entry LONGTEXT PATH '$[{len(self._names)}]'"
        return f"JSON_TABLE(:rows, '$[*]' COLUMNS ({texts}, {entry})) AS r"

    def _update(self, part: str) -> str:
        compared = self._compared()
        updates = ", ".join(f"t.{self.quoted(name)} = {new}" for name, new in compared.items())
        return (
            f"UPDATE {self._target} AS t JOIN {self._stash_sql} AS s ON {self._same_key()} "
            f"SET {updates} WHERE s.{FITS} {part} AND {self.differ(compared)}"
        )

    def _delete(self, where: str) -> str:
        return f"DELETE t FROM {self._target} AS t {where}"

    def _temporary(self, name: str) -> str:
        return self.quoted(name)

    def _bytes(self, text: str) -> str:
        return f"UNHEX(SUBSTR({text}, 3))"


class SqliteStatements(_InTwo):
    """Statements as SQLite 3.38 takes them."""

    schema_of_stash = "temp"
    now = "CURRENT_TIMESTAMP"

    def lock(self) -> str | None:
        return None  # a file has one writer

    def create(self) -> list[str]:
        made = f"FROM {self._target} LIMIT 0"
        return [
            (
                f"CREATE TEMPORARY TABLE {self.quoted(self._stash)} AS "
                f"SELECT {self._listed(self._names)}, '' AS {ENTRY} {made}"
            ),
            f"ALTER TABLE {self._stash_sql} ADD COLUMN {FITS} INT NOT NULL DEFAULT 1",
            (
                f"CREATE TEMPORARY TABLE {self.quoted(self._kept)} AS "
                f"SELECT {self._listed(self._key)} {made}"
            ),
            (
                f"CREATE INDEX temp.{self.quoted(self._stash + '_key')} "
                f"ON {self.quoted(self._stash)} ({self._listed(self._key)})"
            ),
        ]

    def differ(self, pairs: Mapping[str, str], old: str = "t") -> str:
        if not pairs:
            return "false"
        return (
            "("
            + " OR ".join(f"{old}.{self.quoted(name)} IS NOT {new}" for name, new in pairs.items())
            + ")"
        )

    def span(self) -> str:
        return super().span().replace(NUMBER, "rowid")

    def between(self, first: int, last: int) -> str:
        return f"AND s.rowid BETWEEN {first} AND {last}"

    def leave_out(self) -> str:
        return super().leave_out().replace(NUMBER, "rowid")

    def entry_of(self) -> str:
        return super().entry_of().replace(NUMBER, "rowid")

    def _table(self) -> str:
        texts = ", ".join(f"value ->> {at} AS c{at}" for at in range(len(self._names)))
        return f"(SELECT {texts}, value ->> {len(self._names)} AS entry FROM json_each(:rows)) AS r"

    def _update(self, part: str) -> str:
        compared = self._compared()
        updates = ", ".join(f"{self.quoted(name)} = {new}" for name, new in compared.items())
        return (
            f"UPDATE {self._target} AS t SET {updates} FROM {self._stash_sql} AS s "
            f"WHERE {self._same_key()} AND s.{FITS} {part} AND {self.differ(compared)}"
        )

    def _bytes(self, text: str) -> str:
        return f"nomaflow_unhex({text})"
