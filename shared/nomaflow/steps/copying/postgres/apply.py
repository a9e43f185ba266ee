"""Making a loaded stash the target's content in place: readers see all of it or nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.naming import listed, quoted
from nomaflow.steps.copying.orders import Changes
from nomaflow.steps.copying.postgres.catalog import Table

_MERGE_DELETES = 17  # MERGE ... WHEN NOT MATCHED BY SOURCE came with PostgreSQL 17
# Equal keys of these types are equal to the last bit; of others (citext, numeric) the target
# takes over the source's spelling.
_ONE_SPELLING = frozenset(
    {"bool", "int2", "int4", "int8", "oid", "uuid", "date", "timestamp", "timestamptz"}
    | {"text", "varchar", "bytea"}
)
_TEXTS = frozenset({"text", "varchar"})
_WORK_MEMORY_KB = 65_536
"""For the join of both tables where the server's own measure is smaller: it uses files else."""


@dataclass(frozen=True, slots=True)
class Stash:
    """The loaded rows: a table (quoted already) with the copied columns, and how many there are."""

    sql: str
    columns: tuple[str, ...]
    rows: int


async def replace_content(target: PostgresConnector, table: Table, stash: Stash) -> Changes:
    """Let the target hold exactly the stash's rows, changing only rows that differ.

    A value that rotates between rows of a unique column makes a row-by-row update fail; the rows
    that differ are then deleted first and inserted afterwards.
    """
    connection = await target.raw()
    key = table.row_key(stash.columns)
    with target.translated():
        if not key:
            return await _reload(connection, table, stash)
        await connection.execute(
            "SELECT pg_catalog.set_config('work_mem', "
            f"greatest(setting::bigint, {_WORK_MEMORY_KB}) || 'kB', true) "
            "FROM pg_catalog.pg_settings WHERE name = 'work_mem'"
        )
        try:
            async with connection.transaction():
                if connection.get_server_version().major >= _MERGE_DELETES and not table.has_rules:
                    return await _merge(connection, table, stash, key)
                return await _delete_and_upsert(connection, table, stash, key)
        except (
            asyncpg.exceptions.UniqueViolationError,
            asyncpg.exceptions.ExclusionViolationError,
            asyncpg.exceptions.GeneratedAlwaysError,
        ):
            return await _delete_and_insert(connection, table, stash, key)


async def upsert(target: PostgresConnector, table: Table, stash: Stash) -> Changes:
    """Insert the stash's rows, or update those whose primary key is there; equal rows stay as is.

    StepError when the stash holds one key twice.
    """
    connection = await target.raw()
    key = table.primary_key
    try:
        with target.translated():
            async with connection.transaction():
                return await _upsert(connection, table, stash, key)
    except StepError as error:
        if isinstance(error.__cause__, asyncpg.exceptions.CardinalityViolationError):
            with target.translated():
                twice = await connection.fetchrow(
                    f"SELECT {listed(key)} FROM {stash.sql} "
                    f"GROUP BY {listed(key)} HAVING count(*) > 1 LIMIT 1"
                )
            shown = ", ".join(f"{name} = {twice[name]}" for name in key) if twice else "a key"
            raise StepError(
                f"the source holds the primary key of {table.shown} more than once: {shown}"
            ) from None
        raise


async def _merge(connection: Any, table: Table, stash: Stash, key: tuple[str, ...]) -> Changes:
    update = ""
    if assigned := _assignments(table, stash, key, "s"):
        update = f"WHEN MATCHED AND {_differs(table, stash, key)} THEN UPDATE SET {assigned}"
    statement = f"""
        MERGE INTO {table.sql} AS t USING {stash.sql} AS s ON {_same_key(key)}
        {update}
        WHEN NOT MATCHED BY SOURCE THEN DELETE
        WHEN NOT MATCHED THEN INSERT ({listed(stash.columns)}) OVERRIDING SYSTEM VALUE
            VALUES ({listed(stash.columns, "s.")})
    """
    if (before := await tally(connection, table)) is not None:
        await connection.execute(statement)
        return _between(before, await tally(connection, table))
    row = await connection.fetchrow(
        f"""
        WITH moved AS ({statement} RETURNING merge_action() AS action)
        SELECT count(*) FILTER (WHERE action = 'INSERT') AS inserted,
               count(*) FILTER (WHERE action = 'UPDATE') AS updated,
               count(*) FILTER (WHERE action = 'DELETE') AS deleted
        FROM moved
        """
    )
    return Changes(**dict(row))


async def tally(connection: Any, table: Table) -> Changes | None:
    """What this transaction has done to a table so far, as the server itself counts it.

    Asking each changed row for its fate costs a third of the whole statement. None where the
    server does not count, or counts the parts of a table for themselves.
    """
    if table.kind != "r":
        return None
    row = await connection.fetchrow(
        """
        SELECT pg_catalog.pg_stat_get_xact_tuples_inserted($1::oid) AS inserted,
               pg_catalog.pg_stat_get_xact_tuples_updated($1::oid) AS updated,
               pg_catalog.pg_stat_get_xact_tuples_deleted($1::oid) AS deleted
        WHERE pg_catalog.current_setting('track_counts')::boolean
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger
                          WHERE tgrelid = $1::oid AND NOT tgisinternal)
        """,
        table.oid,
    )
    return None if row is None else Changes(**dict(row))


def _between(before: Changes, after: Changes | None) -> Changes:
    after = after or before
    return Changes(
        after.inserted - before.inserted,
        after.updated - before.updated,
        after.deleted - before.deleted,
    )


async def _delete_and_upsert(
    connection: Any, table: Table, stash: Stash, key: tuple[str, ...]
) -> Changes:
    deleted = await connection.execute(
        f"DELETE FROM {table.sql} AS t "
        f"WHERE NOT EXISTS (SELECT FROM {stash.sql} AS s WHERE {_same_key(key)})"
    )
    written = await _upsert(connection, table, stash, key)
    return Changes(written.inserted, written.updated, _count(deleted))


async def _upsert(connection: Any, table: Table, stash: Stash, key: tuple[str, ...]) -> Changes:
    assigned = _assignments(table, stash, key, "excluded")
    action = "DO NOTHING"
    if assigned:
        differs = _differs(table, stash, key, "excluded")
        action = f"DO UPDATE SET {assigned} WHERE {differs}"
    # In the key's order, so that two writers meet their rows in one order and cannot deadlock.
    statement = f"""
        INSERT INTO {table.sql} AS t ({listed(stash.columns)}) OVERRIDING SYSTEM VALUE
        SELECT {listed(stash.columns)} FROM {stash.sql} ORDER BY {listed(key)}
        ON CONFLICT ({listed(key)}) {action}
    """
    if (before := await tally(connection, table)) is not None:
        await connection.execute(statement)
        return _between(before, await tally(connection, table))
    row = await connection.fetchrow(
        f"""
        WITH written AS ({statement} RETURNING xmax = 0 AS is_new)
        SELECT count(*) FILTER (WHERE is_new) AS inserted,
               count(*) FILTER (WHERE NOT is_new) AS updated
        FROM written
        """
    )
    return Changes(row["inserted"], row["updated"])


async def _delete_and_insert(
    connection: Any, table: Table, stash: Stash, key: tuple[str, ...]
) -> Changes:
    vanished = await connection.fetchval(
        f"SELECT count(*) FROM {table.sql} AS t "
        f"WHERE NOT EXISTS (SELECT FROM {stash.sql} AS s WHERE {_same_key(key)})"
    )
    removed = await connection.execute(
        f"DELETE FROM {table.sql} AS t WHERE NOT EXISTS (SELECT FROM {stash.sql} AS s "
        f"WHERE {_same_key(key)} AND NOT {_differs(table, stash, key)})"
    )
    inserted = await connection.execute(
        f"INSERT INTO {table.sql} ({listed(stash.columns)}) OVERRIDING SYSTEM VALUE "
        f"SELECT {listed(stash.columns, 's.')} FROM {stash.sql} AS s "
        f"WHERE NOT EXISTS (SELECT FROM {table.sql} AS t WHERE {_same_key(key)})"
    )
    updated = _count(removed) - vanished
    return Changes(_count(inserted) - updated, updated, vanished)


async def _reload(connection: Any, table: Table, stash: Stash) -> Changes:
    """No column names a row: every row goes and every row comes, in one transaction."""
    deleted = await connection.execute(f"DELETE FROM {table.sql}")
    inserted = await connection.execute(
        f"INSERT INTO {table.sql} ({listed(stash.columns)}) OVERRIDING SYSTEM VALUE "
        f"SELECT {listed(stash.columns)} FROM {stash.sql}"
    )
    return Changes(_count(inserted), 0, _count(deleted))


def _same_key(key: tuple[str, ...]) -> str:
    return " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in key)


def _differs(table: Table, stash: Stash, key: Sequence[str], new: str = "s") -> str:
    """Whether a row differs in any bit: 1.0 and 1.00, or json without `=`, count as different.

    Rows of one key. To make records of both and compare these costs three times what it costs to
    compare the columns whose equality means just that, so that only the others go that way.
    """
    plain, spelled = [], []
    for name in stash.columns:
        if not _has_one_spelling(table, name):
            spelled.append(name)
        elif name not in key:
            plain.append(name)
    found = []
    if plain:
        before, after = (_listed_bare(table, plain, f"{side}.") for side in ("t", new))
        found.append(f"({before}) IS DISTINCT FROM ({after})")
    if spelled:
        before, after = (f"ROW({listed(spelled, f'{side}.')})::record" for side in ("t", new))
        found.append(f"{before} OPERATOR(pg_catalog.*<>) {after}")
    return f"({' OR '.join(found or ['false'])})"


def _has_one_spelling(table: Table, name: str) -> bool:
    column = table.column(name)
    return column is not None and column.is_builtin and column.type_name in _ONE_SPELLING


def _listed_bare(table: Table, names: Sequence[str], prefix: str) -> str:
    """Columns, texts to be compared letter by letter whatever their collation takes for equal."""
    columns = ((quoted(name), table.column(name)) for name in names)
    return ", ".join(
        f'{prefix}{name} COLLATE "C"'
        if column is not None and column.type_name in _TEXTS
        else prefix + name
        for name, column in columns
    )


def _assignments(table: Table, stash: Stash, key: tuple[str, ...], new: str) -> str:
    return ", ".join(
        f"{quoted(name)} = {new}.{quoted(name)}"
        for name in stash.columns
        if not (name in key and _has_one_spelling(table, name))
    )


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
