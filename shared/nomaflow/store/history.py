"""Runs as history shows them: lists by page, single ones, and the newest of each job."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nomaflow.store import keyset
from nomaflow.store.keyset import Page, Where, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nomaflow.store.database import Connection, Database

COUNTED = 10_000
"""A list is counted up to here; an exact count of more would cost more than it tells."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run without its steps."""

    id: UUID
    kind: str
    job_id: UUID | None
    job_name: str
    job_revision: int | None
    status: str
    reason: str | None
    triggered_by: str
    schedule_name: str | None
    scheduled_for: datetime | None
    queued_at: datetime
    not_before: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    params: Mapping[str, Any]
    overrides: Mapping[str, Any]
    log_level: str
    dry_run: bool
    worker_tag: str
    idempotency_key: str | None
    replay_of: UUID | None
    parent_run_id: UUID | None
    interruptions: int
    abort_requested_by: str | None
    rows_affected: int | None
    error: Mapping[str, Any] | None
    worker: str | None
    seq: int


_NAMES = tuple(f.name for f in fields(RunRow))
COLUMNS = ", ".join(f"r.{name}" for name in _NAMES)


class Order(Enum):
    """Orders of a list of runs; those by finish show only runs that are over."""

    QUEUED_DESC = ("queued_at", True)
    QUEUED_ASC = ("queued_at", False)
    FINISHED_DESC = ("finished_at", True)
    FINISHED_ASC = ("finished_at", False)

    @property
    def column(self) -> str:
        """The time that sorts."""
        return self.value[0]

    @property
    def descending(self) -> bool:
        """True for the newest first."""
        return self.value[1]

    def key(self, run: RunRow) -> tuple[datetime, UUID]:
        """Return the position of a run in this order."""
        return (getattr(run, self.column), run.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs; None does not narrow.

    `tags` and `app` are those of the job now. `triggered_by` is the whole word or what stands
    before its colon (`cli` finds `cli:bob`). `since` and `until` bound the time of queueing,
    the second exclusively. `source`, `destination` and `stale` are those of outside runs.
    """

    jobs: Sequence[str] | None = None
    app: str | None = None
    tags: Sequence[str] | None = None
    status: Sequence[str] | None = None
    kind: str | None = None
    triggered_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    source: str | None = None
    destination: str | None = None
    stale: bool | None = None


STALE = """coalesce(r.status = 'running' AND coalesce(e.heartbeat_at, r.queued_at)
  + make_interval(secs => e.stale_seconds) < clock_timestamp(), false)"""
"""Of an outside run `e`: it is open, and silent for longer than it may be."""


def _where(wanted: RunFilter) -> Where:
    where = Where()
    if wanted.jobs is not None:
        where.one_of("r.job_name", list(wanted.jobs))
    if wanted.status is not None:
        where.one_of("r.status", list(wanted.status))
    if wanted.kind is not None:
        where.add("r.kind = {}", wanted.kind)
    if wanted.triggered_by is not None:
        where.add(
            "(r.triggered_by = {0} OR starts_with(r.triggered_by, {0} || ':'))",
            wanted.triggered_by,
        )
    if wanted.since is not None:
        where.add("r.queued_at >= {}", wanted.since)
    if wanted.until is not None:
        where.add("r.queued_at < {}", wanted.until)
    of_job = "EXISTS (SELECT FROM nomaflow.jobs j WHERE j.id = r.job_id AND "
    if wanted.app is not None:
        where.add(of_job + "j.app = {})", wanted.app)
    if wanted.tags is not None:
        where.add(of_job + "j.tags && {}::text[])", list(wanted.tags))
    _outside(where, wanted)
    return where


def _outside(where: Where, wanted: RunFilter) -> None:
    if wanted.stale:
        # Said again outside, so that open runs are looked at alone.
        where.add("r.kind = 'external' AND r.status = 'running'")
    found = {"e.source": wanted.source, "e.destination": wanted.destination, STALE: wanted.stale}
    for column, value in found.items():
        if value is not None:
            where.add(
                "(r.kind = 'external' AND EXISTS (SELECT FROM nomaflow.external_runs e "
                f"WHERE e.run_id = r.id AND {column} = {{}}))",
                value,
            )


async def page(
    db: Connection | Database, wanted: RunFilter, window: Window, order: Order
) -> Page[RunRow]:
    """Read one page of the runs that the filter lets through."""
    where = _where(wanted)
    if order.column == "finished_at":
        where.add("r.finished_at IS NOT NULL")
    keys = {f"r.{order.column}": "timestamptz", "r.id": "uuid"}
    tail = keyset.narrow(where, window, keys, descending=order.descending)
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM nomaflow.runs r WHERE {where.sql} {tail}",
        *where.values,
    )
    return keyset.page([RunRow(*row) for row in rows], window)


async def count(db: Connection | Database, wanted: RunFilter, order: Order) -> int | None:
    """Count the runs of a list; None when there are more than COUNTED."""
    where = _where(wanted)
    if order.column == "finished_at":
        where.add("r.finished_at IS NOT NULL")
    found: int = await db.fetchval(
        f"""SELECT count(*) FROM (SELECT FROM nomaflow.runs r WHERE {where.sql}
            LIMIT {COUNTED + 1}) counted""",
        *where.values,
    )
    return found if found <= COUNTED else None


async def find(db: Connection | Database, ids: Sequence[UUID]) -> dict[UUID, RunRow]:
    """Read runs by id."""
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM nomaflow.runs r WHERE r.id = ANY ($1::uuid[])",
        list(ids),
    )
    return {row["id"]: RunRow(*row) for row in rows}


async def newest(db: Connection | Database, job_ids: Sequence[UUID]) -> dict[UUID, RunRow]:
    """Read the newest run of each job."""
    return await _one_each(db, job_ids, "true", "queued_at DESC, id DESC")


async def last_successes(db: Connection | Database, job_ids: Sequence[UUID]) -> dict[UUID, RunRow]:
    """Read the run of each job that succeeded last.

    A dry run did nothing, and one that only retried failed batches did not do the job anew.
    """
    done = "status = 'succeeded' AND NOT dry_run AND trigger <> 'retry' AND finished_at IS NOT NULL"
    return await _one_each(db, job_ids, done, "finished_at DESC")


async def _one_each(
    db: Connection | Database, job_ids: Sequence[UUID], condition: str, order: str
) -> dict[UUID, RunRow]:
    rows = await db.fetch(
        f"""SELECT {COLUMNS} FROM nomaflow.jobs j CROSS JOIN LATERAL (
              SELECT * FROM nomaflow.runs
              WHERE job_name = j.name AND job_id = j.id AND {condition}
              ORDER BY {order} LIMIT 1) r
            WHERE j.id = ANY ($1::uuid[])""",
        list(job_ids),
    )
    return {row["job_id"]: RunRow(*row) for row in rows}


async def in_flight(
    db: Connection | Database, job_ids: Sequence[UUID], each: int
) -> dict[UUID, list[RunRow]]:
    """Read the queued and running runs of each job, oldest first, at most `each` of a job."""
    rows = await db.fetch(
        f"""SELECT {COLUMNS} FROM unnest($1::uuid[]) AS job (id) CROSS JOIN LATERAL (
              SELECT * FROM nomaflow.runs
              WHERE job_id = job.id AND status IN ('queued', 'running')
              ORDER BY queued_at, id LIMIT $2) r""",
        list(job_ids),
        each,
    )
    found: defaultdict[UUID, list[RunRow]] = defaultdict(list)
    for row in rows:
        found[row["job_id"]].append(RunRow(*row))
    return found


async def children(
    db: Connection | Database, run_ids: Sequence[UUID], each: int
) -> dict[UUID, list[RunRow]]:
    """Read the runs that each run started, oldest first, at most `each` of a run."""
    rows = await db.fetch(
        f"""SELECT {COLUMNS} FROM unnest($1::uuid[]) AS parent (id) CROSS JOIN LATERAL (
              SELECT * FROM nomaflow.runs WHERE parent_run_id = parent.id
              ORDER BY queued_at, id LIMIT $2) r""",
        list(run_ids),
        each,
    )
    found: defaultdict[UUID, list[RunRow]] = defaultdict(list)
    for row in rows:
        found[row["parent_run_id"]].append(RunRow(*row))
    return found


async def replays(db: Connection | Database, run_ids: Sequence[UUID]) -> dict[UUID, RunRow]:
    """Read the newest run that runs each of these again."""
    rows = await db.fetch(
        f"""SELECT {COLUMNS} FROM unnest($1::uuid[]) AS old (id) CROSS JOIN LATERAL (
              SELECT * FROM nomaflow.runs WHERE replay_of = old.id AND trigger = 'replay'
              ORDER BY queued_at DESC LIMIT 1) r""",
        list(run_ids),
    )
    return {row["replay_of"]: RunRow(*row) for row in rows}


async def all_in_flight(db: Connection | Database, wanted: RunFilter, limit: int) -> list[RunRow]:
    """Read what is queued or running now, oldest first."""
    where = _where(wanted)
    where.add("r.status IN ('queued', 'running')")
    rows = await db.fetch(
        f"""SELECT {COLUMNS} FROM nomaflow.runs r WHERE {where.sql}
            ORDER BY r.queued_at, r.id LIMIT {limit}""",
        *where.values,
    )
    return [RunRow(*row) for row in rows]


async def matching(
    db: Connection | Database, ids: Sequence[UUID], wanted: RunFilter
) -> list[RunRow]:
    """Read those of the runs that the filter lets through, oldest first."""
    where = _where(wanted)
    where.add("r.id = ANY ({}::uuid[])", list(ids))
    rows = await db.fetch(
        f"""SELECT {COLUMNS} FROM nomaflow.runs r WHERE {where.sql}
            ORDER BY r.queued_at, r.id""",
        *where.values,
    )
    return [RunRow(*row) for row in rows]
