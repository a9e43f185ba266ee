"""How the command line writes times, durations, counts, statuses and ids."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from nomaflow.outside import ids

MINUTE, HOUR, DAY = 60, 3600, 86400

# Colour never speaks alone: the word always stands beside it.
STYLES = {
    "QUEUED": "cyan",
    "RUNNING": "bold cyan",
    "SUCCEEDED": "green",
    "PARTIAL": "yellow",
    "FAILED": "bold red",
    "ABORTED": "yellow",
    "SKIPPED": "dim",
    "PENDING": "dim",
    "RETRYING": "yellow",
    "DEBUG": "dim",
    "INFO": "blue",
    "WARNING": "yellow",
    "ERROR": "bold red",
}
MARKS = {
    "PENDING": "·",
    "QUEUED": "·",
    "RETRYING": "↻",
    "SUCCEEDED": "✓",
    "PARTIAL": "◐",
    "FAILED": "✗",
    "ABORTED": "■",
    "SKIPPED": "-",
}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


run_id = ids.run_id


def plain_ids(run: dict[str, Any]) -> dict[str, Any]:
    """Give a run with UUIDs where the API has global ids."""
    plain = run | {"id": run_id(run["id"])}
    if earlier := run.get("replayOf"):
        plain["replayOf"] = {"id": run_id(earlier["id"])}
    return plain


def is_run_id(text: str) -> bool:
    """Tell a run's id, plain or global, from a job's name."""
    try:
        UUID(run_id(text))
    except ValueError:
        return False
    return True


def moment(text: str | None) -> datetime | None:
    """Read a time as the API writes it (RFC 3339, UTC)."""
    return datetime.fromisoformat(text) if text else None


def clock(at: datetime) -> str:
    """The time of day here, to the millisecond."""
    return at.astimezone().strftime("%H:%M:%S.%f")[:-3]


def instant(at: datetime) -> str:
    """The same moment for machines and files: RFC 3339 in UTC, to the millisecond."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def day_and_time(at: datetime | None) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12.3 s`, `2:05 min`, `1:02:05 h`."""
    if seconds is None:
        return ""
    if seconds < MINUTE:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE}:{whole % MINUTE:02} min"
    return f"{whole // HOUR}:{whole % HOUR // MINUTE:02}:{whole % MINUTE:02} h"


def distance(at: datetime, now: datetime) -> str:
    """`in 3 min`, `2 h ago`: for people at a terminal."""
    seconds = (at - now).total_seconds()
    size = abs(seconds)
    if size < MINUTE:
        amount = f"{size:.0f} s"
    elif size < HOUR:
        amount = f"{size / MINUTE:.0f} min"
    elif size < 2 * DAY:
        amount = f"{size / HOUR:.0f} h"
    else:
        amount = f"{size / DAY:.0f} days"
    return f"in {amount}" if seconds >= 0 else f"{amount} ago"


def number(value: float) -> str:
    """`500 000`, as the steps themselves write their rows."""
    return f"{value:,.0f}".replace(",", " ")
