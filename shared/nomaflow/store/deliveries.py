"""The outbox of alerts: written with what they tell of, taken by one sender at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database
    from nomaflow.store.transitions import NewDelivery


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A message to send now; `attempts` counts this try and fences its outcome."""

    id: UUID
    run_id: UUID | None
    job_name: str
    event: str
    channel: str
    recipient: str
    payload: Mapping[str, Any]
    attempts: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message and what became of it so far."""

    id: UUID
    run_id: UUID | None
    job_name: str
    event: str
    channel: str
    recipient: str
    payload: Mapping[str, Any]
    status: str
    attempts: int
    next_at: datetime | None
    error: str | None
    at: datetime
    sent_at: datetime | None


async def add(
    connection: Connection, run_id: UUID | None, deliveries: Sequence[NewDelivery]
) -> None:
    """Put messages into the outbox, inside the transaction of what they tell of."""
    await connection.executemany(
        """INSERT INTO nomaflow.deliveries (run_id, job_name, event, channel, recipient, payload)
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING""",
        [
            (run_id, d.job_name, d.event, d.channel, d.recipient, dict(d.payload))
            for d in deliveries
        ],
    )


async def claim(
    connection: Connection | Database,
    *,
    limit: int,
    hold_seconds: float,
    at: datetime | None = None,
) -> list[DueDelivery]:
    """Take messages that are due; each is hidden from other senders for `hold_seconds`.

    A sender that dies leaves its messages to whoever looks after that time: a message whose
    answer was lost may so be sent twice, and no message is lost.
    """
    rows = await connection.fetch(
        """UPDATE nomaflow.deliveries d SET attempts = d.attempts + 1,
             next_at = coalesce($1, clock_timestamp()) + make_interval(secs => $3)
           FROM (SELECT id FROM nomaflow.deliveries
                 WHERE status = 'pending' AND next_at <= coalesce($1, now())
                 ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED) due
           WHERE d.id = due.id
           RETURNING d.id, d.run_id, d.job_name, d.event, d.channel, d.recipient, d.payload,
             d.attempts""",
        at,
        limit,
        hold_seconds,
    )
    return [DueDelivery(**row) for row in rows]


async def sent(
    connection: Connection | Database, delivery: DueDelivery, *, at: datetime | None = None
) -> bool:
    """Record that it arrived; False when another try is under way."""
    return bool(
        await connection.fetchval(
            """UPDATE nomaflow.deliveries SET status = 'sent', error = NULL, next_at = NULL,
                 sent_at = coalesce($3, clock_timestamp())
               WHERE id = $1 AND attempts = $2 AND status = 'pending' RETURNING true""",
            delivery.id,
            delivery.attempts,
            at,
        )
    )


async def not_sent(
    connection: Connection | Database,
    delivery: DueDelivery,
    error: str,
    *,
    retry_in_seconds: float | None,
    at: datetime | None = None,
) -> bool:
    """Record a try that failed: due again after that time, or given up for good (None)."""
    return bool(
        await connection.fetchval(
            """UPDATE nomaflow.deliveries SET error = $3,
                 status = CASE WHEN $4::float8 IS NULL THEN 'failed' ELSE status END,
                 next_at = coalesce($5, clock_timestamp()) + make_interval(secs => $4::float8)
               WHERE id = $1 AND attempts = $2 AND status = 'pending' RETURNING true""",
            delivery.id,
            delivery.attempts,
            error,
            retry_in_seconds,
            at,
        )
    )


async def send_again(connection: Connection | Database, delivery_id: UUID) -> bool:
    """Give a message that was given up its tries back; False when it is not one (A08)."""
    return bool(
        await connection.fetchval(
            """UPDATE nomaflow.deliveries SET status = 'pending', attempts = 0, next_at = now()
               WHERE id = $1 AND status = 'failed' RETURNING true""",
            delivery_id,
        )
    )


async def of_run(connection: Connection | Database, run_id: UUID) -> list[Delivery]:
    """Every message about one run, oldest first."""
    rows = await connection.fetch(
        """SELECT id, run_id, job_name, event, channel, recipient, payload, status, attempts,
             next_at, error, at, sent_at
           FROM nomaflow.deliveries WHERE run_id = $1 ORDER BY at, id""",
        run_id,
    )
    return [Delivery(**row) for row in rows]
