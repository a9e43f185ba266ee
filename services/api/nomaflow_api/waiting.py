"""What a queued run waits for, in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nomaflow.store.waiting import Waits


def words(waits: Waits) -> str:
    """Name the first thing that keeps the run from running, as the claim would meet it."""
    if waits.not_before is not None:
        return _until(waits, waits.not_before)
    if waits.turn is not None:
        return f"run {waits.turn} of this job"
    if waits.holder is not None:
        return f'lock "{waits.lock}" held by run {waits.holder} of {waits.holder_job}'
    if waits.kind == "system":
        return "a scheduler"
    return "a free worker" if waits.served else f'a worker with tag "{waits.tag}"'


def _until(waits: Waits, moment: datetime) -> str:
    at = moment.astimezone(UTC)
    far = at.date() != waits.at.astimezone(UTC).date()
    clock = f"{at:%Y-%m-%dT%H:%M:%SZ}" if far else f"{at:%H:%M:%SZ}"
    if waits.retry is None:
        return f"its time, {clock}"
    attempt = waits.retry.partition(" in ")[0]
    return f"retry at {clock} ({attempt})"
