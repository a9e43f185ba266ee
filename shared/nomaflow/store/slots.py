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

    from nomaflow.store.database import Connection, Database, Record


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


OUTCOMES = ("fired", "caught_up", "skipped", "missed", "waiting", "postponed")

_ROW = (
    "t.due_at, t.schedule_id, j.name, s.name, s.timezone, t.outcome, t.reason, "
    "t.run_id, t.until, t.count, t.at, t.look_at, t.deadline"
)
_KEYS = {"due_at": "timestamptz", "schedule_id": "uuid"}


async def page(db: Connection | Database, wanted: SlotFilter, window: Window) -> Page[SlotRow]:
    """Read one page in the order of due times; a row that reaches into the window is part of it.

    Of all schedules a page costs what is on it, however many there are and however long history
    is, and besides what rows of many reach into the window; of some jobs it costs what these jobs
    have of schedules.
    """
    rows = await (_of_all if wanted.jobs is None else _of_jobs)(db, wanted, window)
    return keyset.page([SlotRow(*row) for row in rows], window)


async def _of_all(
    db: Connection | Database, wanted: SlotFilter, window: Window
) -> Sequence[Record]:
    """Each outcome gives its own next few in order by an index, and so do rows of many."""
    where = Where()
    where.add("{}::timestamptz < {}::timestamptz", wanted.since, wanted.until)
    tail = keyset.narrow(where, window, _KEYS, descending=False)
    outcomes = tuple(wanted.outcomes or OUTCOMES)
    where.add("{}::text[] IS NOT NULL", list(outcomes))
    # Beside a position, which is an exact place in the index, an end of the window would be where
    # the reading begins: all that lies between them would be read and thrown away.
    inside = window.after is not None and window.after[0] >= wanted.since
    ends = [] if inside else ["due_at >= $1"]
    if window.before is None or window.before[0] >= wanted.until:
        ends.append("due_at < $2")
    parts = [
        f"""(SELECT * FROM nomaflow.slots WHERE outcome = '{outcome}'
             AND {" AND ".join((*ends, where.sql))} {tail})"""
        for outcome in OUTCOMES
        if outcome in outcomes
    ]
    if not inside:
        parts.append(
            f"""(SELECT * FROM nomaflow.slots
                 WHERE until IS NOT NULL AND tstzrange(due_at, until, '[]') @> $1::timestamptz
                 AND due_at < $1 AND outcome = ANY (${len(where.values)}::text[])
                 AND {where.sql} {tail})"""
        )
    return await db.fetch(
        f"""SELECT {_ROW} FROM (SELECT * FROM ({" UNION ALL ".join(parts)}) AS parts {tail}) AS t
            JOIN nomaflow.schedules s ON s.id = t.schedule_id
            JOIN nomaflow.jobs j ON j.id = s.job_id
            {tail}""",
        *where.values,
    )


async def _of_jobs(
    db: Connection | Database, wanted: SlotFilter, window: Window
) -> Sequence[Record]:
    """Each schedule gives its own next few by the primary key."""
    begin = window.after[0] if window.after is not None else wanted.since
    end = min(window.before[0], wanted.until) if window.before is not None else wanted.until
    where = Where()
    values = (max(begin, wanted.since), wanted.until, wanted.since)
    where.add("{}::timestamptz < {}::timestamptz AND {}::timestamptz IS NOT NULL", *values)
    where.add("j.name = ANY ({}::text[])", list(wanted.jobs or ()))
    outcomes = "true"
    if wanted.outcomes is not None:
        where.add("{}::text[] IS NOT NULL", list(wanted.outcomes))
        outcomes = f"outcome = ANY (${len(where.values)}::text[])"
    where.add("{}::timestamptz IS NOT NULL", end)
    last, direction = len(where.values), "DESC" if window.backwards else "ASC"
    tail = keyset.narrow(
        where, window, {f"t.{key}": kind for key, kind in _KEYS.items()}, descending=False
    )
    return await db.fetch(
        f"""SELECT {_ROW}
            FROM nomaflow.schedules s JOIN nomaflow.jobs j ON j.id = s.job_id
            CROSS JOIN LATERAL (
              (SELECT * FROM nomaflow.slots WHERE schedule_id = s.id AND due_at >= $1
                 AND due_at < $2 AND due_at <= ${last} AND {outcomes}
                 ORDER BY due_at {direction} LIMIT {window.size + 2})
              UNION ALL
              (SELECT * FROM (SELECT * FROM nomaflow.slots WHERE schedule_id = s.id
                 AND due_at < $3 ORDER BY due_at DESC LIMIT 1) AS gap
               WHERE until >= $3 AND {outcomes})) AS t
            WHERE {where.sql} {tail}""",
        *where.values,
    )


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
    """Read how far the clocks are.

    By the ends of indices; the clocks themselves are asked where no due time is on record.
    """
    row = await db.fetchrow(
        """SELECT coalesce(greatest(
               (SELECT max(due_at) FROM nomaflow.slots WHERE outcome = 'fired'),
               (SELECT max(due_at) FROM nomaflow.slots WHERE outcome = 'caught_up')),
               (SELECT max(last_fire_at) FROM nomaflow.schedules)),
             (SELECT min(look_at) FROM nomaflow.schedules WHERE look_at IS NOT NULL)"""
    )
    return Ticking(*row) if row else Ticking(None, None)
