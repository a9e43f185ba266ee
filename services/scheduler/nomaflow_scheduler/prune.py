"""Retention: once a day, at 03:00, a visible run deletes history older than HISTORY_DAYS (G10).

The run is born under a key of its day, so that several schedulers prune once; it is claimed and
leased like any other, so that one whose scheduler died is finished by another.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from asyncpg import UniqueViolationError

from nomaflow import moves
from nomaflow.clock import schedule
from nomaflow.errors import Failure
from nomaflow.lifecycle import Onward, Result, StepStatus
from nomaflow.retry import RetryPolicy
from nomaflow.store import births, claims, pruning, runs
from nomaflow_scheduler.sweep import STEP, AbortedError, LostError, Sweep

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.lifecycle import Held, Move
    from nomaflow.store.claims import Claimed
    from nomaflow.store.database import Database

log = structlog.get_logger(__name__)

JOB = "prune-history"
TAG = "_system"
"""The worker tag of runs that the scheduler itself carries out."""
CRON = "0 3 * * *"
ON_TIME = timedelta(minutes=5)
LEASE_SECONDS = 60.0
"""Longer than a worker's: it is renewed between two batches, and each batch is short."""

_ONCE = RetryPolicy()


def last_slot(timezone: str, at: datetime) -> datetime:
    """The latest 03:00 of that zone which is not after `at`, in UTC."""
    days = schedule.upcoming(CRON, timezone, at - timedelta(days=3), 5)
    return max(day for day in days if day <= at)


async def begin(
    db: Database, bell: Bell, *, timezone: str, history_days: int, at: datetime | None = None
) -> UUID | None:
    """Create today's run when it is time for it; None when there is nothing to create.

    At 03:00 it always is. After that, only when there is something to prune: a machine that is
    off at night still forgets, and a new installation does not begin with an empty sweep.
    """
    now = at or datetime.now(UTC)
    slot = last_slot(timezone, now)
    key = f"{slot.astimezone(schedule.zone(timezone)):%Y-%m-%d}"
    known = await db.fetchval(
        "SELECT 1 FROM nomaflow.runs WHERE job_name = $1 AND idempotency_key = $2", JOB, key
    )
    if known:
        return None
    cutoff = now - timedelta(days=history_days)
    if now - slot > ON_TIME and not await pruning.anything_aged(db, cutoff):
        return None
    born = births.NewRun(
        kind="system",
        job_name=JOB,
        trigger="cron",
        triggered_by="cron",
        schedule_name="daily",
        scheduled_for=slot,
        params={"history_days": history_days},
        worker_tag=TAG,
        idempotency_key=key,
        steps=[births.NewStep(STEP, STEP)],
    )
    try:
        async with db.transaction() as connection:
            run_id = await births.insert(connection, born)
    except UniqueViolationError:
        return None
    bell.news(run_id, 1, "queued")
    return run_id


async def carry_out(
    db: Database,
    bell: Bell,
    owner: str,
    *,
    history_days: int,
    lease_seconds: float = LEASE_SECONDS,
    at: datetime | None = None,
) -> int:
    """Claim and finish prune runs: the waiting one, and one whose scheduler died; how many."""
    finished = 0
    for expired in (True, False):
        claimed = await claims.claim(
            db, owner, limit=1, lease_seconds=lease_seconds, tags=[TAG], expired=expired
        )
        for run in claimed:
            bell.news(run.run_id, run.seq, "running")
            cutoff = (at or datetime.now(UTC)) - timedelta(days=history_days)
            sweep = Sweep(db, bell, owner, run.run_id, run.held.fence, lease_seconds)
            await _carry_out(run, sweep, cutoff, history_days)
            finished += 1
    return finished


async def _carry_out(run: Claimed, sweep: Sweep, cutoff: datetime, history_days: int) -> None:
    held = run.held
    if run.rescued:
        move = moves.interrupt(held, _ONCE, repeatable=True, why="its scheduler is gone")
        if not await _write(sweep, move) or move.is_final:
            return
        held = held.after(move)
    if run.kind != "system":
        refusal = RuntimeError(f"the worker tag `{TAG}` belongs to the scheduler's own runs")
        await _write(sweep, moves.fail(held, Failure.of(refusal), _ONCE))
        return
    try:
        counts = await sweep.run(cutoff)
    except LostError:
        log.warning("prune run lost to another scheduler", run_id=str(run.run_id))
    except AbortedError as error:
        await _write(sweep, moves.abort(held, str(error)))
    except asyncio.CancelledError:
        await _hand_back(sweep, held)
        raise
    except Exception as error:
        log.exception("prune failed", run_id=str(run.run_id))
        await _write(sweep, moves.fail(held, Failure.of(error), _ONCE))
    else:
        output = {
            "cutoff": cutoff.isoformat(timespec="seconds"),
            "history_days": history_days,
            **asdict(counts),
        }
        result = Result(output, counts.summary(), rows_affected=counts.runs)
        await _write(sweep, moves.succeed(held, result, Onward()))
        log.info("history pruned", **output)


async def _hand_back(sweep: Sweep, held: Held) -> None:
    """Give the run back to the queue: this scheduler is stopping, another one goes on."""
    if held.current is not None and held.current.status is StepStatus.RUNNING:
        why = "its scheduler is stopping"
        await _write(sweep, moves.surrender(held, _ONCE, repeatable=True, why=why))


async def _write(sweep: Sweep, move: Move) -> bool:
    seq = await runs.apply(sweep.db, move)
    if seq is not None:
        sweep.bell.news(move.run_id, seq, move.status.value)
    return seq is not None
