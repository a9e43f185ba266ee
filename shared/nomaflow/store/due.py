"""What is due: looked for by one index, then held and read as it stands under the lock.

Whoever serves a clock holds the lock on its job's row, so a clock that was read stands still until
it is written. Who prepares a fire before its time holds nothing, and asks at the instant whether
what it has read still is so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nomaflow.store.closures import GATE, BlackoutRow, SwitchRow, blackout_of, switch_of
from nomaflow.store.schedules import COLUMNS, ScheduleRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.database import Connection, Database

IDLE_MS = 5_000
"""A scheduler that is frozen in the middle of a batch loses its transaction, and so its locks."""
_MORTAL = f"SELECT set_config('idle_in_transaction_session_timeout', '{IDLE_MS}', true)"


@dataclass(frozen=True, slots=True)
class Look:
    """A clock that is due, or (with `due_at`) one of its due times that waits."""

    schedule_id: UUID
    job_id: UUID
    look_at: datetime
    due_at: datetime | None
    now: datetime
    """The database's clock when it was read."""


async def looks(connection: Connection | Database, at: datetime | None, limit: int) -> list[Look]:
    """What is to be looked at by `at` (None: now), the longest due first."""
    rows = await connection.fetch(
        """SELECT * FROM (
             (SELECT s.id, s.job_id, s.look_at, NULL::timestamptz AS due_at, now()
              FROM nomaflow.schedules s WHERE s.look_at <= coalesce($1, now())
              ORDER BY s.look_at LIMIT $2)
             UNION ALL
             (SELECT s.id, s.job_id, t.look_at, t.due_at, now()
              FROM nomaflow.slots t JOIN nomaflow.schedules s ON s.id = t.schedule_id
              WHERE t.look_at <= coalesce($1, now())
              ORDER BY t.look_at LIMIT $2)) AS found
           ORDER BY look_at""",
        at,
        limit,
    )
    return [Look(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Coming:
    """When the next look is due, and the database's clock when it was asked."""

    look_at: datetime | None
    now: datetime

    @property
    def is_due(self) -> bool:
        """True when there is something to be done now."""
        return self.look_at is not None and self.look_at <= self.now

    @property
    def seconds(self) -> float:
        """How long it is until then; 0 when nothing is due at all."""
        return (self.look_at - self.now).total_seconds() if self.look_at else 0.0


async def coming(connection: Connection | Database) -> Coming:
    """When something is due next; costs the same however many clocks there are."""
    row = await connection.fetchrow(
        """SELECT least((SELECT min(look_at) FROM nomaflow.schedules WHERE look_at IS NOT NULL),
                        (SELECT min(look_at) FROM nomaflow.slots WHERE look_at IS NOT NULL)),
                  clock_timestamp()"""
    )
    assert row is not None  # noqa: S101  a SELECT without FROM has one row
    return Coming(*row)


@dataclass(frozen=True, slots=True)
class Closures:
    """What closes clocks at this moment, by the database's clock."""

    now: datetime
    switch: SwitchRow
    calendars: Mapping[str, Mapping[str, Any]]
    blackouts: Sequence[BlackoutRow]

    def alike(self, other: Closures) -> bool:
        """Tell whether both close the same."""
        ours, theirs = (replace(one, now=self.now) for one in (self, other))
        return ours == theirs


async def begin(connection: Connection, since: datetime) -> Closures:
    """Enter the gate and read what is closed; blackouts that ended before `since` are left out."""
    await connection.execute(f"{_MORTAL}, pg_advisory_xact_lock_shared({GATE})")
    return await closed(connection, since)


async def begin_ahead(connection: Connection, since: datetime) -> Closures:
    """Read what is closed without entering the gate: who closes clocks need not wait for us."""
    await connection.execute(_MORTAL)
    return await closed(connection, since)


async def closed(connection: Connection, since: datetime) -> Closures:
    """Read what is closed; blackouts that ended before `since` are left out."""
    row = await connection.fetchrow(
        """SELECT clock_timestamp(), (SELECT to_jsonb(s) FROM nomaflow.scheduler_switch s),
             (SELECT jsonb_object_agg(name, definition) FROM nomaflow.calendars),
             (SELECT jsonb_agg(to_jsonb(b) ORDER BY b.until) FROM nomaflow.blackouts b
              WHERE b.until > $1)""",
        since,
    )
    assert row is not None  # noqa: S101  a SELECT without FROM has one row
    found = [blackout_of(one) for one in row[3] or ()]
    return Closures(row[0], switch_of(row[1]), row[2] or {}, found)


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What a batch must know of a job that it holds."""

    id: UUID
    name: str
    revision: int
    enabled: bool
    in_force: bool
    paused_from: datetime | None
    paused_until: datetime | None
    version: int
    """Changes whenever anything of the job's row does (PostgreSQL's `xmin`)."""


async def lock_jobs(
    connection: Connection, ids: Sequence[UUID], *, wait: bool
) -> dict[UUID, JobFacts]:
    """Hold these jobs until the transaction ends; without `wait`, those that nobody else holds."""
    locking = "FOR NO KEY UPDATE" if wait else "FOR NO KEY UPDATE SKIP LOCKED"
    return await _jobs(connection, ids, locking)


async def jobs(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, JobFacts]:
    """Look at these jobs without holding them."""
    return await _jobs(connection, ids, "")


async def _jobs(connection: Connection, ids: Sequence[UUID], locking: str) -> dict[UUID, JobFacts]:
    rows = await connection.fetch(
        f"""SELECT id, name, revision, enabled, deleted_at IS NULL AND NOT shadowed,
              paused_from, paused_until, xmin::text::bigint
            FROM nomaflow.jobs WHERE id = ANY ($1::uuid[]) ORDER BY id {locking}""",
        list(ids),
    )
    return {row[0]: JobFacts(*row) for row in rows}


async def lock_unchanged(connection: Connection, versions: Mapping[UUID, int]) -> set[UUID]:
    """Hold those of these jobs that nobody else holds and that are as they were."""
    rows = await connection.fetch(
        """SELECT j.id FROM nomaflow.jobs j
           JOIN unnest($1::uuid[], $2::bigint[]) AS k (id, version) ON k.id = j.id
           WHERE j.xmin::text::bigint = k.version
           ORDER BY j.id FOR NO KEY UPDATE OF j SKIP LOCKED""",
        list(versions),
        list(versions.values()),
    )
    return {row[0] for row in rows}


async def joined(
    connection: Connection, job_ids: Collection[UUID], known: Collection[UUID]
) -> set[UUID]:
    """Those of these jobs that have a run in flight that is not among the known ones."""
    rows = await connection.fetch(
        """SELECT DISTINCT r.job_id FROM unnest($1::uuid[]) AS k (id)
           JOIN nomaflow.runs r ON r.job_id = k.id AND r.status IN ('queued', 'running')
           LEFT JOIN unnest($2::uuid[]) AS o (id) ON o.id = r.id
           WHERE o.id IS NULL""",
        list(job_ids),
        list(known),
    )
    return {row[0] for row in rows}


@dataclass(frozen=True, slots=True)
class Held:
    """A clock as it was read; `taken` is what its due time's row says, if it has one already."""

    clock: ScheduleRow
    taken: str | None
    version: int
    """Changes whenever anything of the clock's row does (PostgreSQL's `xmin`)."""


async def clocks(
    connection: Connection, ids: Sequence[UUID], at: datetime | None, *, locking: str = ""
) -> list[Held]:
    """These clocks as they stand now, if they are still due."""
    columns = ", ".join(f"s.{c}" for c in COLUMNS.split(", "))
    rows = await connection.fetch(
        f"""SELECT (SELECT outcome FROM nomaflow.slots t
                    WHERE t.schedule_id = s.id AND t.due_at = s.next_fire_at),
              s.xmin::text::bigint, {columns}
            FROM nomaflow.schedules s
            WHERE s.id = ANY ($1::uuid[]) AND s.look_at <= coalesce($2, clock_timestamp())
            ORDER BY s.next_fire_at, s.id {locking}""",
        list(ids),
        at,
    )
    return [Held(ScheduleRow(*row[2:]), row[0], row[1]) for row in rows]


async def lock_clocks(
    connection: Connection, ids: Sequence[UUID], at: datetime | None, *, wait: bool
) -> list[Held]:
    """These clocks, without those whose fire another scheduler has prepared (unless `wait`).

    Its slot refers to the clock, which is a lock on the clock's row that only this one minds.
    """
    how = "FOR UPDATE OF s" if wait else "FOR UPDATE OF s SKIP LOCKED"
    return await clocks(connection, ids, at, locking=how)


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """A due time that waits or is postponed, with its clock; `retired` when that is gone."""

    clock: ScheduleRow
    due_at: datetime
    outcome: str
    reason: str
    look_at: datetime
    deadline: datetime | None
    retired: bool


async def open_slots(
    connection: Connection, keys: Sequence[tuple[UUID, datetime]], at: datetime | None
) -> list[OpenSlot]:
    """These due times, if they still are to be looked at."""
    columns = ", ".join(f"s.{c}" for c in COLUMNS.split(", "))
    rows = await connection.fetch(
        f"""SELECT t.due_at, t.outcome, t.reason, t.look_at, t.deadline,
              s.retired_at IS NOT NULL, {columns}
            FROM unnest($1::uuid[], $2::timestamptz[]) AS k (schedule_id, due_at)
            JOIN nomaflow.slots t USING (schedule_id, due_at)
            JOIN nomaflow.schedules s ON s.id = t.schedule_id
            WHERE t.look_at <= coalesce($3, clock_timestamp()) ORDER BY t.due_at""",
        [key[0] for key in keys],
        [key[1] for key in keys],
        at,
    )
    return [OpenSlot(ScheduleRow(*row[6:]), *row[:6]) for row in rows]


async def lately(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """What became of the three newest due times of each clock, newest first: their reasons.

    One that fired has an empty reason.
    """
    rows = await connection.fetch(
        """SELECT k.id, t.reason FROM unnest($1::uuid[]) AS k (id)
           CROSS JOIN LATERAL (
             SELECT coalesce(reason, '') AS reason, due_at FROM nomaflow.slots
             WHERE schedule_id = k.id ORDER BY due_at DESC LIMIT 3) AS t
           ORDER BY k.id, t.due_at DESC""",
        list(ids),
    )
    found: dict[UUID, list[str]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row[1])
    return found


async def clock(connection: Connection) -> datetime:
    """Ask for the database's clock."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now
