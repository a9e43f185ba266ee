"""The statements that let a table follow a directory, as each kind of database takes them.

Rows wait in a temporary table, the stash; a second one keeps the keys of entries that are there
although their rows do not fit. In every statement `t` is the target and `s` the stash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from nomaflow.steps.directory.batch import Batch
from nomaflow.steps.directory.packing import packed
from nomaflow.steps.directory.shape import ColumnShape, Shape
from nomaflow.steps.directory.target import EXAMPLES, TableSettings

ENTRY, NUMBER, FITS = "nomaflow_entry", "nomaflow_number", "nomaflow_fits"


class Statements:
    """Statements as PostgreSQL takes them."""

    batch_rows = 5_000
    schema_of_stash = "pg_temp"
    now = "now()"

    def __init__(
        self, shape: Shape, settings: TableSettings, columns: Sequence[str], stash: str
    ) -> None:
        self._shape, self._settings = shape, settings
        self._columns = [shape.columns[name] for name in columns]
        self._names = list(columns)
        self._key = settings.key
        self._stash, self._kept = stash, f"{stash}_kept"

    # What a dialect spells in its own way ----------------------------------------------------

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def create(self) -> list[str]:
        """Make the stash and its neighbour."""
        return [
            (
                f"CREATE TEMPORARY TABLE {self.quoted(self._stash)} AS "
                f"SELECT {self._listed(self._names)} FROM {self._target} WITH NO DATA"
            ),
            (
                f"ALTER TABLE {self._stash_sql} ADD {ENTRY} text, "
                f"ADD {NUMBER} bigint GENERATED ALWAYS AS IDENTITY, "
                f"ADD {FITS} boolean NOT NULL DEFAULT true"
            ),
            (
                f"CREATE TEMPORARY TABLE {self.quoted(self._kept)} AS "
                f"SELECT {self._listed(self._key)} FROM {self._target} WITH NO DATA"
            ),
        ]

    def prepared(self) -> list[str]:
        """Before anything is compared: what the planner wants to know."""
        return [
            f"ANALYZE {name} ({self._listed(self._key)})"
            for name in (self._stash_sql, self._kept_sql)
        ]

    def add(self) -> str:
        """Put a batch (`values`) into the stash."""
        return (
            f"INSERT INTO {self._stash_sql} ({self._listed(self._names)}, {ENTRY}) "
            f"SELECT {self._read(self._columns)}, r.entry "
            f"FROM {self._batch()}"
        )

    def keep(self) -> str:
        """Put the keys of a batch beside the stash."""
        return (
            f"INSERT INTO {self._kept_sql} ({self._listed(self._key)}) "
            f"SELECT {self._read(self._columns, self._key)} "
            f"FROM {self._batch()}"
        )

    def values(self, batch: Batch) -> Mapping[str, Any]:
        """The parameters that hold a batch."""
        return packed([*batch.columns, batch.names])

    def differ(self, pairs: Mapping[str, str], old: str = "t") -> str:
        """Whether a row differs in any bit: json without `=` and 1.0 for 1.00 count."""
        if not pairs:
            return "false"
        before = ", ".join(f"{old}.{self.quoted(name)}" for name in pairs)
        after = ", ".join(pairs.values())
        return f"ROW({before})::record OPERATOR(pg_catalog.*<>) ROW({after})::record"

    def upsert(self, part: str) -> list[tuple[str, str]]:
        """What writes the rows of the stash: each statement with what its row count means."""
        pairs = self._pairs()
        names = list(pairs)
        compared = self._compared()
        action = "DO NOTHING"
        if compared:
            fresh = {name: f"excluded.{self.quoted(name)}" for name in compared}
            updates = ", ".join(f"{self.quoted(name)} = {new}" for name, new in fresh.items())
            action = f"DO UPDATE SET {updates} WHERE {self.differ(fresh)}"
        # In the key's order, so that two writers meet their rows in one order: no deadlock.
        return [
            (
                (
                    f"WITH written AS (INSERT INTO {self._target} AS t ({self._listed(names)}) "
                    f"OVERRIDING SYSTEM VALUE SELECT {', '.join(pairs.values())} "
                    f"FROM {self._stash_sql} AS s WHERE {FITS} {part} "
                    f"ORDER BY {self._listed(self._key, 's.')} "
                    f"ON CONFLICT ({self._listed(self._key)}) {action} "
                    "RETURNING xmax = 0 AS is_new) "
                    "SELECT count(*) FILTER (WHERE is_new) AS inserted, "
                    "count(*) FILTER (WHERE NOT is_new) AS updated FROM written"
                ),
                "both",
            )
        ]

    def lock(self) -> str | None:
        """Let one sync after the other change this table, which is `:name`."""
        return "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"

    def unlock(self) -> str | None:
        """After the transaction, where the lock does not end with it."""
        return None

    def lock_name(self) -> str:
        """A name that each database takes: MySQL allows 64 characters."""
        words = f"ldap_sync {self._shape.shown}".encode()
        return f"nomaflow {hashlib.blake2b(words, digest_size=16).hexdigest()}"

    # What all spell alike --------------------------------------------------------------------

    def drop(self) -> list[str]:
        return [f"DROP TABLE IF EXISTS {name}" for name in (self._stash_sql, self._kept_sql)]

    def twice(self) -> str:
        """A key that several entries have."""
        return (
            f"SELECT {self._listed(self._key)} FROM {self._stash_sql} WHERE {FITS} "
            f"GROUP BY {self._listed(self._key)} HAVING count(*) > 1 LIMIT 1"
        )

    def entries_of(self) -> str:
        """The entries of one key, given as `k0`, `k1` ..."""
        same = " AND ".join(f"{self.quoted(name)} = :k{at}" for at, name in enumerate(self._key))
        return f"SELECT {ENTRY} AS entry FROM {self._stash_sql} WHERE {FITS} AND {same} LIMIT 3"

    def rows(self) -> str:
        return f"SELECT count(*) FROM {self._stash_sql} WHERE {FITS}"

    def span(self) -> str:
        return f"SELECT min({NUMBER}) AS first, max({NUMBER}) AS last FROM {self._stash_sql}"

    def between(self, first: int, last: int) -> str:
        """The part of a statement that keeps to some rows of the stash."""
        return f"AND {NUMBER} BETWEEN {first} AND {last}"

    def leave_out(self) -> str:
        return f"UPDATE {self._stash_sql} SET {FITS} = false WHERE {NUMBER} = :number"

    def entry_of(self) -> str:
        return f"SELECT {ENTRY} FROM {self._stash_sql} WHERE {NUMBER} = :number AND {FITS}"

    def comparison(self) -> str:
        """How many rows of the stash are new, how many differ, how many are there."""
        there = f"t.{self.quoted(self._key[0])} IS NOT NULL"
        new, changed = (
            self._one_if(f"NOT ({there})"),
            self._one_if(f"{there} AND {self.differ(self._compared())}"),
        )
        return (
            f"SELECT COALESCE(sum({new}), 0) AS inserted, COALESCE(sum({changed}), 0) AS updated, "
            f"COALESCE(sum({self._one_if(there)}), 0) AS there FROM {self._stash_sql} AS s "
            f"LEFT JOIN {self._target} AS t ON {self._same_key()} WHERE s.{FITS}"
        )

    def gone(self) -> str:
        """How many rows the directory no longer has, and how many count as present."""
        # Apart, so that the rows that are gone are found by a join and not one by one.
        present = f"SELECT count(*) FROM {self._target} AS t WHERE {self._is_present()}"
        return f"SELECT ({present} AND {self._is_gone()}) AS gone, ({present}) AS total"

    def deletion(self) -> str:
        where = f"WHERE {self._is_present()} AND {self._is_gone()}"
        if self._settings.deletion == "soft":
            flag = self.quoted(self._settings.deletion_column or "")
            return f"UPDATE {self._target} AS t SET {flag} = {self._flag()[0]} {where}"
        return self._delete(where)

    def examples(self) -> dict[str, str]:
        """What finds a few keys of each kind of change."""
        key, end = self._key, f"ORDER BY 1 LIMIT {EXAMPLES}"
        same, stash = self._same_key(), f"{self._stash_sql} AS s"
        found = {
            "insert": f"SELECT {self._listed(key, 's.')} FROM {stash} WHERE s.{FITS} AND NOT "
            f"EXISTS (SELECT 1 FROM {self._target} AS t WHERE {same}) {end}"
        }
        if compared := self._compared():
            found["update"] = (
                f"SELECT {self._listed(key, 's.')} FROM {stash} JOIN {self._target} AS t "
                f"ON {same} WHERE s.{FITS} AND {self.differ(compared)} {end}"
            )
        if self._settings.deletion != "none":
            found["delete"] = (
                f"SELECT {self._listed(key, 't.')} FROM {self._target} AS t "
                f"WHERE {self._is_present()} AND {self._is_gone()} {end}"
            )
        return found

    @property
    def _target(self) -> str:
        return f"{self.quoted(self._shape.schema)}.{self.quoted(self._shape.table)}"

    @property
    def _stash_sql(self) -> str:
        return self._temporary(self._stash)

    @property
    def _kept_sql(self) -> str:
        return self._temporary(self._kept)

    def _temporary(self, name: str) -> str:
        return f"{self.schema_of_stash}.{self.quoted(name)}"

    def _listed(self, names: Sequence[str], prefix: str = "") -> str:
        return ", ".join(prefix + self.quoted(name) for name in names)

    def _numbered(self) -> str:
        return ", ".join(f"c{at}" for at in range(len(self._names)))

    def _batch(self) -> str:
        """The rows of a batch, see `packing`."""
        arrays = ", ".join(
            f"(string_to_array(:c{at}::text, :apart::text, :nothing::text))[2:]"
            for at in range(len(self._names) + 1)
        )
        return f"unnest({arrays}) AS r({self._numbered()}, entry)"

    def _read(self, columns: Sequence[ColumnShape], only: Sequence[str] | None = None) -> str:
        """Each text of a batch as its column's type."""
        wanted = self._names if only is None else only
        places = {column.name: at for at, column in enumerate(columns)}
        return ", ".join(self._cast(f"r.c{places[name]}", columns[places[name]]) for name in wanted)

    def _cast(self, text: str, column: ColumnShape) -> str:
        return f"{text}::{column.type}"

    def _delete(self, where: str) -> str:
        return f"DELETE FROM {self._target} AS t {where}"

    def _one_if(self, condition: str) -> str:
        return f"CASE WHEN {condition} THEN 1 ELSE 0 END"

    def _pairs(self) -> dict[str, str]:
        """The columns that are written, and what is written into each."""
        pairs = {name: f"s.{self.quoted(name)}" for name in self._names}
        if self._settings.deletion_column is not None:
            pairs[self._settings.deletion_column] = self._flag()[1]
        return pairs

    def _compared(self) -> dict[str, str]:
        return {name: new for name, new in self._pairs().items() if name not in self._key}

    def _flag(self) -> tuple[str, str]:
        """What the deletion column holds for a row that is gone, and for one that is there."""
        column = self._shape.columns[self._settings.deletion_column or ""]
        gone = bool(self._settings.deletion_value)
        match column.flag:
            case "time":
                return self.now, self._cast("NULL", column)
            case "truth":
                return str(gone).lower(), str(not gone).lower()
            case _:
                return self._cast(str(int(gone)), column), self._cast(str(int(not gone)), column)

    def _is_present(self) -> str:
        """Whether a row counts as one that the directory had."""
        if self._settings.deletion != "soft":
            return "1 = 1"
        flag = f"t.{self.quoted(self._settings.deletion_column or '')}"
        gone = self._flag()[0]
        return f"{flag} IS NULL" if gone == self.now else f"({flag} IS NULL OR {flag} <> {gone})"

    def _is_gone(self) -> str:
        keyed = " AND ".join(f"t.{self.quoted(name)} IS NOT NULL" for name in self._key)
        missing = " AND ".join(
            f"NOT EXISTS (SELECT 1 FROM {name} AS s WHERE {self._same_key()})"
            for name in (self._stash_sql, self._kept_sql)
        )
        return f"{keyed} AND {missing}"

    def _same_key(self) -> str:
        return " AND ".join(f"t.{self.quoted(n)} = s.{self.quoted(n)}" for n in self._key)
