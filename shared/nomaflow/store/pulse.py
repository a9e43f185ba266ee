"""How long PostgreSQL has been within reach: only then does a silent worker count as gone.

While the database is away nobody can prolong a lease. When it was started tells little of that: a
recovery may take minutes before anyone is let in, and a standby that takes over has been up for
weeks. So workers and schedulers beat one common row. Whoever comes first after a gap begins the
count anew, and a lease counts as run out only after one whole lease without a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nomaflow.store.database import Connection, Database

GAP_SHARE = 0.5
"""Of a lease. With two missed beats (a fifth each) an owner is back before its lease is over."""

WITHIN_REACH = f"""EXISTS (
  SELECT FROM nomaflow.pulse p
  WHERE p.at > clock_timestamp() - make_interval(secs => $3 * {GAP_SHARE})
    AND p.since < clock_timestamp() - make_interval(secs => $3))"""
"""Condition of a statement whose $3 is a lease in seconds."""


async def beat(connection: Connection | Database, lease_seconds: float) -> None:
    """Say that the database answers; call it at least every fifth of a lease, or every 3 s."""
    await connection.execute(
        """INSERT INTO nomaflow.pulse AS p (since, at)
           VALUES (clock_timestamp(), clock_timestamp())
           ON CONFLICT (id) DO UPDATE SET at = clock_timestamp(),
             since = CASE WHEN p.at < clock_timestamp() - make_interval(secs => $1)
                     THEN clock_timestamp() ELSE p.since END""",
        lease_seconds * GAP_SHARE,
    )
