"""How a person names a moment on the command line: a time, or so long from now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nomaflow.errors import Code, NomaflowError


def before(text: str, option: str) -> datetime:
    """Read `24h`, `7d` (so long ago), or a time."""
    return _read(text, option, -1)


def ahead(text: str, option: str) -> datetime:
    """Read `2h`, `1d` (from now on), or a time."""
    return _read(text, option, 1)


def _read(text: str, option: str, sign: int) -> datetime:
    from nomaflow.clock import schedule

    try:
        return datetime.now(UTC) + sign * timedelta(seconds=schedule.every_seconds(text))
    except NomaflowError:
        pass
    try:
        # A time without an offset is meant as the clock on this wall shows it.
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        if schedule.is_interval(text):
            raise NomaflowError(
                Code.INVALID,
                f"{option} `{text[:40]}` is out of range; write 1 second to 366 days, or a time "
                "such as `2026-12-05T20:00`",
            ) from None
        raise NomaflowError(
            Code.INVALID,
            f"{option} `{text[:40]}` is no moment; write a time such as `2026-12-05T20:00`, or so "
            "long as `2h` or `7d`",
        ) from None


def shown(at: datetime) -> str:
    """Write a moment for the API."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")
