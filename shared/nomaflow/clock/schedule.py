"""When a job fires: cron expressions, time zones and intervals, with time as an argument.

The daylight-saving rule is Debian cron's: a fixed local time that the clock skips fires once, right
after the gap; one that the clock repeats fires once, the first time; a pattern whose minute or hour
begins with `*` follows real time. cronsim walks plain wall clocks only, since its own handling of
zones fires twice in a repeated hour and skips fires after a half-hour change.
"""

from __future__ import annotations

import difflib
import math
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from nomaflow.clock import cron_text, cron_words
from nomaflow.errors import Code, NomaflowError

SHORTEST_EVERY = 1.0
LONGEST_EVERY = 366 * 86_400.0

_LONGEST_ZONE_NAME = 64
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)
_EVEN_DAYS = 7
_LAST_YEAR = 9_900
_LONGEST_IN_SECONDS = 300
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PIECE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])")
# Any start serves: a pattern that cronsim cannot place within 50 years never comes.
_ANY_START = datetime(2000, 1, 1)  # noqa: DTZ001  a wall clock without a zone is meant


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that comes sooner or later; made by `parse`."""

    expression: str
    seconds_first: str
    is_fixed: bool

    def describe(self) -> str:
        """Say the expression in plain words."""
        return cron_words.describe(self.seconds_first)

    def next_after(self, instant: datetime, tz: str) -> datetime | None:
        """Return the first fire strictly after `instant`, in UTC; None beyond the year 9999."""
        place = zone(tz)
        after = instant.astimezone(UTC)
        try:
            return (
                self._next_fixed(after, place) if self.is_fixed else self._next_real(after, place)
            )
        except OverflowError:
            return None

    def walk(self, after: datetime, tz: str) -> Iterator[datetime]:
        """Yield the fires strictly after an instant, in UTC and in order.

        The same as asking `next_after` again and again, and much cheaper where the clock of the
        zone runs evenly.
        """
        place = zone(tz)
        at = after.astimezone(UTC)
        while True:
            end = _even_until(at, place)
            if end is not None:
                shift = at.astimezone(place).utcoffset() or timedelta()
                for local in CronSim(self.seconds_first, _wall(at, place)):
                    fire = (local - shift).replace(tzinfo=UTC)
                    if fire >= end:
                        break
                    yield fire
                at = end - timedelta(microseconds=1)
            following = self.next_after(at, tz)
            if following is None:
                return
            yield following
            at = following

    def remark(self, fire: datetime, tz: str) -> str | None:
        """Say it when a change of the clock touches a fire of this expression; mostly None."""
        if not self.is_fixed:
            return None
        place = zone(tz)
        before, wall = _wall(fire - _SECOND, place), _wall(fire, place)
        if wall - before > _SECOND:  # the clock was put forward this very moment
            local = next(CronSim(self.seconds_first, before))
            if local < wall:
                gone = f"{local:%H:%M} does not exist on {local:%Y-%m-%d} in {tz}"
                return f"{gone}, the clock is put forward; it fires at {wall:%H:%M}"
        if _instant(wall, place, 0) != _instant(wall, place, 1):
            shown = f"{wall:%H:%M} twice on {wall:%Y-%m-%d} in {tz}"
            return f"the clock shows {shown}; it fires the first time only"
        return None

    def _next_fixed(self, after: datetime, place: ZoneInfo) -> datetime | None:
        # Inside a repeated hour the wall clock names instants that are past, hence the comparison.
        for local in CronSim(self.seconds_first, _wall(after, place)):
            fire = _moved(local, place)
            if fire > after:
                return fire
        return None

    def _next_real(self, after: datetime, place: ZoneInfo) -> datetime | None:
        wall = _wall(after, place)
        ahead = self._first_shown(wall, after, place)
        first_pass, second_pass = (_instant(wall, place, fold) for fold in (0, 1))
        if after == first_pass < second_pass:
            # The clock will be set back and show again what it showed before this wall time.
            again = self._first_shown(wall - (second_pass - first_pass) - _SECOND, after, place)
            return min(filter(None, (ahead, again)), default=None)
        return ahead

    def _first_shown(self, wall: datetime, after: datetime, place: ZoneInfo) -> datetime | None:
        """Return the first instant after `after` at which the clock shows a match beyond `wall`."""
        for local in CronSim(self.seconds_first, wall):
            for fold in (0, 1):
                fire = _instant(local, place, fold)
                if fire > after and _wall(fire, place) == local:
                    return fire
        return None


def _even_until(at: datetime, place: ZoneInfo) -> datetime | None:
    """Return an instant until which the zone's clock runs evenly, with a day to spare on each side.

    None when it is changed about then.
    """
    if at.year >= _LAST_YEAR:
        return None
    days = range(-1, _EVEN_DAYS + 2)
    shifts = {(at + timedelta(days=n)).astimezone(place).utcoffset() for n in days}
    return at + timedelta(days=_EVEN_DAYS) if len(shifts) == 1 else None


def _instant(local: datetime, place: ZoneInfo, fold: int) -> datetime:
    return local.replace(tzinfo=place, fold=fold).astimezone(UTC)


def _moved(local: datetime, place: ZoneInfo) -> datetime:
    """Return the first instant that shows a wall time; the end of the gap when none does."""
    fire = _instant(local, place, 0)
    if _wall(fire, place) == local:
        return fire
    local = local.replace(second=0)
    while _wall(fire, place) != local:
        local += _MINUTE
        fire = _instant(local, place, 0)
    return fire


def _wall(instant: datetime, place: ZoneInfo) -> datetime:
    return instant.astimezone(place).replace(tzinfo=None, fold=0)


@lru_cache(maxsize=4096)
def parse(expression: str) -> Cron:
    """Read a cron expression of 5 fields, or 6 with seconds last, or an alias such as `@daily`.

    Raises NomaflowError INVALID with a sentence that shows the place. Refused besides bad text:
    patterns that never come, such as 30 February.
    """
    text = cron_text.read(expression)
    never = NomaflowError(
        Code.INVALID,
        f"invalid cron `{text.written}`: no date ever matches its day-of-month, month and "
        "day-of-week",
    )
    try:
        first = next(CronSim(text.seconds_first, _ANY_START), None)
    except CronSimError:
        raise never from None
    if first is None:
        raise never
    return Cron(text.written, text.seconds_first, text.is_fixed)


def upcoming(expression: str, tz: str, after: datetime, count: int) -> list[datetime]:
    """Return the next `count` fires after an instant, in UTC and in order."""
    cron = parse(expression)
    fires: list[datetime] = []
    while len(fires) < count:
        fire = cron.next_after(after, tz)
        if fire is None:
            break
        fires.append(fire)
        after = fire
    return fires


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    # The last two are not places: one is this machine's, one is a mark for "not set".
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the IANA zone of that exact name; NomaflowError INVALID suggests the near one."""
    if name in _zone_names():
        return ZoneInfo(name)
    shown = name if len(name) <= _LONGEST_ZONE_NAME else name[:20] + "..."
    near = _near_zone(name) if len(name) <= _LONGEST_ZONE_NAME else None
    hint = f"did you mean `{near}`?" if near else "use an IANA name such as `Europe/Paris` or `UTC`"
    shown = shown.encode("unicode_escape").decode("ascii")
    raise NomaflowError(Code.INVALID, f"unknown timezone `{shown}`; {hint}")


def _near_zone(name: str) -> str | None:
    """The zone that was meant, looked for only among those that begin alike: that costs little."""
    wanted = name.lower()
    alike = _zones_by_beginnings()
    lowered = {known.lower(): known for one in _beginnings(wanted) for known in alike.get(one, ())}
    found = difflib.get_close_matches(wanted, lowered, n=1, cutoff=0.75)
    return lowered[found[0]] if found else None


def _beginnings(lowered: str) -> tuple[str, ...]:
    """How the whole name begins, and the place in it."""
    place = lowered.rpartition("/")[2]
    return lowered[:2] + "...", "/" + place[:2]


@lru_cache(maxsize=1)
def _zones_by_beginnings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for known in sorted(_zone_names()):
        area, place = _beginnings(known.lower())
        found.setdefault(place, []).append(known)
        if "/" not in known:
            found.setdefault(area, []).append(known)
    return found


def every_seconds(text: str | float) -> float:
    """Read an interval such as `10s`, `5m`, `1h`, `1d` or `1h30m`; a bare number is seconds.

    Raises NomaflowError INVALID outside 1 second to 366 days (SEC-D07).
    """
    seconds = _text_seconds(text.strip()) if isinstance(text, str) else float(text)
    shown = text if isinstance(text, str) else f"{text:g}"
    if seconds is None or math.isnan(seconds):
        raise NomaflowError(
            Code.INVALID,
            f"invalid interval `{shown[:40]}`; write a number and a unit, such as `10s`, `5m`, "
            "`1h` or `1d`",
        )
    if not SHORTEST_EVERY <= seconds <= LONGEST_EVERY:
        raise NomaflowError(
            Code.INVALID, f"interval `{shown[:40]}` must be between 1 second and 366 days"
        )
    return seconds


def is_interval(text: str) -> bool:
    """Tell whether a text is written like an interval, in range or not."""
    return _text_seconds(text.strip()) is not None


def describe_interval(seconds: float) -> str:
    """Say an interval in plain words: `Every 90 seconds`, `Every hour`, `Every 1 day 6 hours`."""
    units = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
    for name, size in units:
        if seconds % size == 0 and (seconds >= size):
            count = int(seconds // size)
            if size == 1 and count > _LONGEST_IN_SECONDS:
                break
            return f"Every {name}" if count == 1 else f"Every {count} {name}s"
    words: list[str] = []
    left = seconds
    for name, size in units[:-1]:
        whole, left = divmod(left, size)
        words += [f"{whole:g} {name}{'' if whole == 1 else 's'}"] if whole else []
    words += [f"{left:g} second{'' if left == 1 else 's'}"] if left else []
    return f"Every {' '.join(words)}"


def _text_seconds(text: str) -> float | None:
    pieces = _PIECE.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in pieces)


def next_interval(anchor: datetime, seconds: float, after: datetime) -> datetime:
    """Return the first `anchor + k * seconds` strictly after an instant, k = 0, 1, 2, ... (UTC)."""
    anchor, after = anchor.astimezone(UTC), after.astimezone(UTC)
    step = timedelta(seconds=seconds)
    if after < anchor:
        return anchor
    return anchor + ((after - anchor) // step + 1) * step
