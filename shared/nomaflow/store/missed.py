"""Due times that nothing came of: each is a row, and more than a thousand in a row are few rows.

Called under the lock on the job's row, which everybody holds who serves one of its clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection

MOST_SINGLY = 1_000
"""More due times than this are a row for each stretch, with its ends and its count."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Due times of one clock that follow each other and have the same to say."""

    times: tuple[datetime, ...]
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Gap:
    """The newest record of a clock, when it stands for many due times."""

    due_at: datetime
    until: datetime
    outcome: str
    reason: str


async def last_gap(connection: Connection, schedule_id: UUID, before: datetime) -> Gap | None:
    """The gap that ends the clock's record before a due time, if one does."""
    row = await connection.fetchrow(
        """SELECT due_at, until, outcome, reason FROM nomaflow.slots
           WHERE schedule_id = $1 AND due_at < $2 ORDER BY due_at DESC LIMIT 1""",
        schedule_id,
        before,
    )
    return Gap(*row) if row and row["until"] is not None else None


async def record(
    connection: Connection,
    schedule_id: UUID,
    stretches: Sequence[Stretch],
    *,
    after: Gap | None = None,
) -> int:
    """Write down what became of due times, in order; answers how many.

    `after` is the gap that ends right before the first of them: it is lengthened, so that a gap
    looked at in pieces is one row all the same.
    """
    total = sum(len(one.times) for one in stretches)
    in_one = after is not None or total > MOST_SINGLY
    for one in stretches:
        if after is not None and (after.outcome, after.reason) == (one.outcome, one.reason):
            await _lengthen(connection, schedule_id, after, one)
        elif in_one and len(one.times) > 1:
            await _add_gap(connection, schedule_id, one)
        else:
            await _add(connection, schedule_id, one)
        after = None
    return total


async def _add(connection: Connection, schedule_id: UUID, one: Stretch) -> None:
    await connection.execute(
        """INSERT INTO nomaflow.slots (schedule_id, due_at, outcome, reason)
           SELECT $1, t, $3, $4 FROM unnest($2::timestamptz[]) t
           ON CONFLICT (schedule_id, due_at) DO NOTHING""",
        schedule_id,
        list(one.times),
        one.outcome,
        one.reason,
    )


async def _add_gap(connection: Connection, schedule_id: UUID, one: Stretch) -> None:
    await connection.execute(
        """INSERT INTO nomaflow.slots (schedule_id, due_at, outcome, reason, until, count)
           VALUES ($1, $2, $3, $4, $5, $6)
           ON CONFLICT (schedule_id, due_at) DO NOTHING""",
        schedule_id,
        one.times[0],
        one.outcome,
        one.reason,
        one.times[-1],
        len(one.times),
    )


async def _lengthen(connection: Connection, schedule_id: UUID, gap: Gap, one: Stretch) -> None:
    await connection.execute(
        """UPDATE nomaflow.slots SET until = $3, count = count + $4
           WHERE schedule_id = $1 AND due_at = $2""",
        schedule_id,
        gap.due_at,
        one.times[-1],
        len(one.times),
    )
