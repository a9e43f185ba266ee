"""Rings again for runs that wait longer than they should: their doorbell may have been lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow.store import runs

if TYPE_CHECKING:
    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Database

LONG_SECONDS = 10.0
MOST_RINGS = 20
"""One ring wakes every worker, and a worker claims as much as it can carry: a few are enough."""


async def ring_again(db: Database, bell: Bell, *, seconds: float = LONG_SECONDS) -> int:
    """Ring for runs that have waited longer than `seconds`; answers how many wait so long."""
    waiting = await runs.waiting_long(db, seconds)
    for run_id in waiting[:MOST_RINGS]:
        bell.ring(run_id)
    return len(waiting)
