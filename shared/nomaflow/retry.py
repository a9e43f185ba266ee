"""Whether a failed step is tried again, and how long to wait first."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from nomaflow.errors import Category

MOST_ATTEMPTS = 100
LONGEST_WAIT = 86_400.0
_JITTER = 0.25

Status = Annotated[int, Field(ge=100, le=599)]


class RetryPolicy(BaseModel):
    """How often a step is tried; a job has one for all its steps, a step may have its own.

    Seed 001: two attempts are one retry. Seed 000: exponential from 30 s waits 30, 60, 120 s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    attempts: int = Field(
        1,
        ge=1,
        le=MOST_ATTEMPTS,
        validation_alias=AliasChoices("attempts", "max_attempts"),
        description="Total tries: 1 means no retry, 2 means one retry. Also `max_attempts`.",
    )
    backoff: Literal["fixed", "exponential"] = Field(
        "fixed", description="`fixed` waits the same each time, `exponential` doubles the wait."
    )
    base_seconds: float = Field(
        60,
        ge=0,
        le=LONGEST_WAIT,
        validation_alias=AliasChoices("base_seconds", "initial_delay_seconds"),
        description="Seconds before the first retry. Also `initial_delay_seconds`.",
    )
    max_seconds: float = Field(
        600,
        ge=0,
        le=LONGEST_WAIT,
        description="The longest wait that doubling leads to, in seconds.",
    )
    jitter: bool = Field(
        default=False, description="Lengthen each wait by up to a quarter, so that retries spread."
    )
    retry_on: tuple[Category, ...] = Field(
        ("error", "timeout", "connection"),
        description="Kinds of failure that are tried again; an empty list means none.",
    )
    no_retry_statuses: tuple[Status, ...] = Field(
        (), description="HTTP statuses that are never tried again, such as 401 and 404."
    )


def wait_before(policy: RetryPolicy, attempt: int, retry_after: float | None, seed: str) -> float:
    """Return the seconds to wait before the try number `attempt` (2, 3, ...).

    A server's Retry-After lengthens the wait, up to a day. `seed` names the step run: with jitter
    the same seed and attempt give the same wait, so a restart does not change it.
    """
    wait = policy.base_seconds
    if policy.backoff == "exponential":
        doublings = min(attempt - 2, 64)
        wait = min(wait * 2.0**doublings, max(policy.max_seconds, policy.base_seconds))
    if policy.jitter:
        digest = hashlib.sha256(f"{seed}/{attempt}".encode()).digest()
        wait *= 1 + _JITTER * int.from_bytes(digest[:4]) / 2**32
    return max(wait, min(retry_after or 0.0, LONGEST_WAIT))


def may_retry(
    policy: RetryPolicy,
    failure_category: Category,
    retryable: bool,  # noqa: FBT001  the facts of a failure, in the order history keeps them
    attempt: int,
    http_status: int | None = None,
) -> bool:
    """Tell whether a step whose try number `attempt` just failed gets another one."""
    return (
        retryable
        and attempt < policy.attempts
        and failure_category in policy.retry_on
        and http_status not in policy.no_retry_statuses
    )
