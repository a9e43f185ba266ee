"""Everything that closes clocks, in one statement: what a forecast looks up at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nomaflow.store.closures import BlackoutRow, SwitchRow, blackout_of, switch_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nomaflow.store.database import Connection, Database

_READ = """
SELECT (SELECT to_jsonb(s) FROM nomaflow.scheduler_switch s),
  (SELECT jsonb_object_agg(name, definition) FROM nomaflow.calendars),
  (SELECT jsonb_agg(to_jsonb(b) ORDER BY b.from_at, b.name) FROM nomaflow.blackouts b
   WHERE b.until > $1),
  (SELECT jsonb_agg(jsonb_build_array(p.job, p.schedule, p.at)) FROM (
     SELECT j.name AS job, s.name AS schedule, max(t.look_at) AS at
     FROM nomaflow.slots t JOIN nomaflow.schedules s ON s.id = t.schedule_id
     JOIN nomaflow.jobs j ON j.id = s.job_id
     WHERE t.look_at IS NOT NULL AND t.outcome = 'postponed' AND s.retired_at IS NULL
     GROUP BY 1, 2) AS p)"""


@dataclass(frozen=True, slots=True)
class Sky:
    """The switch, the calendars, the blackouts that are not over, and what they have postponed.

    `postponed` tells, by job and schedule, when a due time that waits already is looked at.
    """

    switch: SwitchRow
    calendars: Mapping[str, Mapping[str, Any]]
    blackouts: Sequence[BlackoutRow]
    postponed: Mapping[tuple[str, str], datetime]


async def read(db: Connection | Database, now: datetime) -> Sky:
    """Read what closes clocks from `now` on."""
    row = await db.fetchrow(_READ, now)
    assert row is not None  # noqa: S101  a SELECT without FROM has one row
    return Sky(
        switch=switch_of(row[0]),
        calendars=row[1] or {},
        blackouts=[blackout_of(one) for one in row[2] or ()],
        postponed={
            (job, schedule): datetime.fromisoformat(at) for job, schedule, at in row[3] or ()
        },
    )
