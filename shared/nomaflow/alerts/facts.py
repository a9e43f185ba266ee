"""What an alert tells of a run, as the outbox keeps it until it is delivered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

LONGEST_ERROR = 4_000
"""Characters of an error that travel with an alert; the whole of it stays in the run's history."""


class Event(StrEnum):
    """What happened: it failed after its last retry, takes too long, or gives no sign of life."""

    FAILED = "failed"
    LONG_RUN = "long_run"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One run as its alert describes it; texts are masked already."""

    run_id: UUID
    job_name: str
    app: str
    tags: Sequence[str]
    state: str
    triggered_by: str
    trigger: str
    started_at: datetime | None
    finished_at: datetime | None
    failing_step: str | None = None
    error: str | None = None
    url: str = ""

    def payload(self, event: Event, **more: Any) -> dict[str, Any]:
        """The object a generic webhook receives; times are RFC 3339 in UTC."""
        return {
            "event": event.value,
            "job_id": self.job_name,
            "job_name": self.job_name,
            "app": self.app,
            "tags": list(self.tags),
            "run_id": str(self.run_id),
            "state": self.state,
            "triggered_by": self.triggered_by,
            "started_at": written(self.started_at),
            "finished_at": written(self.finished_at),
            "step": self.failing_step,
            "error": shortened(self.error),
            "url": self.url,
            **more,
        }


def written(at: datetime | None) -> str | None:
    """Write an instant as RFC 3339 in UTC with milliseconds."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shortened(text: str | None) -> str | None:
    """Cut an error that is too long for a message, and say so."""
    if text is None or len(text) <= LONGEST_ERROR:
        return text
    return text[:LONGEST_ERROR] + " ... (cut; the whole error is in the run's history)"


def run_url(base: str, run_id: UUID) -> str:
    """Address of a run's page; empty when the installation does not know its own address."""
    return f"{base.rstrip('/')}/runs/{run_id}" if base else ""
