"""What closes clocks: calendars, blackout windows, pauses of one job and of the whole scheduler.

A pause keeps both its ends, so that a due time that fell into it never fires later, even when no
scheduler was there to see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from nomaflow.store.database import Connection, Database


GATE = 7266304
"""Schedulers share this lock while they fire; who closes clocks takes it alone, for a moment, so
that no fire that did not know of it comes after."""
_ALONE = f"SELECT pg_advisory_xact_lock({GATE}) IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackoutRow:
    """A window of instants; `jobs` are shell-style patterns, `connectors` exact names."""

    name: str
    from_at: datetime
    until: datetime
    jobs: Sequence[str] = ()
    connectors: Sequence[str] = ()
    action: str = "skip"
    origin: str = "api"
    by: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SwitchRow:
    """Whether the whole scheduler is paused; from and until when it was, the last time."""

    paused: bool
    paused_from: datetime | None
    paused_until: datetime | None
    by: str
    at: datetime


def blackout_of(row: Mapping[str, Any]) -> BlackoutRow:
    """Return a blackout that came as JSON."""
    times = {key: datetime.fromisoformat(row[key]) for key in ("from_at", "until", "at")}
    return BlackoutRow(**{**row, **times})


def switch_of(row: Mapping[str, Any]) -> SwitchRow:
    """Return the switch that came as JSON."""
    times = {
        key: datetime.fromisoformat(row[key]) if row[key] else None
        for key in ("paused_from", "paused_until", "at")
    }
    return SwitchRow(**{**{k: v for k, v in row.items() if k != "id"}, **times})


# What was postponed is decided again when the windows have changed.
_LOOK_AGAIN = "UPDATE nomaflow.slots SET look_at = now() WHERE outcome = 'postponed'"
_BLACKOUT = "name, from_at, until, jobs, connectors, action, origin, by, at"


async def calendars(connection: Connection | Database) -> dict[str, dict[str, Any]]:
    """Every calendar's definition by name."""
    rows = await connection.fetch("SELECT name, definition FROM nomaflow.calendars ORDER BY name")
    return {row["name"]: row["definition"] for row in rows}


async def blackouts(
    connection: Connection | Database,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[BlackoutRow]:
    """Blackouts that touch the time from `since` up to `until` (None: no bound), in order."""
    rows = await connection.fetch(
        f"""SELECT {_BLACKOUT} FROM nomaflow.blackouts
            WHERE ($1::timestamptz IS NULL OR until > $1)
              AND ($2::timestamptz IS NULL OR from_at < $2)
            ORDER BY from_at, name""",
        since,
        until,
    )
    return [BlackoutRow(**row) for row in rows]


async def blackout(connection: Connection | Database, name: str) -> BlackoutRow | None:
    """The blackout of that name, if there is one."""
    row = await connection.fetchrow(
        f"SELECT {_BLACKOUT} FROM nomaflow.blackouts WHERE name = $1", name
    )
    return BlackoutRow(**row) if row else None


async def set_blackout(connection: Connection | Database, row: BlackoutRow) -> None:
    """Save a blackout under its name, over the one that had it."""
    await connection.execute(
        f"""WITH gate AS MATERIALIZED ({_ALONE} AS alone), again AS ({_LOOK_AGAIN})
           INSERT INTO nomaflow.blackouts
             (name, from_at, until, jobs, connectors, action, origin, by)
           SELECT $1, $2, $3, $4, $5, $6, $7, $8 FROM gate
           ON CONFLICT (name) DO UPDATE SET from_at = $2, until = $3, jobs = $4, connectors = $5,
             action = $6, origin = $7, by = $8, at = now()""",
        row.name,
        row.from_at,
        row.until,
        list(row.jobs),
        list(row.connectors),
        row.action,
        row.origin,
        row.by,
    )


async def delete_blackout(connection: Connection | Database, name: str) -> bool:
    """End a blackout for good; False when there is none of that name."""
    return bool(
        await connection.fetchval(
            f"""WITH again AS ({_LOOK_AGAIN})
               DELETE FROM nomaflow.blackouts WHERE name = $1 RETURNING true""",
            name,
        )
    )


async def replace_files(
    connection: Connection,
    named: Mapping[str, Mapping[str, Any]],
    windows: Sequence[BlackoutRow],
    *,
    kept_calendars: Collection[str] = (),
    kept_blackouts: Collection[str] = (),
) -> None:
    """Make these the calendars and blackouts that files declare; a file wins over the API.

    What is kept is declared and could not be read: it stays as it was.
    """
    await connection.execute(
        """DELETE FROM nomaflow.calendars
           WHERE origin = 'file' AND NOT name = ANY ($1::text[])""",
        [*named, *kept_calendars],
    )
    for name, definition in named.items():
        await connection.execute(
            """INSERT INTO nomaflow.calendars (name, definition, origin) VALUES ($1, $2, 'file')
               ON CONFLICT (name) DO UPDATE SET definition = $2, origin = 'file'
                 WHERE calendars.definition <> $2 OR calendars.origin <> 'file'""",
            name,
            dict(definition),
        )
    before = {row.name: row for row in await blackouts(connection)}
    names = {row.name for row in windows} | set(kept_blackouts)
    gone = [n for n, row in before.items() if row.origin == "file" and n not in names]
    new = [row for row in windows if _facts(before.get(row.name)) != _facts(row)]
    if gone or new:
        await connection.execute(_ALONE)  # before any row is held that a batch may want
    for name in gone:
        await delete_blackout(connection, name)
    for row in new:
        await set_blackout(connection, row)


def _facts(row: BlackoutRow | None) -> tuple[Any, ...] | None:
    if row is None:
        return None
    patterns = tuple(row.jobs), tuple(row.connectors)
    return (row.from_at, row.until, *patterns, row.action, row.origin)


async def scheduler_paused(connection: Connection | Database) -> SwitchRow:
    """How the switch of the whole scheduler stands."""
    row = await connection.fetchrow(
        "SELECT paused, paused_from, paused_until, by, at FROM nomaflow.scheduler_switch"
    )
    assert row is not None  # noqa: S101  the migration wrote it
    return SwitchRow(*row)


async def pause_scheduler(
    connection: Connection | Database,
    paused: bool,  # noqa: FBT001  the switch itself
    by: str,
) -> None:
    """Stop all clocks from firing, or let them fire again from now on; manual runs are free."""
    await connection.execute(
        f"""WITH gate AS MATERIALIZED ({_ALONE} AS alone)
           UPDATE nomaflow.scheduler_switch SET paused = $1, by = $2, at = clock_timestamp(),
             paused_from = CASE WHEN $1 THEN clock_timestamp() ELSE paused_from END,
             paused_until = CASE WHEN $1 THEN NULL ELSE clock_timestamp() END
           WHERE paused <> $1 AND NOT (SELECT alone FROM gate)""",
        paused,
        by,
    )


async def pause_job(
    connection: Connection | Database, name: str, until: datetime | None, by: str
) -> bool:
    """Stop a job's clocks until an instant (None: let them fire again from now on).

    False when no job in force has that name. Due times of the pause are recorded as skipped.
    """
    return bool(
        await connection.fetchval(
            """UPDATE nomaflow.jobs SET updated_by = $3,
                 paused_from = CASE WHEN $2::timestamptz IS NOT NULL
                     AND (paused_until IS NULL OR paused_until <= clock_timestamp())
                   THEN clock_timestamp() ELSE paused_from END,
                 paused_until = coalesce($2, least(paused_until, clock_timestamp()))
               WHERE name = $1 AND deleted_at IS NULL AND NOT shadowed RETURNING true""",
            name,
            until,
            by,
        )
    )
