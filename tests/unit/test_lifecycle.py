"""The law of a run's life, edge by edge: decided purely, so tested without any I/O."""

from dataclasses import replace
from itertools import product
from uuid import UUID

import pytest

from nomaflow import lifecycle, moves
from nomaflow.errors import Failure
from nomaflow.lifecycle import (
    FINAL_RUN,
    FINAL_STEP,
    RUN_EDGES,
    STEP_EDGES,
    Held,
    Move,
    Onward,
    Result,
    RunStatus,
    StepChange,
    StepState,
    StepStatus,
)
from nomaflow.retry import RetryPolicy

RUN = UUID("01920000-0000-7000-8000-000000000001")
R, S = RunStatus, StepStatus


def held(*statuses: StepStatus, status: RunStatus = R.RUNNING, attempt: int = 1) -> Held:
    steps = tuple(
        StepState(
            i,
            f"step-{i}",
            s,
            attempt=0 if s is S.PENDING else attempt,
            tries=0 if s is S.PENDING else attempt,
        )
        for i, s in enumerate(statuses)
    )
    return Held(RUN, 7, status, steps)


DONE = Result({"rows": 1}, "1 row", 1)
BROKEN = Failure("RuntimeError", "no luck")


@pytest.mark.parametrize(("was", "to"), list(product(RunStatus, RunStatus)))
def test_a_run_moves_along_the_drawn_edges_only(was, to):
    def make():
        return Move(run_id=RUN, fence=1, was=was, status=to)

    if to in RUN_EDGES[was] or to is was:
        assert make().status is to
    else:
        with pytest.raises(ValueError, match="never goes"):
            make()


@pytest.mark.parametrize(("was", "to"), list(product(StepStatus, StepStatus)))
def test_a_step_moves_along_the_drawn_edges_only(was, to):
    def make():
        return StepChange(
            position=0, name="x", was=was, status=to, attempt=1, tries=1, interruptions=0
        )

    if to in STEP_EDGES[was]:
        assert make().status is to
    else:
        with pytest.raises(ValueError, match="never goes"):
            make()


def test_final_states_are_the_ones_without_a_way_on():
    assert {R.SUCCEEDED, R.PARTIAL, R.FAILED, R.ABORTED, R.SKIPPED} == FINAL_RUN
    assert {S.SUCCEEDED, S.FAILED, S.ABORTED, S.SKIPPED} == FINAL_STEP


def test_success_opens_the_next_step_in_the_same_move():
    run = held(S.RUNNING, S.PENDING)
    move = moves.succeed(run, DONE, Onward(opens=1, input={"a": 1}))
    assert [(c.position, c.status) for c in move.steps] == [(0, S.SUCCEEDED), (1, S.RUNNING)]
    assert move.status is R.RUNNING
    assert move.steps[1].attempt == 1
    after = run.after(move)
    assert after.current is not None
    assert after.current.name == "step-1"


def test_the_last_success_ends_the_run_and_the_run_is_told_last():
    move = moves.succeed(held(S.SUCCEEDED, S.RUNNING), DONE, Onward())
    assert move.status is R.SUCCEEDED
    assert move.rows_affected == 1
    assert [e["kind"] for e in move.events()] == ["step", "run"]


def test_a_step_passed_over_is_recorded_with_its_reason():
    run = held(S.RUNNING, S.PENDING, S.PENDING)
    move = moves.succeed(run, DONE, Onward(((1, lifecycle.SKIPPED_CONDITION),), opens=2))
    assert [(c.position, c.status) for c in move.steps] == [
        (0, S.SUCCEEDED),
        (1, S.SKIPPED),
        (2, S.RUNNING),
    ]
    assert move.steps[1].reason == "skipped: condition is false"


def test_two_attempts_are_one_retry_then_the_run_fails_and_the_rest_is_skipped():
    policy = RetryPolicy(attempts=2, base_seconds=60)
    run = held(S.SUCCEEDED, S.RUNNING, S.PENDING)
    again = moves.fail(run, BROKEN, policy)
    assert again.status is R.RUNNING
    assert again.steps[0].status is S.RETRYING
    assert again.steps[0].reason == "attempt 2 of 2 in 60 s"
    assert again.wait_seconds == 60
    run = run.after(again)
    run = run.after(moves.reopen(run))
    assert run.current is not None
    assert run.current.attempt == 2
    last = moves.fail(run, BROKEN, policy)
    assert last.status is R.FAILED
    assert [(c.position, c.status) for c in last.steps] == [(1, S.FAILED), (2, S.SKIPPED)]
    assert last.steps[1].reason == "skipped: earlier step failed"
    assert last.reason == "step `step-1` failed: no luck"


def test_what_cannot_get_better_is_not_tried_again():
    policy = RetryPolicy(attempts=5)
    move = moves.fail(held(S.RUNNING), replace(BROKEN, retryable=False), policy)
    assert move.status is R.FAILED


def test_continue_on_error_goes_on_and_the_run_ends_partial():
    run = held(S.RUNNING, S.PENDING)
    move = moves.fail(run, BROKEN, RetryPolicy(), continue_on_error=True, onward=Onward(opens=1))
    assert move.status is R.RUNNING
    run = run.after(move)
    end = moves.succeed(run, DONE, Onward())
    assert end.status is R.PARTIAL
    assert end.reason == "partial: step `step-0` failed"


def test_what_a_step_left_undone_makes_the_run_partial_even_when_later_ones_succeed():
    undone = replace(DONE, reason="1 batch failed", watermarks={"last": "now"})
    now = held(S.RUNNING, S.PENDING)
    first = moves.succeed(now, undone, Onward(opens=1))
    assert (first.status, first.steps[0].reason) == (R.RUNNING, "1 batch failed")
    last = moves.succeed(now.after(first), DONE, Onward())
    assert (last.status, last.steps[0].status) == (R.PARTIAL, S.SUCCEEDED)
    assert last.reason == "partial: step `step-0`: 1 batch failed"


def test_abort_ends_the_running_step_and_skips_the_rest():
    move = moves.abort(held(S.SUCCEEDED, S.RUNNING, S.PENDING), "aborted by api")
    assert move.status is R.ABORTED
    assert [(c.position, c.status) for c in move.steps] == [(1, S.ABORTED), (2, S.SKIPPED)]
    assert move.steps[0].ended_try is S.ABORTED


def test_abort_of_a_queued_run_that_waits_for_a_retry():
    run = held(S.SUCCEEDED, S.RETRYING, status=R.QUEUED)
    move = moves.abort(run, "aborted by api")
    assert [(c.position, c.status, c.ended_try) for c in move.steps] == [(1, S.ABORTED, None)]


def test_an_interrupted_repeatable_step_uses_up_no_attempt():
    run = held(S.RUNNING, S.PENDING)
    move = moves.interrupt(run, RetryPolicy(), repeatable=True, why="its worker is gone")
    change = move.steps[0]
    assert (change.status, change.attempt, change.tries, change.interruptions) == (
        S.RUNNING,
        1,
        2,
        1,
    )
    assert change.ended_try is S.FAILED


def test_an_interrupted_step_that_may_not_repeat_has_had_one_failed_try():
    once = moves.interrupt(
        held(S.RUNNING), RetryPolicy(), repeatable=False, why="its worker is gone"
    )
    assert once.status is R.FAILED
    assert once.reason == "step `step-0` interrupted: its worker is gone"
    more = moves.interrupt(
        held(S.RUNNING), RetryPolicy(attempts=2), repeatable=False, why="its worker is gone"
    )
    assert more.steps[0].status is S.RETRYING


def test_three_interruptions_of_one_step_are_poison():
    run = held(S.RUNNING)
    for _ in range(2):
        move = moves.interrupt(run, RetryPolicy(), repeatable=True, why="its worker is gone")
        run = run.after(move)
    end = moves.interrupt(run, RetryPolicy(), repeatable=True, why="its worker is gone")
    assert end.status is R.FAILED
    assert end.reason == "step `step-0` interrupted 3 times: its worker is gone"


def test_a_draining_worker_hands_over_at_a_boundary():
    run = held(S.RUNNING, S.PENDING)
    words = "handed back: its worker is stopping"
    move = moves.hand_over(moves.succeed(run, DONE, Onward(opens=1)), words)
    assert move.status is R.QUEUED
    assert [(c.position, c.status) for c in move.steps] == [(0, S.SUCCEEDED)]
    last = moves.hand_over(moves.succeed(held(S.RUNNING), DONE, Onward()), words)
    assert last.status is R.SUCCEEDED


def test_a_draining_worker_begins_no_other_try():
    run = held(S.RETRYING, S.PENDING)
    move = moves.hand_over(moves.reopen(run), "handed back")
    assert (move.status, move.steps) == (R.QUEUED, ())


def test_a_run_that_cannot_be_carried_on_ends_wherever_it_is():
    failure = Failure.of(RuntimeError("no such revision"))
    for statuses, after in (
        ((S.RUNNING, S.PENDING), [S.FAILED, S.SKIPPED]),
        ((S.SUCCEEDED, S.RETRYING), [S.FAILED]),
        ((S.SUCCEEDED, S.PENDING), [S.SKIPPED]),
        ((S.SUCCEEDED, S.SKIPPED), []),
    ):
        move = moves.give_up(held(*statuses), failure)
        assert move.status is R.FAILED
        assert "no such revision" in move.reason
        assert [c.status for c in move.steps] == after


def test_a_surrendered_repeatable_step_is_tried_again_as_the_same_attempt():
    run = held(S.RUNNING, attempt=2)
    move = moves.surrender(
        run, RetryPolicy(attempts=3), repeatable=True, why="its worker is stopping"
    )
    assert move.status is R.QUEUED
    (step,) = move.steps
    assert (step.status, step.attempt, step.tries) == (S.RETRYING, 1, 2)


def test_a_run_without_a_step_to_open_succeeds():
    assert moves.finish(held(S.SKIPPED)).status is R.SUCCEEDED
