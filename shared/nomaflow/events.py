"""What listeners of a run hear: four kinds, each told only after history holds it.

A cursor is the number of the last thing heard of that run; log lines and events share one count,
so a listener that comes back with its cursor misses nothing and hears nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class RunChanged:
    """The run went to another status."""

    run_id: UUID
    seq: int
    at: datetime
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class StepChanged:
    """A link of the chain went to another status."""

    run_id: UUID
    seq: int
    at: datetime
    step: str
    position: int
    status: str
    attempt: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class StepProgressed:
    """A link tells how far it has come: done, total, unit, message (rows, bytes, pages)."""

    run_id: UUID
    seq: int
    at: datetime
    step: str
    progress: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the run's log; `step` is None for the engine's own words about the run."""

    seq: int
    at: datetime
    level: str
    step: str | None
    message: str


@dataclass(frozen=True, slots=True)
class LogsWritten:
    """Lines that became part of history together; `seq` is the last line's."""

    run_id: UUID
    seq: int
    at: datetime
    lines: tuple[LogLine, ...]


Event: TypeAlias = RunChanged | StepChanged | StepProgressed | LogsWritten


def from_row(run_id: UUID, seq: int, at: datetime, kind: str, payload: Mapping[str, Any]) -> Event:
    """Read one stored event back into its type; an unknown kind is a programming error."""
    match kind:
        case "run":
            return RunChanged(run_id, seq, at, payload["status"], payload.get("reason"))
        case "step":
            return StepChanged(
                run_id,
                seq,
                at,
                payload["step"],
                payload["position"],
                payload["status"],
                payload["attempt"],
                payload.get("reason"),
            )
        case "progress":
            return StepProgressed(run_id, seq, at, payload["step"], payload["progress"])
        case _:
            msg = f"unknown kind of event: {kind}"
            raise ValueError(msg)
