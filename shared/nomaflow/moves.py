"""What follows from what happened to a run: each function decides one Move, purely.

`store.runs.apply` writes a Move by one compare-and-set; if the row has gone elsewhere meanwhile,
nothing is written and the caller has lost the race.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nomaflow import retry
from nomaflow.errors import Failure
from nomaflow.lifecycle import (
    FINAL_STEP,
    MAX_INTERRUPTIONS,
    SKIPPED_EARLIER_FAILED,
    SKIPPED_RUN_ABORTED,
    Held,
    Move,
    Onward,
    Result,
    RunStatus,
    StepChange,
    StepState,
    StepStatus,
)

if TYPE_CHECKING:
    from nomaflow.retry import RetryPolicy

R, S = RunStatus, StepStatus


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
    return finish(held, closing, *passed)


def finish(held: Held, *closing: StepChange) -> Move:
    """End a run that has no link left to open: `partial` where one left something undone."""
    links: tuple[StepState | StepChange, ...] = (*held.steps, *closing)
    undone = [why for link in links if (why := _undone(link))]
    if undone:
        return _move(held, R.PARTIAL, *closing, reason="partial: " + ", ".join(undone))
    return _move(held, R.SUCCEEDED, *closing)


def _undone(link: StepState | StepChange) -> str | None:
    if link.status is S.FAILED:
        return f"step `{link.name}` failed"
    if link.status is S.SUCCEEDED and link.reason:
        return f"step `{link.name}`: {link.reason}"
    return None


def succeed(held: Held, result: Result, onward: Onward) -> Move:
    """Close the running link as succeeded and go on (or finish)."""
    step = _running(held)
    closing = _change(
        step,
        S.SUCCEEDED,
        reason=result.reason,
        watermarks=result.watermarks,
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
    facts: dict[str, Any] = {
        "error": Failure("Interrupted", why).as_json(),
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


def stand_aside(held: Held, why: str) -> Move:
    """Hand back a run whose step only waits for another run: the same try waits on elsewhere."""
    step = _running(held)
    waiting = _change(step, S.RETRYING, attempt=step.attempt - 1, tries=step.tries - 1, reason=why)
    return _move(held, R.QUEUED, waiting, reason=why)


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


def report(held: Held, failure: Failure | None) -> Move:
    """End a run that was executed elsewhere, as its script reports it (Z02)."""
    if failure is None:
        return _move(held, R.SUCCEEDED)
    return _move(held, R.FAILED, reason=failure.message, error=failure.as_json())


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


def _running(held: Held) -> StepState:
    step = held.current
    if step is None or step.status is not S.RUNNING:
        msg = "there is no running step"
        raise ValueError(msg)
    return step
