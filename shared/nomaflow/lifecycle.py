"""The law of a run's life: its states, the edges between them, and the Move along one edge.

A Move says what must still hold and everything to write; one along an edge that is not drawn
cannot be made. `moves` decides which one follows from what happened, `store.runs.apply` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID


MAX_INTERRUPTIONS = 3
"""A step whose worker died this often without finishing is poison: the run fails and says so."""


class RunStatus(StrEnum):
    """Where a run is. `queued` also covers a run that waits out a long back-off."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    ABORTED = "aborted"
    SKIPPED = "skipped"


class StepStatus(StrEnum):
    """Where one link of the chain is."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"
    SKIPPED = "skipped"


R, S = RunStatus, StepStatus

RUN_EDGES: dict[RunStatus, frozenset[RunStatus]] = {
    R.QUEUED: frozenset({R.RUNNING, R.FAILED, R.ABORTED}),
    R.RUNNING: frozenset({R.QUEUED, R.SUCCEEDED, R.PARTIAL, R.FAILED, R.ABORTED}),
    R.SUCCEEDED: frozenset(),
    R.PARTIAL: frozenset(),
    R.FAILED: frozenset(),
    R.ABORTED: frozenset(),
    R.SKIPPED: frozenset(),
}
STEP_EDGES: dict[StepStatus, frozenset[StepStatus]] = {
    S.PENDING: frozenset({S.RUNNING, S.SKIPPED, S.ABORTED}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.FAILED, S.RETRYING, S.ABORTED, S.SKIPPED, S.RUNNING}),
    S.RETRYING: frozenset({S.RUNNING, S.SKIPPED, S.ABORTED, S.FAILED}),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
    S.ABORTED: frozenset(),
    S.SKIPPED: frozenset(),
}
IN_FLIGHT = frozenset({R.QUEUED, R.RUNNING})
FINAL_RUN = frozenset(s for s, onward in RUN_EDGES.items() if not onward)
FINAL_STEP = frozenset(s for s, onward in STEP_EDGES.items() if not onward)

SKIPPED_DISABLED = "skipped: disabled"
SKIPPED_CONDITION = "skipped: condition is false"
SKIPPED_EARLIER_FAILED = "skipped: earlier step failed"
SKIPPED_RUN_ABORTED = "skipped: run aborted"
SKIPPED_OVERLAP = "skipped: previous run still running"


@dataclass(frozen=True, slots=True)
class StepState:
    """What is known of one link: `attempt` counts the user's tries, `tries` every start."""

    position: int
    name: str
    status: StepStatus = S.PENDING
    attempt: int = 0
    tries: int = 0
    interruptions: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A run as its owner knows it; `fence` is the number of the claim, and 0 before any."""

    run_id: UUID
    fence: int
    status: RunStatus
    steps: tuple[StepState, ...]

    @property
    def current(self) -> StepState | None:
        """The first link that is not over."""
        return next((s for s in self.steps if s.status not in FINAL_STEP), None)

    def after(self, move: Move) -> Held:
        """Return the same run once `move` was written."""
        changed = {c.position: c for c in move.steps}
        steps = tuple(
            StepState(s.position, s.name, c.status, c.attempt, c.tries, c.interruptions, c.reason)
            if (c := changed.get(s.position))
            else s
            for s in self.steps
        )
        return Held(self.run_id, self.fence, move.status, steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChange:
    """One link's part of a Move; None leaves input, output, summary and rows as they are."""

    position: int
    name: str
    was: StepStatus
    status: StepStatus
    attempt: int
    tries: int
    interruptions: int
    reason: str | None = None
    input: Any = None
    output: Any = None
    whole_output: Any = None
    summary: str | None = None
    rows_affected: int | None = None
    error: dict[str, Any] | None = None
    ended_try: StepStatus | None = None
    """Set when a try ended with this change: the status of its Attempt row."""
    worker: str | None = None
    """Who carried out that try, when it was not the one that writes this."""
    watermarks: dict[str, str] | None = None
    """What the link proposes: written by the move that ends the run, if it succeeded."""

    def __post_init__(self) -> None:
        """Refuse an edge that the drawing in docs/lifecycle.md does not have."""
        if self.status not in STEP_EDGES[self.was]:
            msg = f"a step never goes from {self.was} to {self.status}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One status change of a run, whole: what must still hold, and everything to write."""

    run_id: UUID
    fence: int
    was: RunStatus
    status: RunStatus
    reason: str | None = None
    steps: tuple[StepChange, ...] = ()
    error: dict[str, Any] | None = None
    not_before_seconds: float | None = None
    interruptions: int = 0
    wait_seconds: float = field(default=0.0, compare=False)
    """For the owner alone: how long to wait before `reopen`; nothing is written of it."""

    def __post_init__(self) -> None:
        """Refuse an edge that the drawing in docs/lifecycle.md does not have."""
        if self.status is not self.was and self.status not in RUN_EDGES[self.was]:
            msg = f"a run never goes from {self.was} to {self.status}"
            raise ValueError(msg)

    @property
    def is_final(self) -> bool:
        """True when the run is over with this move."""
        return self.status in FINAL_RUN

    @property
    def rows_affected(self) -> int | None:
        """Rows that this move adds to the run's total (X30); None when no step counted any."""
        counted = [c.rows_affected for c in self.steps if c.rows_affected is not None]
        return sum(counted) if counted else None

    def events(self) -> list[dict[str, Any]]:
        """What listeners hear once this is written: steps in order, then the run."""
        heard: list[dict[str, Any]] = [
            {
                "kind": "step",
                "step": c.name,
                "position": c.position,
                "status": c.status.value,
                "attempt": c.attempt,
                "reason": c.reason,
            }
            for c in self.steps
        ]
        if self.status is not self.was:
            heard.append({"kind": "run", "status": self.status.value, "reason": self.reason})
        return heard


@dataclass(frozen=True, slots=True)
class Result:
    """What a link did: its output as history keeps it, and whole when that is only a preview."""

    output: Any
    summary: str
    rows_affected: int | None = None
    input: Any = None
    whole_output: Any = None
    reason: str | None = None
    """Set when something was left undone: the link succeeded, its run will be `partial`."""
    watermarks: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Onward:
    """What comes after a link: links passed over with their reasons, then the next to open."""

    skips: tuple[tuple[int, str], ...] = ()
    opens: int | None = None
    input: Any = None


def abort_words(by: str | None, reason: str | None) -> str:
    """Say who ended a run and why, as its history keeps it."""
    who = f"aborted by {by or 'unknown'}"
    return f"{who}: {reason}" if reason else who
