"""Due times that nobody fired: each is a row, and more than a thousand in a row are one.

Slots are written before the clock is moved on, in the same order as a fire does it, so that two
schedulers meeting at one clock wait for each other and never lock each other out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow.store import schedules

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection


class TakenError(Exception):
    """Another scheduler has served these due times; raised to roll the transaction back."""


async def gap_before(
    connection: Connection, schedule_id: UUID, due_at: datetime
) -> datetime | None:
    """The last due time of the gap that ends the clock's record before `due_at`, if one does."""
    row = await connection.fetchrow(
        """SELECT until FROM nomaflow.slots WHERE schedule_id = $1 AND due_at < $2
           ORDER BY due_at DESC LIMIT 1""",
        schedule_id,
        due_at,
    )
    until: datetime | None = row["until"] if row else None
    return until


async def add(
    connection: Connection, schedule_id: UUID, times: Sequence[datetime], reason: str
) -> None:
    """Record each due time as missed; TakenError when the first one is recorded already."""
    if not await schedules.take_slot(connection, schedule_id, times[0], "missed", reason):
        raise TakenError
    await connection.execute(
        """INSERT INTO nomaflow.slots (schedule_id, due_at, outcome, reason)
           SELECT $1, t, 'missed', $3 FROM unnest($2::timestamptz[]) t
           ON CONFLICT (schedule_id, due_at) DO NOTHING""",
        schedule_id,
        list(times[1:]),
        reason,
    )


async def add_gap(
    connection: Connection, schedule_id: UUID, times: Sequence[datetime], reason: str
) -> None:
    """Record all of them as one row; TakenError when the first one is recorded already."""
    first, last = times[0], times[-1]
    if not await schedules.take_slot(connection, schedule_id, first, "missed", reason):
        raise TakenError
    await connection.execute(
        "UPDATE nomaflow.slots SET until = $3, count = $4 WHERE schedule_id = $1 AND due_at = $2",
        schedule_id,
        first,
        last,
        len(times),
    )


async def lengthen(
    connection: Connection, schedule_id: UUID, until: datetime, times: Sequence[datetime]
) -> None:
    """Add the due times that follow to a gap that ended at `until`."""
    moved = await connection.fetchval(
        """UPDATE nomaflow.slots SET until = $3, count = count + $4
           WHERE schedule_id = $1 AND until = $2 RETURNING true""",
        schedule_id,
        until,
        times[-1],
        len(times),
    )
    if not moved:
        raise TakenError


async def pass_over(
    connection: Connection, schedule_id: UUID, due_at: datetime, next_fire_at: datetime | None
) -> None:
    """Set the clock from `due_at` to its next due time; TakenError when it stands elsewhere."""
    moved = await connection.fetchval(
        """UPDATE nomaflow.schedules SET next_fire_at = $3, look_at = $3
           WHERE id = $1 AND next_fire_at = $2 RETURNING true""",
        schedule_id,
        due_at,
        next_fire_at,
    )
    if not moved:
        raise TakenError
