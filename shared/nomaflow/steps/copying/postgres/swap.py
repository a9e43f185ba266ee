"""Putting a freshly loaded table in the place of one that nothing hangs on."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.steps.copying.naming import qualified, quoted
from nomaflow.steps.copying.postgres import bare, catalog, guard
from nomaflow.steps.copying.postgres.apply import Stash
from nomaflow.steps.copying.postgres.catalog import Table

LOCK_SECONDS = 30.0
"""How long the exclusive lock is asked for before the rows are applied in place instead."""

_SAMPLE = 1000
_MOSTLY_THE_SAME = 0.7


@dataclass(frozen=True, slots=True)
class Twin:
    """A new table like the target, without its indexes, that lives only in this transaction."""

    name: str
    sql: str


async def make_twin(connection: Any, table: Table) -> Twin:
    """Create the twin; its rows may be loaded frozen, being of the creating transaction."""
    name = f"nomaflow_{secrets.token_hex(8)}"
    sql = qualified(table.schema, name)
    await connection.execute(
        f"CREATE TABLE {sql} (LIKE {table.sql} INCLUDING ALL EXCLUDING INDEXES "
        "EXCLUDING IDENTITY EXCLUDING COMMENTS EXCLUDING STATISTICS)"
    )
    return Twin(name, sql)


async def is_mostly_the_same(connection: Any, table: Table, stash: Stash) -> bool:
    """Whether most loaded rows are in the target already, by a sample of about a thousand.

    Then changing the few that differ costs less than a new table.
    """
    key = table.row_key(stash.columns)
    if not key or not stash.rows:
        return False
    share = min(100.0, 100.0 * _SAMPLE / stash.rows)
    same = " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in key)
    row_t, row_s = (
        "ROW(" + ", ".join(f"{side}.{quoted(name)}" for name in stash.columns) + ")::record"
        for side in ("t", "s")
    )
    row = await connection.fetchrow(
        f"SELECT count(*) AS seen, count(*) FILTER (WHERE {row_t} OPERATOR(pg_catalog.*=) {row_s}) "
        f"AS same FROM (SELECT * FROM {stash.sql} TABLESAMPLE SYSTEM ({share:.6f}) LIMIT "
        f"{_SAMPLE}) AS s LEFT JOIN {table.sql} AS t ON {same}"
    )
    return bool(row["seen"]) and row["same"] / row["seen"] >= _MOSTLY_THE_SAME


async def take_place(target: PostgresConnector, table: Table, twin: Twin) -> bool:
    """Build the twin's indexes, then let it take the target's place and name.

    False when the target could not be locked, or something hangs on it by now; nothing has
    changed then. Readers wait for the few statements of the exchange, never for the load.
    """
    connection = await target.raw()
    with target.translated():
        async with connection.transaction():
            names = await _build_indexes(connection, table, twin)
            await connection.execute(f"ANALYZE {twin.sql}")
        seal = await bare.seal(connection, table)
        looked_at = await seal()
        if await _has_changed(connection, table, twin):
            return False
        exchange = [
            f"DROP TABLE {table.sql}",
            f"ALTER TABLE {twin.sql} RENAME TO {quoted(table.name)}",
        ]
        for temporary, name in names.items():
            renamed = qualified(table.schema, temporary)
            exchange.append(f"ALTER INDEX {renamed} RENAME TO {quoted(name)}")
        block = connection.transaction()
        await block.start()
        if (
            await guard.lock(
                target,
                table.sql,
                "ACCESS EXCLUSIVE",
                wait_ms=guard.READERS_WAIT_MS,
                seconds=LOCK_SECONDS,
            )
            and await seal() == looked_at
        ):
            # Readers wait from the lock on: each word to the server counts.
            await connection.execute("; ".join(exchange))
            await block.commit()
            return True
        await block.rollback()  # and with it the lock goes
    return False


async def _build_indexes(connection: Any, table: Table, twin: Twin) -> dict[str, str]:
    """The target's indexes on the twin, under names of their own until the old ones are gone."""
    names: dict[str, str] = {}
    for number, index in enumerate(await bare.indexes(connection, table)):
        temporary = f"{twin.name}_{number}"
        names[temporary] = index["name"]
        unique = "UNIQUE " if index["is_unique"] else ""
        rest = index["definition"].removeprefix(index["head"])
        await connection.execute(f"CREATE {unique}INDEX {quoted(temporary)} ON {twin.sql} {rest}")
        if index["constraint_name"]:
            kind = "PRIMARY KEY" if index["constraint_type"] == "p" else "UNIQUE"
            await connection.execute(
                f"ALTER TABLE {twin.sql} ADD CONSTRAINT {quoted(temporary)} {kind} "
                f"USING INDEX {quoted(temporary)}"
            )
    return names


async def _has_changed(connection: Any, table: Table, twin: Twin) -> bool:
    """Whether the target is no longer the bare table that was looked at."""
    now = await catalog.table(connection, table.schema, table.name)
    if now is None or (now.oid, now.columns) != (table.oid, table.columns):
        return True
    if await bare.reason_to_stay(connection, table) is not None:
        return True
    grants = "SELECT relacl IS NOT NULL FROM pg_catalog.pg_class WHERE oid = to_regclass($1)"
    return bool(await connection.fetchval(grants, twin.sql))
