"""Programs that are alive: each beats its own row; silence is told by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from nomaflow.store.database import Connection, Database

ALIVE_SECONDS = 15
"""A program whose last beat is older than this counts as gone."""
SILENT_SECONDS = 10
"""Three beats are late by then: the program is dead or stands still, and is shown to be so."""


@dataclass(frozen=True, slots=True)
class Program:
    """One running api, scheduler or worker."""

    name: str
    kind: str
    state: str
    started_at: datetime
    seen_at: datetime
    capacity: int
    running: int
    details: Mapping[str, Any]
    is_silent: bool


async def beat(
    connection: Connection | Database,
    name: str,
    kind: str,
    *,
    state: str = "active",
    capacity: int = 0,
    running: int = 0,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Say that this program is alive."""
    await connection.execute(
        """INSERT INTO nomaflow.processes (name, kind, state, capacity, running, details)
           VALUES ($1, $2, $3, $4, $5, $6)
           ON CONFLICT (name) DO UPDATE SET state = $3, seen_at = now(), capacity = $4,
             running = $5, details = $6""",
        name,
        kind,
        state,
        capacity,
        running,
        dict(details or {}),
    )


async def leave(connection: Connection | Database, name: str) -> None:
    """Take the row away: this program ends in good order."""
    await connection.execute("DELETE FROM nomaflow.processes WHERE name = $1", name)


async def alive(connection: Connection | Database, kind: str | None = None) -> Sequence[Program]:
    """Programs that beat lately."""
    rows = await connection.fetch(
        """SELECT name, kind, state, started_at, seen_at, capacity, running, details,
             seen_at < now() - make_interval(secs => $3)
           FROM nomaflow.processes
           WHERE seen_at > now() - make_interval(secs => $1) AND ($2::text IS NULL OR kind = $2)
           ORDER BY kind, started_at""",
        ALIVE_SECONDS,
        kind,
        SILENT_SECONDS,
    )
    return [Program(*row) for row in rows]


async def last_alive(connection: Connection | Database, kind: str) -> Sequence[Program]:
    """Programs that beat lately; when there is none, the one that was the last to fall silent.

    So that somebody who looks hours later still reads that it died, and when.
    """
    found = await alive(connection, kind)
    if found:
        return found
    rows = await connection.fetch(
        """SELECT name, kind, state, started_at, seen_at, capacity, running, details, true
           FROM nomaflow.processes WHERE kind = $1 ORDER BY seen_at DESC LIMIT 1""",
        kind,
    )
    return [Program(*row) for row in rows]


async def sweep(connection: Connection | Database) -> None:
    """Forget programs that have been silent for a day."""
    await connection.execute(
        "DELETE FROM nomaflow.processes WHERE seen_at < now() - interval '1 day'"
    )
