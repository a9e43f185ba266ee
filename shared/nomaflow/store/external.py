"""Runs that outside scripts execute: begun, kept alive, found stale, and the newest success."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from nomaflow.lifecycle import FINAL_RUN, RunStatus
from nomaflow.store import history
from nomaflow.store.history import RunRow
from nomaflow.store.keyset import Where

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExternal:
    """An outside run on its way in; `started_at` None is now, by the database's clock."""

    job_name: str
    trigger: str
    triggered_by: str
    principal: str
    source: str
    destination: str
    stale_seconds: float
    idempotency_key: str | None = None
    started_at: datetime | None = None


_BEGIN = """
WITH run AS (
  INSERT INTO nomaflow.runs (kind, job_name, status, trigger, triggered_by, principal,
    idempotency_key, started_at, seq)
  VALUES ('external', $1, 'running', $2, $3, $4, $5,
    least(coalesce($6, clock_timestamp()), clock_timestamp()), 1)
  ON CONFLICT (job_name, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
  RETURNING id
), more AS (
  INSERT INTO nomaflow.external_runs (run_id, job_name, source, destination, stale_seconds)
  SELECT id, $1, $7, $8, $9 FROM run
), event AS (
  INSERT INTO nomaflow.run_events (run_id, seq, kind, payload)
  SELECT id, 1, 'run', jsonb_build_object('status', 'running', 'reason', NULL) FROM run
)
SELECT id FROM run"""


async def begin(connection: Connection | Database, new: NewExternal) -> UUID | None:
    """Write a run that has begun elsewhere; None when its key is taken already."""
    run_id: UUID | None = await connection.fetchval(
        _BEGIN,
        new.job_name,
        new.trigger,
        new.triggered_by,
        new.principal,
        new.idempotency_key,
        new.started_at,
        new.source,
        new.destination,
        new.stale_seconds,
    )
    return run_id


@dataclass(frozen=True, slots=True)
class Keyed:
    """The run that has a key already."""

    run_id: UUID
    kind: str
    source: str | None
    destination: str | None


async def with_key(connection: Connection | Database, name: str, key: str) -> Keyed | None:
    """Find the run of that name which was started under that key."""
    row = await connection.fetchrow(
        """SELECT r.id, r.kind, e.source, e.destination FROM nomaflow.runs r
           LEFT JOIN nomaflow.external_runs e ON e.run_id = r.id
           WHERE r.job_name = $1 AND r.idempotency_key = $2""",
        name,
        key,
    )
    return Keyed(*row) if row else None


async def beat(connection: Connection | Database, run_id: UUID, message: str | None) -> bool:
    """Note a sign of life, and what it said; False when the run is over, unknown or not outside."""
    return bool(
        await connection.fetchval(
            """UPDATE nomaflow.external_runs e SET heartbeat_at = clock_timestamp(),
                 message = coalesce($2, message), stale_alerted_at = NULL
               FROM nomaflow.runs r
               WHERE e.run_id = $1 AND r.id = $1 AND r.status = 'running' RETURNING true""",
            run_id,
            message,
        )
    )


async def report(
    connection: Connection, run_id: UUID, records: int | None, message: str | None
) -> None:
    """Keep what a finished run says of itself; in the transaction of its last move."""
    await connection.execute(
        """UPDATE nomaflow.external_runs SET records_processed = $2,
             message = coalesce($3, message) WHERE run_id = $1""",
        run_id,
        records,
        message,
    )
    await connection.execute(
        "UPDATE nomaflow.runs SET rows_affected = $2 WHERE id = $1", run_id, records
    )


@dataclass(frozen=True, slots=True)
class ExternalRow:
    """What history shows of an outside run besides the run itself."""

    run_id: UUID
    source: str
    destination: str
    records_processed: int | None
    message: str | None
    heartbeat_at: datetime | None
    stale: bool


async def of_runs(db: Connection | Database, run_ids: Sequence[UUID]) -> dict[UUID, ExternalRow]:
    """Read what outside runs have besides; runs of the engine are not in the answer."""
    rows = await db.fetch(
        f"""SELECT e.run_id, e.source, e.destination, e.records_processed, e.message,
              e.heartbeat_at, {history.STALE} AS stale
            FROM nomaflow.external_runs e JOIN nomaflow.runs r ON r.id = e.run_id
            WHERE e.run_id = ANY ($1::uuid[])""",
        list(run_ids),
    )
    return {row["run_id"]: ExternalRow(*row) for row in rows}


async def most_recent(
    db: Connection | Database,
    name: str,
    status: str,
    source: str | None = None,
    destination: str | None = None,
) -> RunRow | None:
    """Find the run of that name, of the engine or outside, that ended last with that status.

    A dry run changed nothing and does not count, nor does one that retried failed batches. By
    the end, as seed 004's client orders them; of a status that is no end, by the start.
    """
    where = Where()
    where.add("r.job_name = {} AND r.status = {} AND NOT r.dry_run", name, status)
    where.add("r.trigger <> 'retry' AND r.started_at IS NOT NULL")
    over = RunStatus(status) in FINAL_RUN
    if over:
        where.add("r.finished_at IS NOT NULL")  # the index of ends has no others
    else:
        where.add("r.status IN ('queued', 'running')")
    outside = {"source": source, "destination": destination}
    given = {column: value for column, value in outside.items() if value is not None}
    for column, value in given.items():
        where.add(f"e.{column} = {{}}", value)
    if source is not None:
        # Asked first and once: that a name was never there, its own history tells only at its end.
        # As the next place in the index, since of an equality the planner may read the table.
        columns = ", ".join(f"p.{column}" for column in ("job_name", *given))
        wanted = ", ".join(f"{{{n}}}::text" for n in range(len(given) + 1))
        where.add(
            f"(SELECT ({columns}) = ({wanted}) FROM nomaflow.external_runs p "
            f"WHERE ({columns}) >= ({wanted}) ORDER BY {columns} LIMIT 1)",
            *(name, *given.values()),
        )
    more = "JOIN nomaflow.external_runs e ON e.run_id = r.id" if given else ""
    newest_by = "r.finished_at" if over else "r.started_at"
    row = await db.fetchrow(
        f"""SELECT {history.COLUMNS} FROM nomaflow.runs r {more}
            WHERE {where.sql} ORDER BY {newest_by} DESC LIMIT 1""",
        *where.values,
    )
    return RunRow(*row) if row else None


@dataclass(frozen=True, slots=True)
class StaleRun:
    """An outside run that gives no sign of life; `minutes` since the last one."""

    id: UUID
    job_name: str
    triggered_by: str
    started_at: datetime
    minutes: float


async def unwarned(db: Connection | Database, at: datetime | None = None) -> list[StaleRun]:
    """Outside runs that are stale at `at` (None: now) and were not told of yet."""
    names = ", ".join(f"r.{f.name}" for f in fields(StaleRun) if f.name != "minutes")
    rows = await db.fetch(
        f"""SELECT {names}, extract(epoch FROM
                coalesce($1, now()) - coalesce(e.heartbeat_at, r.queued_at))::float8 / 60 AS minutes
            FROM nomaflow.runs r JOIN nomaflow.external_runs e ON e.run_id = r.id
            WHERE r.kind = 'external' AND r.status = 'running' AND e.stale_alerted_at IS NULL
              AND coalesce(e.heartbeat_at, r.queued_at)
                + make_interval(secs => e.stale_seconds) < coalesce($1, now())
            ORDER BY r.queued_at LIMIT 500""",
        at,
    )
    return [StaleRun(**row) for row in rows]


async def mark(connection: Connection, run_id: UUID) -> bool:
    """Take the one warning of this silence; False when someone was faster, or it is over."""
    return bool(
        await connection.fetchval(
            """UPDATE nomaflow.external_runs e SET stale_alerted_at = now() FROM nomaflow.runs r
               WHERE e.run_id = $1 AND r.id = $1 AND r.status = 'running'
                 AND e.stale_alerted_at IS NULL RETURNING true""",
            run_id,
        )
    )
