"""The retry policy: how often, how long, and after what."""

import pytest
from pydantic import ValidationError

from nomaflow import retry
from nomaflow.retry import RetryPolicy


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        ({"attempts": 4, "backoff": "exponential", "base_seconds": 30}, [30, 60, 120]),  # seed 000
        ({"attempts": 2, "backoff": "fixed", "base_seconds": 60}, [60]),  # seed 001
        ({"max_attempts": 3, "backoff": "exponential", "initial_delay_seconds": 60}, [60, 120]),
        ({"attempts": 7, "backoff": "exponential"}, [60, 120, 240, 480, 600, 600]),
        ({"attempts": 3, "backoff": "exponential", "max_seconds": 90}, [60, 90]),
        ({"attempts": 3, "base_seconds": 900}, [900, 900]),
        ({"attempts": 3, "backoff": "exponential", "base_seconds": 900}, [900, 900]),
        ({"attempts": 3, "base_seconds": 0}, [0, 0]),
        ({"attempts": 100, "backoff": "exponential", "base_seconds": 1}, [1, 2, 4, 8]),
    ],
)
def test_waits(policy, waits):
    policy = RetryPolicy.model_validate(policy)
    assert [retry.wait_before(policy, n + 2, None, "s") for n in range(len(waits))] == waits
    assert retry.wait_before(policy, policy.attempts, None, "s") < float("inf")


def test_jitter_lengthens_by_a_quarter_at_most_and_stays_the_same():
    policy = RetryPolicy(attempts=3, base_seconds=100, jitter=True)
    waits = [retry.wait_before(policy, 2, None, f"run-{n}") for n in range(50)]
    assert all(100 <= wait <= 125 for wait in waits)
    assert len(set(waits)) > 40
    assert retry.wait_before(policy, 2, None, "run-7") == waits[7]


@pytest.mark.parametrize(("asked", "wait"), [(None, 60), (5, 60), (300, 300), (1e9, 86_400)])
def test_a_server_may_ask_for_more(asked, wait):
    assert retry.wait_before(RetryPolicy(attempts=2), 2, asked, "s") == wait


@pytest.mark.parametrize(
    ("policy", "category", "retryable", "attempt", "status", "again"),
    [
        ({"attempts": 3}, "error", True, 1, None, True),
        ({"attempts": 3}, "error", True, 2, None, True),
        ({"attempts": 3}, "error", True, 3, None, False),
        ({}, "error", True, 1, None, False),
        ({"attempts": 3}, "error", False, 1, None, False),
        ({"attempts": 3, "retry_on": ["timeout"]}, "error", True, 1, None, False),
        ({"attempts": 3, "retry_on": ["timeout"]}, "timeout", True, 1, None, True),
        ({"attempts": 3, "retry_on": []}, "connection", True, 1, None, False),
        ({"attempts": 3, "no_retry_statuses": [401]}, "error", True, 1, 401, False),
        ({"attempts": 3, "no_retry_statuses": [401]}, "error", True, 1, 503, True),
    ],
)
def test_who_gets_another_try(policy, category, retryable, attempt, status, again):
    policy = RetryPolicy.model_validate(policy)
    assert retry.may_retry(policy, category, retryable, attempt, status) is again


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"attempts": 101}, {"base_seconds": -1}, {"backoff": "none"}, {"tries": 2}],
)
def test_wrong_policies(wrong):
    with pytest.raises(ValidationError):
        RetryPolicy.model_validate(wrong)
