"""Slots as lists show them: what became of each due time, over all schedules, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow.store import keyset
from nomaflow.store.keyset import Page, Where, Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class SlotRow:
    """One due time; with `until` it is the first of `count` that went the same way."""

    due_at: datetime
    schedule_id: UUID
    job_name: str
    schedule_name: str
    timezone: str
    outcome: str
    reason: str | None
    run_id: UUID | None
    until: datetime | None
    count: int
    at: datetime
    look_at: datetime | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotFilter:
    """Due times from `since` to before `until`; None does not narrow."""

    since: datetime
    until: datetime
    jobs: Sequence[str] | None = None
    outcomes: Sequence[str] | None = None


async def page(db: Connection | Database, wanted: SlotFilter, window: Window) -> Page[SlotRow]:
    """Read one page in the order of due times.

    Each schedule gives its own next few by the primary key, so that the ledger needs no second
    index and a page costs what there are schedules, however long history is.
    """
    begin = window.after[0] if window.after is not None else wanted.since
    where = Where()
    values = (max(begin, wanted.since), wanted.until, wanted.since)
    where.add("{}::timestamptz < {}::timestamptz AND {}::timestamptz IS NOT NULL", *values)
    if wanted.jobs is not None:
        where.add("j.name = ANY ({}::text[])", list(wanted.jobs))
    outcomes = "true"
    if wanted.outcomes is not None:
        where.add("{}::text[] IS NOT NULL", list(wanted.outcomes))
        outcomes = f"outcome = ANY (${len(where.values)}::text[])"
    tail = keyset.narrow(
        where, window, {"t.due_at": "timestamptz", "t.schedule_id": "uuid"}, descending=False
    )
    rows = await db.fetch(
        f"""SELECT t.due_at, t.schedule_id, j.name, s.name, s.timezone, t.outcome, t.reason,
              t.run_id, t.until, t.count, t.at, t.look_at, t.deadline
            FROM nomaflow.schedules s JOIN nomaflow.jobs j ON j.id = s.job_id
            CROSS JOIN LATERAL (
              (SELECT * FROM nomaflow.slots WHERE schedule_id = s.id AND due_at >= $1
                 AND due_at < $2 AND {outcomes} ORDER BY due_at LIMIT {window.size + 2})
              UNION ALL
              (SELECT * FROM (SELECT * FROM nomaflow.slots WHERE schedule_id = s.id
                 AND due_at < $3 ORDER BY due_at DESC LIMIT 1) AS gap
               WHERE until >= $3 AND {outcomes})) AS t
            WHERE {where.sql} {tail}""",
        *where.values,
    )
    return keyset.page([SlotRow(*row) for row in rows], window)


@dataclass(frozen=True, slots=True)
class Overdue:
    """A clock whose due time is past and has no row yet."""

    cron: str | None
    every_seconds: float | None
    timezone: str
    next_fire_at: datetime


async def overdue(db: Connection | Database, seconds: float, limit: int) -> list[Overdue]:
    """Read clocks that should have been looked at so many seconds ago."""
    rows = await db.fetch(
        """SELECT cron, every_seconds, timezone, next_fire_at FROM nomaflow.schedules
           WHERE look_at < clock_timestamp() - make_interval(secs => $1)
           ORDER BY look_at LIMIT $2""",
        seconds,
        limit,
    )
    return [Overdue(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Ticking:
    """When any clock fired last, and when one is looked at next."""

    last_fire_at: datetime | None
    next_look_at: datetime | None


async def ticking(db: Connection | Database) -> Ticking:
    """Read how far the clocks are."""
    row = await db.fetchrow(
        """SELECT (SELECT max(last_fire_at) FROM nomaflow.schedules),
             (SELECT min(look_at) FROM nomaflow.schedules WHERE look_at IS NOT NULL)"""
    )
    return Ticking(*row) if row else Ticking(None, None)
