"""What a new run does while others of its job are in flight: the overlap policy, purely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nomaflow.lifecycle import SKIPPED_OVERLAP

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

_QUEUE_IS_FULL = "already waiting"

Policy = Literal["skip", "queue", "allow", "replace"]


@dataclass(frozen=True, slots=True)
class InFlight:
    """A run that is queued or running; a started one keeps its turn through back-offs."""

    run_id: UUID
    running: bool
    started: bool


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether the new run may be born queued; if not, `refusal` says why, beginning `skipped:`.

    `serial` runs wait for their turn at the claim; `replaces` are ended to make room.
    """

    refusal: str | None = None
    serial: bool = False
    replaces: tuple[InFlight, ...] = ()


def decide(policy: Policy, queue_depth: int, in_flight: Sequence[InFlight]) -> Admission:
    """Decide what becomes of a run that is about to be born (S13, S14, S15).

    skip: one at a time, the newcomer gives way. queue: the newcomer waits, up to `queue_depth`
    of them. allow: all run. replace: the newcomer ends the others and follows them.
    """
    match policy:
        case "skip":
            return Admission(refusal=SKIPPED_OVERLAP if in_flight else None)
        case "queue":
            waiting = sum(1 for run in in_flight if not run.started)
            full = bool(in_flight) and waiting >= queue_depth
            words = f"skipped: {waiting} {_QUEUE_IS_FULL} (queue_depth = {queue_depth})"
            return Admission(refusal=words if full else None, serial=True)
        case "replace":
            return Admission(serial=True, replaces=tuple(in_flight))
        case _:
            return Admission()


def is_refusal(reason: str) -> bool:
    """Tell whether these are the words of `decide` for a run that had to give way."""
    return reason == SKIPPED_OVERLAP or _QUEUE_IS_FULL in reason
