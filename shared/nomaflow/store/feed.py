"""What happened in a run, in order: events and log lines after a cursor, read in one snapshot.

Both share one count per run, handed out under the run's row lock. So whatever has a number is
preceded by everything with a smaller one, and a reader that remembers its last number misses
nothing and hears nothing twice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nomaflow import events
from nomaflow.events import Event, LogLine, LogsWritten
from nomaflow.lifecycle import FINAL_RUN, RunStatus
from nomaflow.store import keyset
from nomaflow.store.keyset import Page, Where, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from nomaflow.store.database import Connection, Database, Record


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a run's feed, and how far the run had come at that moment."""

    events: list[Event]
    seq: int
    """Everything up to this number was looked at."""
    is_complete: bool
    """True when nothing more was there at that moment."""
    is_over: bool
    """True when nothing more will ever come: the run has ended and all of it was read."""


_READ = """
SELECT r.seq AS run_seq, r.status AS run_status, f.*
FROM nomaflow.runs r LEFT JOIN LATERAL (
  (SELECT e.seq, e.at, e.kind, e.payload, NULL::smallint AS level, NULL AS step, NULL AS message
   FROM nomaflow.run_events e WHERE e.run_id = r.id AND e.seq > $2 ORDER BY e.seq LIMIT $3)
  UNION ALL
  (SELECT l.seq, l.at, 'line', NULL, l.level, l.step, l.message
   FROM nomaflow.log_lines l WHERE l.run_id = r.id AND l.seq > $2 ORDER BY l.seq LIMIT $3)
  ORDER BY seq LIMIT $3
) f ON true
WHERE r.id = $1 ORDER BY f.seq"""


async def read(
    db: Connection | Database, run_id: UUID, after: int, limit: int = 1000
) -> Reading | None:
    """Read up to `limit` events and lines after a number; None when there is no such run.

    Lines that follow each other come as one LogsWritten.
    """
    rows = await db.fetch(_READ, run_id, after, limit)
    if not rows:
        return None
    found = [row for row in rows if row["seq"] is not None]
    complete = len(found) < limit
    over = complete and RunStatus(rows[0]["run_status"]) in FINAL_RUN
    seq = rows[0]["run_seq"] if complete else found[-1]["seq"]
    return Reading(_grouped(run_id, found), max(seq, after), complete, over)


def _grouped(run_id: UUID, rows: Iterable[Record]) -> list[Event]:
    found: list[Event] = []
    lines: list[LogLine] = []
    for row in rows:
        if row["kind"] == "line":
            lines.append(_line(row))
            continue
        if lines:
            found.append(written(run_id, lines))
            lines = []
        found.append(events.from_row(run_id, row["seq"], row["at"], row["kind"], row["payload"]))
    if lines:
        found.append(written(run_id, lines))
    return found


def written(run_id: UUID, lines: Sequence[LogLine]) -> LogsWritten:
    """Make one event of lines that follow each other."""
    return LogsWritten(run_id, lines[-1].seq, lines[-1].at, tuple(lines))


def _line(row: Record) -> LogLine:
    return LogLine(row["seq"], row["at"], _word(row["level"]), row["step"], row["message"])


def _word(level: int) -> str:
    if level >= logging.ERROR:
        return "ERROR"
    if level >= logging.WARNING:
        return "WARNING"
    return "INFO" if level >= logging.INFO else "DEBUG"


def after(event: Event, seq: int) -> Event | None:
    """Return the part of an event that comes after a number; None when nothing does."""
    if event.seq <= seq:
        return None
    if isinstance(event, LogsWritten) and event.lines[0].seq <= seq:
        return replace(event, lines=tuple(line for line in event.lines if line.seq > seq))
    return event


@dataclass(frozen=True, slots=True)
class LineFilter:
    """Which lines: of one step, of at least a level, holding a text (letters of any case)."""

    step: str | None = None
    min_level: str | None = None
    text: str | None = None

    def admits(self, line: LogLine) -> bool:
        """Tell whether a line passes, as the database would."""
        if self.step is not None and line.step != self.step:
            return False
        if self.min_level is not None and _number(line.level) < _number(self.min_level):
            return False
        return self.text is None or self.text.lower() in line.message.lower()


def _number(level: str) -> int:
    return logging.getLevelNamesMapping().get(level, logging.INFO)


@dataclass(frozen=True, slots=True)
class Lines:
    """A page of log lines; `seq` is where a listener goes on from."""

    page: Page[LogLine]
    seq: int


async def lines(
    db: Connection | Database, run_id: UUID, wanted: LineFilter, window: Window
) -> Lines:
    """Read one page of the lines that the filter lets through; positions are numbers of lines."""
    where = Where()
    where.add("l.run_id = {}", run_id)
    if wanted.step is not None:
        where.add("l.step = {}", wanted.step)
    if wanted.min_level is not None:
        where.add("l.level >= {}", _number(wanted.min_level))
    if wanted.text is not None:
        where.add("strpos(lower(l.message), lower({})) > 0", wanted.text)
    tail = keyset.narrow(where, window, {"l.seq": "bigint"}, descending=False)
    rows = await db.fetch(
        f"""SELECT r.seq AS run_seq, f.* FROM nomaflow.runs r LEFT JOIN LATERAL (
              SELECT l.seq, l.at, l.level, l.step, l.message
              FROM nomaflow.log_lines l WHERE {where.sql} {tail}) f ON true
            WHERE r.id = $1 ORDER BY f.seq {"DESC" if window.backwards else "ASC"}""",
        *where.values,
    )
    run_seq = rows[0]["run_seq"] if rows else 0
    page = keyset.page([_line(row) for row in rows if row["seq"] is not None], window)
    to_the_end = (window.backwards or not page.more) and window.before is None
    seq = run_seq if to_the_end or not page.rows else page.rows[-1].seq
    return Lines(page, seq)


async def heads(db: Connection | Database, run_ids: Sequence[UUID]) -> dict[UUID, tuple[int, bool]]:
    """Read how far each run has come, and whether it is over."""
    rows = await db.fetch(
        "SELECT id, seq, status FROM nomaflow.runs WHERE id = ANY ($1::uuid[])", list(run_ids)
    )
    return {row["id"]: (row["seq"], RunStatus(row["status"]) in FINAL_RUN) for row in rows}
