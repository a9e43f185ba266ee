"""A dry run of a copy into PostgreSQL: the path it would take, and which rows would change."""

from __future__ import annotations

from nomaflow.steps.copying.naming import listed, quoted
from nomaflow.steps.copying.orders import Changes, Mode, Plan
from nomaflow.steps.copying.origins.base import Origin
from nomaflow.steps.copying.postgres import modes, reading, stashes
from nomaflow.steps.copying.postgres.catalog import Table
from nomaflow.steps.copying.postgres.modes import Work

_WHY = {
    "one server": "source and target are one database, the rows never leave the server",
    "max_delete": "max_delete counts what would vanish before anything does",
    "server": "the server is older than PostgreSQL 15",
    "kind": "the target is partitioned, inherited, unlogged or typed",
    "owner": "the target belongs to another role",
}


async def plan(mode: Mode, work: Work, table: Table | None, origin: Origin | None) -> Plan:
    """Count both sides, choose the path, compare the keys; nothing is written that stays."""
    load = work.load
    rows = await origin.count() if origin else await reading.count(load.origin, load.reading)
    if table is None:
        return Plan(work.shown, "created", "the target is not there yet", rows, 0, is_new=True)
    before = await reading.rows_of(load.target, table)
    path, why = await _path(mode, work, table)
    changes = await _changes(mode, work, table)
    return Plan(work.shown, path, why, rows, before, changes)


async def _path(mode: Mode, work: Work, table: Table) -> tuple[str, str]:
    load = work.load
    streams = await load.streams_for(stashed=mode != "append")
    beside = f" in {streams} streams" if streams > 1 else ""
    match mode:
        case "append":
            return "append", f"COPY{beside} straight into the target"
        case "upsert":
            return "upsert", f"COPY{beside} into a stash, then one INSERT ON CONFLICT"
    reason = await modes.reason_to_stay(work, table)
    if reason is None:
        return "renamed", (
            "nothing hangs on the target; where most rows are the same it is changed in place "
            "after all"
        )
    words = _WHY.get(reason, f"a new table would lose {reason} of the target")
    return "in_place", f"{words}; COPY{beside} into a stash, then one MERGE"


async def _changes(mode: Mode, work: Work, table: Table) -> Changes | None:
    """What the keys of both sides tell; the keys alone travel, into a table of this session."""
    if mode == "append":
        return None
    key = table.row_key(work.load.names) if mode == "overwrite" else table.primary_key
    if not key:
        return None
    load = work.load.only(key)
    async with stashes.own(load, table) as (stash, _):
        connection = await load.target.raw()
        same = " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in key)
        with load.target.translated():
            await connection.execute(f"ANALYZE {stash.sql} ({listed(key)})")
            row = await connection.fetchrow(
                f"""
                SELECT (SELECT count(*) FROM {stash.sql} AS s
                        WHERE NOT EXISTS (SELECT FROM {table.sql} AS t WHERE {same})) AS inserted,
                       (SELECT count(*) FROM {stash.sql} AS s
                        WHERE EXISTS (SELECT FROM {table.sql} AS t WHERE {same})) AS updated,
                       (SELECT count(*) FROM {table.sql} AS t
                        WHERE NOT EXISTS (SELECT FROM {stash.sql} AS s WHERE {same})) AS deleted
                """
            )
    deleted = row["deleted"] if mode == "overwrite" else 0
    return Changes(row["inserted"], row["updated"], deleted)
