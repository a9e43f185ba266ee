"""Steps of runs and their tries as history shows them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nomaflow.store.database import Connection, Database

StepKey = tuple[UUID, int]
"""A run and the position of one of its steps."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One link's execution, without what can be big."""

    run_id: UUID
    position: int
    name: str
    type: str
    status: str
    reason: str | None
    tries: int
    try_started_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    summary: str
    rows_affected: int | None
    progress: Mapping[str, Any] | None
    error: Mapping[str, Any] | None

    @property
    def key(self) -> StepKey:
        """Return what names this step among all."""
        return (self.run_id, self.position)


@dataclass(frozen=True, slots=True)
class Details:
    """What went in and what came out: as history keeps it, secrets masked."""

    input: Any
    output: Any


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try that has ended, or the one that is running."""

    number: int
    status: str
    started_at: datetime
    finished_at: datetime | None
    error: Mapping[str, Any] | None
    worker: str | None


COLUMNS = ", ".join(f"s.{f.name}" for f in fields(StepRow))


async def of_runs(db: Connection | Database, run_ids: Sequence[UUID]) -> dict[UUID, list[StepRow]]:
    """Read the steps of each run in the order of the chain."""
    rows = await db.fetch(
        f"""SELECT {COLUMNS} FROM nomaflow.step_runs s
            WHERE s.run_id = ANY ($1::uuid[]) ORDER BY s.run_id, s.position""",
        list(run_ids),
    )
    found: defaultdict[UUID, list[StepRow]] = defaultdict(list)
    for row in rows:
        found[row["run_id"]].append(StepRow(*row))
    return found


_ASKED = "unnest($1::uuid[], $2::int[]) AS asked (run_id, position)"


def _columns(keys: Sequence[StepKey]) -> tuple[list[UUID], list[int]]:
    return [run_id for run_id, _ in keys], [position for _, position in keys]


async def find(db: Connection | Database, keys: Sequence[StepKey]) -> dict[StepKey, StepRow]:
    """Read single steps."""
    rows = await db.fetch(
        f"""SELECT {COLUMNS} FROM {_ASKED}
            JOIN nomaflow.step_runs s USING (run_id, position)""",
        *_columns(keys),
    )
    return {(row["run_id"], row["position"]): StepRow(*row) for row in rows}


async def details(db: Connection | Database, keys: Sequence[StepKey]) -> dict[StepKey, Details]:
    """Read inputs and outputs, which only those who ask for them should pay for."""
    rows = await db.fetch(
        f"""SELECT run_id, position, s.input, s.output FROM {_ASKED}
            JOIN nomaflow.step_runs s USING (run_id, position)""",
        *_columns(keys),
    )
    return {(r["run_id"], r["position"]): Details(r["input"], r["output"]) for r in rows}


async def attempts(
    db: Connection | Database, keys: Sequence[StepKey]
) -> dict[StepKey, list[AttemptRow]]:
    """Read the tries of each step, first to last, with the one that is running."""
    rows = await db.fetch(
        f"""SELECT run_id, position, a.number, a.status,
              coalesce(a.started_at, a.finished_at) AS started_at, a.finished_at, a.error, a.worker
            FROM {_ASKED} JOIN nomaflow.attempts a USING (run_id, position)
            UNION ALL
            SELECT s.run_id, s.position, s.tries, s.status, s.try_started_at, NULL, NULL, r.worker
            FROM {_ASKED} JOIN nomaflow.step_runs s USING (run_id, position)
            JOIN nomaflow.runs r ON r.id = s.run_id WHERE s.status = 'running'
            ORDER BY number""",
        *_columns(keys),
    )
    found: defaultdict[StepKey, list[AttemptRow]] = defaultdict(list)
    for run_id, position, *attempt in rows:
        found[run_id, position].append(AttemptRow(*attempt))
    return found
