"""One sweep through old history, in batches, under a claim like any run's."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nomaflow.store import leases, logs, processes, pruning
from nomaflow.store.transitions import Line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Database

RUNS_AT_A_TIME = 200
ROWS_AT_A_TIME = 10_000


@dataclass(slots=True)
class Counts:
    """What was deleted, table by table."""

    runs: int = 0
    steps: int = 0
    log_lines: int = 0
    events: int = 0
    slots: int = 0
    alerts: int = 0

    def summary(self) -> str:
        """Say it in one line."""
        return ", ".join(f"{name.replace('_', ' ')}: {n}" for name, n in asdict(self).items())


class LostError(Exception):
    """The claim on this run is gone: another scheduler has it, and goes on with it."""


class AbortedError(Exception):
    """Someone asked to stop; the words say who."""


@dataclass(slots=True)
class Sweep:
    """A prune run in the hands of this scheduler."""

    db: Database
    bell: Bell
    owner: str
    run_id: UUID
    fence: int
    lease_seconds: float
    counts: Counts = field(default_factory=Counts)

    async def run(self, cutoff: datetime) -> Counts:
        """Delete what ended before `cutoff`; LostError, AbortedError between two batches."""
        await self.say(f"pruning runs that ended before {cutoff:%Y-%m-%d %H:%M:%S} UTC")
        while batch := await pruning.aged_runs(self.db, cutoff, RUNS_AT_A_TIME):
            self.counts.log_lines += await self._emptied(pruning.delete_log_lines, batch)
            self.counts.events += await self._emptied(pruning.delete_events, batch)
            runs, steps = await pruning.delete_runs(self.db, cutoff, batch)
            self.counts.runs += runs
            self.counts.steps += steps
            await self._told()
        await self._slots(cutoff)
        while gone := await pruning.delete_deliveries(self.db, cutoff, ROWS_AT_A_TIME):
            self.counts.alerts += gone
            await self._still_ours()
        await processes.sweep(self.db)
        await self.say(f"pruned {self.counts.summary()}")
        return self.counts

    async def say(self, words: str) -> None:
        """Write one line into the run's log."""
        line = Line(datetime.now(UTC), logging.INFO, STEP, words)
        await self._heard(await logs.append(self.db, self.run_id, self.fence, [line]))

    async def _emptied(
        self,
        delete: Callable[[Database, Sequence[UUID], int], Awaitable[int]],
        batch: Sequence[UUID],
    ) -> int:
        total = 0
        while gone := await delete(self.db, batch, ROWS_AT_A_TIME):
            total += gone
            await self._still_ours()
        return total

    async def _slots(self, cutoff: datetime) -> None:
        for schedule_id in await pruning.schedules_with_aged_slots(self.db, cutoff):
            while gone := await pruning.delete_slots(self.db, schedule_id, cutoff, ROWS_AT_A_TIME):
                self.counts.slots += gone
                await self._still_ours()

    async def _told(self) -> None:
        await self._still_ours()
        done = {"done": self.counts.runs, "total": None, "unit": "runs", "message": None}
        await self._heard(await logs.progress(self.db, self.run_id, self.fence, 0, done))

    async def _still_ours(self) -> None:
        held = await leases.renew(
            self.db, self.owner, {self.run_id: self.fence}, self.lease_seconds
        )
        ours = next(iter(held), None)
        if ours is None:
            raise LostError
        if ours.abort_requested_by is not None:
            words = f"aborted by {ours.abort_requested_by}"
            raise AbortedError(f"{words}: {ours.abort_reason}" if ours.abort_reason else words)

    async def _heard(self, seq: int | None) -> None:
        if seq is None:
            raise LostError
        self.bell.news(self.run_id, seq)


STEP = "prune"
"""The one step of a prune run."""
