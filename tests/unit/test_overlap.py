"""What a newcomer does while others of its job are in flight."""

from uuid import UUID

import pytest

from nomaflow import overlap
from nomaflow.overlap import InFlight

A = InFlight(UUID(int=1), running=True, started=True)
B = InFlight(UUID(int=2), running=False, started=False)
WAITING_OUT_A_RETRY = InFlight(UUID(int=3), running=False, started=True)


@pytest.mark.parametrize("policy", ["skip", "queue", "allow", "replace"])
def test_alone_every_policy_admits(policy):
    verdict = overlap.decide(policy, 1, [])
    assert verdict.refusal is None
    assert verdict.replaces == ()


def test_skip_gives_way_to_a_queued_run_too():
    assert overlap.decide("skip", 1, [B]).refusal == "skipped: previous run still running"


def test_queue_waits_its_turn_up_to_its_depth():
    assert overlap.decide("queue", 1, [A]).refusal is None
    assert overlap.decide("queue", 1, [A]).serial
    assert overlap.decide("queue", 1, [A, B]).refusal == (
        "skipped: 1 already waiting (queue_depth = 1)"
    )
    assert overlap.decide("queue", 2, [A, B]).refusal is None


def test_a_run_that_waits_out_a_retry_has_its_turn_and_does_not_count_as_waiting():
    assert overlap.decide("queue", 1, [WAITING_OUT_A_RETRY]).refusal is None


def test_replace_ends_the_others_and_follows_them():
    verdict = overlap.decide("replace", 1, [A, B])
    assert verdict.replaces == (A, B)
    assert verdict.serial


def test_allow_lets_all_run():
    verdict = overlap.decide("allow", 1, [A, B])
    assert verdict == overlap.Admission()
