"""Warns once of each run that takes longer than its job expects; the run goes on (A03)."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from nomaflow.alerts import decide, facts
from nomaflow.in_force import definitions
from nomaflow.store import deliveries, logs, long_runs
from nomaflow.store.transitions import Line

if TYPE_CHECKING:
    from nomaflow.alert_spec import Channels
    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Database
    from nomaflow.store.long_runs import LongRun

log = structlog.get_logger(__name__)


async def look(
    db: Database,
    bell: Bell,
    channels: Channels,
    *,
    url: str = "",
    at: datetime | None = None,
) -> int:
    """Warn of runs that are over their limit at `at` (None: now); answers how many."""
    warned = 0
    for run in await long_runs.unwarned(db, at):
        warned += await _warn(db, bell, channels, run, url, at)
    return warned


async def _warn(
    db: Database,
    bell: Bell,
    channels: Channels,
    run: LongRun,
    url: str,
    at: datetime | None,
) -> bool:
    spec = await definitions.of_run(db, run.job_id, run.job_revision)
    told = facts.RunFacts(
        run_id=run.id,
        job_name=run.job_name,
        app=spec.app,
        tags=spec.tags,
        state=run.status,
        triggered_by=run.triggered_by,
        trigger=run.trigger,
        started_at=run.started_at,
        finished_at=None,
        url=facts.run_url(url, run.id),
    )
    messages = decide.on_long_run(spec.alerts, told, channels, minutes=int(run.minutes))
    async with db.transaction() as connection:
        if not await long_runs.mark(connection, run.id):
            return False
        await deliveries.add(connection, run.id, messages)
        words = f"still running after {run.minutes:.0f} minutes; the job expects less (alert sent)"
        line = Line(at or datetime.now(UTC), logging.WARNING, None, words)
        seq = await logs.append(connection, run.id, run.fence, [line])
    if seq is not None:
        bell.news(run.id, seq)
    log.warning("run takes long", job=run.job_name, run_id=str(run.id), minutes=int(run.minutes))
    return True
