"""The law of a run's life: every status change is a Move, decided here and written elsewhere.

Nothing here reads a clock, a database or a queue. A function takes what is known of a run (`Held`)
and what happened, and answers with the `Move` that says what to write. `store.runs.apply` writes
it by one compare-and-set; if the row has gone elsewhere meanwhile, nothing is written and the
caller has lost the race.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nomaflow import retry

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.errors import Failure
    from nomaflow.retry import RetryPolicy

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
        return replace(
            self,
            status=move.status,
            steps=tuple(
                replace(
                    s,
                    status=c.status,
                    attempt=c.attempt,
                    tries=c.tries,
                    interruptions=c.interruptions,
                    reason=c.reason,
                )
                if (c := changed.get(s.position))
                else s
                for s in self.steps
            ),
        )


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


@dataclass(frozen=True, slots=True)
class Onward:
    """What comes after a link: links passed over with their reasons, then the next to open."""

    skips: tuple[tuple[int, str], ...] = ()
    opens: int | None = None
    input: Any = None


def _change(state: StepState, status: StepStatus, **facts: Any) -> StepChange:
    base: dict[str, Any] = {
        "attempt": state.attempt,
        "tries": state.tries,
        "interruptions": state.interruptions,
    }
    return StepChange(
        position=state.position, name=state.name, was=state.status, status=status, **(base | facts)
    )


def _opening(state: StepState, shown: Any = None) -> StepChange:
    return _change(state, S.RUNNING, attempt=state.attempt + 1, tries=state.tries + 1, input=shown)


def _move(held: Held, status: RunStatus, *steps: StepChange, **facts: Any) -> Move:
    return Move(
        run_id=held.run_id, fence=held.fence, was=held.status, status=status, steps=steps, **facts
    )


def _rest(held: Held, after: int, reason: str) -> tuple[StepChange, ...]:
    """Record every later link that never ran as skipped (reference: remaining steps are rows)."""
    return tuple(
        _change(s, S.SKIPPED, reason=reason)
        for s in held.steps
        if s.position > after and s.status in {S.PENDING, S.RETRYING}
    )


def _onward(held: Held, closing: StepChange, onward: Onward) -> Move:
    """Close one link and open the next in one move, or finish the run where none is left."""
    by_position = {s.position: s for s in held.steps}
    passed = tuple(_change(by_position[p], S.SKIPPED, reason=reason) for p, reason in onward.skips)
    if onward.opens is not None:
        opened = _opening(by_position[onward.opens], onward.input)
        return _move(held, R.RUNNING, closing, *passed, opened)
    failed = [s.name for s in held.steps if s.status is S.FAILED]
    if closing.status is S.FAILED:
        failed.append(closing.name)
    if failed:
        reason = "partial: " + ", ".join(f"step `{name}` failed" for name in failed)
        return _move(held, R.PARTIAL, closing, *passed, reason=reason)
    return _move(held, R.SUCCEEDED, closing, *passed)


def succeed(held: Held, result: Result, onward: Onward) -> Move:
    """Close the running link as succeeded and go on (or finish)."""
    step = _running(held)
    closing = _change(
        step,
        S.SUCCEEDED,
        input=result.input,
        output=result.output,
        whole_output=result.whole_output,
        summary=result.summary,
        rows_affected=result.rows_affected,
        ended_try=S.SUCCEEDED,
    )
    return _onward(held, closing, onward)


def skip(held: Held, reason: str, onward: Onward) -> Move:
    """Pass over the link that the claim opened: its condition is false."""
    return _onward(held, _change(_running(held), S.SKIPPED, reason=reason), onward)


def finish(held: Held) -> Move:
    """End a run that has no link left to open (every one disabled)."""
    return _move(held, R.SUCCEEDED)


def fail(
    held: Held,
    failure: Failure,
    policy: RetryPolicy,
    *,
    shown: Any = None,
    output: Any = None,
    continue_on_error: bool = False,
    onward: Onward | None = None,
) -> Move:
    """Answer a failed try: another try under the policy (X02), go on, or stop the run (X01)."""
    step = _running(held)
    error = failure.as_json()
    facts: dict[str, Any] = {
        "input": shown,
        "output": output,
        "error": error,
        "ended_try": S.FAILED,
        "summary": failure.message,
    }
    if retry.may_retry(
        policy, failure.category, failure.retryable, step.attempt, failure.http_status
    ):
        return _again(held, step, policy, failure.retry_after, facts)
    if continue_on_error and onward is not None:
        return _onward(held, _change(step, S.FAILED, **facts), onward)
    return _move(
        held,
        R.FAILED,
        _change(step, S.FAILED, **facts),
        *_rest(held, step.position, SKIPPED_EARLIER_FAILED),
        reason=f"step `{step.name}` failed: {failure.message}",
        error=error,
    )


def _again(
    held: Held,
    step: StepState,
    policy: RetryPolicy,
    retry_after: float | None,
    facts: dict[str, Any],
) -> Move:
    wait = retry.wait_before(policy, step.attempt + 1, retry_after, f"{held.run_id}:{step.name}")
    reason = f"attempt {step.attempt + 1} of {policy.attempts} in {wait:g} s"
    return _move(
        held, R.RUNNING, _change(step, S.RETRYING, reason=reason, **facts), wait_seconds=wait
    )


def reopen(held: Held) -> Move:
    """Start the next try of the link that waits out its back-off."""
    step = held.current
    if step is None or step.status is not S.RETRYING:
        msg = "there is no step waiting for another try"
        raise ValueError(msg)
    return _move(held, R.RUNNING, _opening(step))


def release(held: Held, reason: str, *, not_before_seconds: float | None = None) -> Move:
    """Hand the run back to the queue between two links or tries; it stays in flight."""
    if held.current is not None and held.current.status is S.RUNNING:
        msg = "a run is not handed back while one of its steps runs"
        raise ValueError(msg)
    return _move(held, R.QUEUED, reason=reason, not_before_seconds=not_before_seconds)


def hand_over(move: Move, reason: str) -> Move:
    """Return the same move, but leave the link that it would open to another (X25, a drain)."""
    begun = [c for c in move.steps if c.status is S.RUNNING and c.was is not S.RUNNING]
    if not begun:
        return move
    closed = tuple(c for c in move.steps if c not in begun)
    return replace(move, status=R.QUEUED, reason=reason, steps=closed)


def interrupt(
    held: Held, policy: RetryPolicy, *, repeatable: bool, why: str, worker: str | None = None
) -> Move:
    """Answer a link whose worker is gone (seed 002: rolled back through the retry policy).

    A repeatable link starts again at once and uses up none of the user's tries; any other has
    had one failed try. Three interruptions without success end the run (poison). `worker` is
    the one that is gone.
    """
    step = _running(held)
    count = step.interruptions + 1
    error = {
        "type": "Interrupted",
        "message": why,
        "traceback": None,
        "retryable": True,
        "category": "error",
        "retry_after": None,
        "http_status": None,
    }
    facts: dict[str, Any] = {
        "error": error,
        "ended_try": S.FAILED,
        "interruptions": count,
        "worker": worker,
    }
    if count >= MAX_INTERRUPTIONS:
        return _stop_interrupted(held, step, facts, f"interrupted {count} times: {why}")
    if repeatable:
        again = _change(
            step, S.RUNNING, tries=step.tries + 1, reason=f"interrupted: {why}", **facts
        )
        return _move(held, R.RUNNING, again, interruptions=1)
    if step.attempt < policy.attempts:
        return replace(_again(held, step, policy, None, facts), interruptions=1)
    return _stop_interrupted(held, step, facts, f"interrupted: {why}")


def surrender(held: Held, policy: RetryPolicy, *, repeatable: bool, why: str) -> Move:
    """Give up a link that did not end within the drain time, and the run with it, to the queue."""
    move = interrupt(held, policy, repeatable=repeatable, why=why)
    if move.is_final:
        return move
    (step,) = move.steps
    if step.status is S.RUNNING:  # nobody runs it now: the next claim opens the same try again
        step = replace(step, status=S.RETRYING, attempt=step.attempt - 1, tries=step.tries - 1)
    return replace(
        move,
        status=R.QUEUED,
        reason=f"handed back: {why}",
        steps=(step,),
        not_before_seconds=move.wait_seconds or None,
    )


def _stop_interrupted(held: Held, step: StepState, facts: dict[str, Any], reason: str) -> Move:
    return _move(
        held,
        R.FAILED,
        _change(step, S.FAILED, reason=reason, summary=reason, **facts),
        *_rest(held, step.position, SKIPPED_EARLIER_FAILED),
        reason=f"step `{step.name}` {reason}",
        error=facts["error"],
        interruptions=1,
    )


def give_up(held: Held, failure: Failure) -> Move:
    """End a run that the engine itself cannot carry on, wherever it is."""
    step = held.current
    if step is not None and step.status is S.RUNNING:
        return fail(held, failure, retry.RetryPolicy())
    reason, error = f"it could not be carried on: {failure.message}", failure.as_json()
    steps = tuple(
        _change(s, S.FAILED, reason=reason, error=error)
        if s.status is S.RETRYING
        else _change(s, S.SKIPPED, reason=SKIPPED_EARLIER_FAILED)
        for s in held.steps
        if s.status not in FINAL_STEP
    )
    return _move(held, R.FAILED, *steps, reason=reason, error=error)


def abort(held: Held, reason: str, *, shown: Any = None) -> Move:
    """End a queued or running run because someone asked, or its own time is up (X13, X20)."""
    steps = tuple(
        _change(s, S.ABORTED, reason=reason, input=shown, ended_try=S.ABORTED)
        if s.status is S.RUNNING
        else _change(s, S.ABORTED, reason=reason)
        if s.status is S.RETRYING
        else _change(s, S.SKIPPED, reason=SKIPPED_RUN_ABORTED)
        for s in held.steps
        if s.status not in FINAL_STEP
    )
    return _move(held, R.ABORTED, *steps, reason=reason)


def abort_words(by: str | None, reason: str | None) -> str:
    """Say who ended a run and why, as its history keeps it."""
    who = f"aborted by {by or 'unknown'}"
    return f"{who}: {reason}" if reason else who


def _running(held: Held) -> StepState:
    step = held.current
    if step is None or step.status is not S.RUNNING:
        msg = "there is no running step"
        raise ValueError(msg)
    return step
