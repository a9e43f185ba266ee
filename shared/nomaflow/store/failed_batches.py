"""Batches that a sync could not write: kept with their items until a retry has written them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nomaflow.store import keyset
from nomaflow.store.keyset import Page, Where, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nomaflow.store.database import Connection, Database

PENDING, DONE, FAILED = "pending", "done", "failed"
STATUSES = (PENDING, DONE, FAILED)


@dataclass(frozen=True, slots=True)
class FailedBatchRow:
    """A failed batch without its items; with `request`, a page that could not be fetched.

    `pending` waits for a retry, `failed` failed again in its newest one, `done` is written.
    """

    id: UUID
    run_id: UUID
    job_name: str
    step: str
    page: int | None
    batch: int
    items: int
    request: Mapping[str, Any] | None
    masked: bool
    error: str
    attempts: int
    status: str
    retry_run_id: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewFailedBatch:
    """A batch on its way in; `masked` says that a secret was taken out of the payload."""

    page: int | None
    batch: int
    payload: Sequence[Any]
    error: str
    request: Mapping[str, Any] | None = None
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """A batch that a retry run is to write, with its items, or what to ask for to have them."""

    id: UUID
    page: int | None
    batch: int
    payload: Sequence[Any]
    request: Mapping[str, Any] | None
    masked: bool


@dataclass(frozen=True, slots=True)
class Rest:
    """What a retry could not write of a batch, to be kept instead of it."""

    items: Sequence[Any]
    masked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which failed batches; None does not narrow.

    `run_id` is the run that failed on them, or one that retries them.
    """

    run_id: UUID | None = None
    job: str | None = None
    step: str | None = None
    status: str | None = None


_NAMES = tuple(f.name for f in fields(FailedBatchRow))
COLUMNS = ", ".join(f"f.{name}" for name in _NAMES)


def _where(wanted: Wanted) -> Where:
    where = Where()
    if wanted.run_id is not None:
        where.add("(f.run_id = {0} OR f.retry_run_id = {0})", wanted.run_id)
    for column, kind, value in (
        ("job_name", "text", wanted.job),
        ("step", "text", wanted.step),
        ("status", "text", wanted.status),
    ):
        if value is not None:
            where.add(f"f.{column} = {{}}::{kind}", value)
    return where


async def page(db: Connection | Database, wanted: Wanted, window: Window) -> Page[FailedBatchRow]:
    """Read one page, the newest first."""
    where = _where(wanted)
    tail = keyset.narrow(where, window, {"f.id": "uuid"}, descending=True)
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM nomaflow.failed_batches f WHERE {where.sql} {tail}", *where.values
    )
    return keyset.page([FailedBatchRow(*row) for row in rows], window)


async def count(db: Connection | Database, wanted: Wanted) -> int:
    """Count a list."""
    where = _where(wanted)
    found: int = await db.fetchval(
        f"SELECT count(*) FROM nomaflow.failed_batches f WHERE {where.sql}", *where.values
    )
    return found


async def payloads(db: Connection | Database, ids: Sequence[UUID]) -> dict[UUID, Any]:
    """Read the items of batches, which only those who ask for them should pay for."""
    rows = await db.fetch(
        "SELECT id, payload FROM nomaflow.failed_batches WHERE id = ANY ($1::uuid[])", list(ids)
    )
    return {row["id"]: row["payload"] for row in rows}


async def pick(
    connection: Connection, wanted: Wanted, limit: int
) -> dict[UUID, list[FailedBatchRow]]:
    """Choose what a retry may take: open batches by the run that failed on them.

    Those never retried come first, then those of the oldest run. What another retry in flight has
    is left out.
    """
    where = _where(wanted)
    rows = await connection.fetch(
        f"""SELECT {COLUMNS} FROM nomaflow.failed_batches f
            WHERE {where.sql} AND f.status <> 'done'
              AND NOT EXISTS (SELECT FROM nomaflow.runs r WHERE r.id = f.retry_run_id
                AND r.status IN ('queued', 'running'))
            ORDER BY f.status = 'failed', f.run_id, f.attempts, f.batch LIMIT {int(limit)}""",
        *where.values,
    )
    found: dict[UUID, list[FailedBatchRow]] = {}
    for row in rows:
        batch = FailedBatchRow(*row)
        found.setdefault(batch.run_id, []).append(batch)
    return found


async def give(connection: Connection, ids: Sequence[UUID], retry_run_id: UUID) -> None:
    """Hand batches to the run that will retry them; they are pending until it has tried."""
    await connection.execute(
        """UPDATE nomaflow.failed_batches SET retry_run_id = $2, status = 'pending'
           WHERE id = ANY ($1::uuid[])""",
        list(ids),
        retry_run_id,
    )


async def due(db: Connection | Database, retry_run_id: UUID, step: str) -> list[tuple[UUID, int]]:
    """Tell which batches a retry run still has to try for one of its steps, with their numbers."""
    rows = await db.fetch(
        """SELECT id, batch FROM nomaflow.failed_batches
           WHERE retry_run_id = $1 AND step = $2 AND status = 'pending' ORDER BY batch""",
        retry_run_id,
        step,
    )
    return [(row["id"], row["batch"]) for row in rows]


async def read(db: Connection | Database, batch_id: UUID) -> Due | None:
    """Read one batch with its items."""
    row = await db.fetchrow(
        """SELECT id, page, batch, payload, request, masked
           FROM nomaflow.failed_batches WHERE id = $1""",
        batch_id,
    )
    return Due(*row) if row else None


async def settle(
    db: Connection | Database,
    run_id: UUID,
    fence: int,
    batch_id: UUID,
    error: str | None,
    rest: Rest | None = None,
) -> bool:
    """Write down how a retry of one batch went, and what is left of it; False: no claim any more.

    A page that was read but not all written is a batch of items from then on.
    """
    return bool(
        await db.fetchval(
            """UPDATE nomaflow.failed_batches f
               SET attempts = f.attempts + 1, updated_at = now(), error = coalesce($4, f.error),
                 status = CASE WHEN $4::text IS NULL THEN 'done' ELSE 'failed' END,
                 payload = coalesce($5::jsonb, f.payload),
                 items = coalesce(jsonb_array_length($5::jsonb), f.items),
                 request = CASE WHEN $5::jsonb IS NULL THEN f.request END,
                 masked = coalesce($6, f.masked)
               FROM nomaflow.runs r
               WHERE r.id = $1 AND r.fence = $2 AND r.status = 'running'
                 AND f.id = $3 AND f.retry_run_id = r.id
               RETURNING true""",
            run_id,
            fence,
            batch_id,
            error,
            None if rest is None else list(rest.items),
            None if rest is None else rest.masked,
        )
    )
