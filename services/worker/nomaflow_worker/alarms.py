"""The alerts a run's last move asks for, as outbox rows of the move's own transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nomaflow.alerts import decide, facts
from nomaflow.lifecycle import StepStatus

if TYPE_CHECKING:
    from nomaflow.job.spec import JobSpec
    from nomaflow.lifecycle import Move
    from nomaflow.store.claims import Claimed
    from nomaflow.store.transitions import NewDelivery
    from nomaflow_worker.tools import Tools


def on_final(
    tools: Tools, claimed: Claimed, spec: JobSpec | None, move: Move
) -> tuple[NewDelivery, ...]:
    """Decide who is told of this end; nobody when the job has no alerts."""
    if spec is None or spec.alerts is None:
        return ()
    failing = next((c.name for c in move.steps if c.status is StepStatus.FAILED), None)
    told = facts.RunFacts(
        run_id=claimed.run_id,
        job_name=claimed.job_name,
        app=spec.app,
        tags=spec.tags,
        state=move.status.value,
        triggered_by=claimed.triggered_by,
        trigger=claimed.trigger,
        started_at=claimed.started_at,
        finished_at=datetime.now(UTC),
        failing_step=failing,
        error=(move.error or {}).get("message"),
        url=facts.run_url(tools.url, claimed.run_id),
    )
    return tuple(decide.on_finish(spec.alerts, told, tools.project.alerts()))
