"""Reads the text of a cron expression: which field is wrong, where it stands, how to write it.

Five fields `minute hour day-of-month month day-of-week`, an optional sixth `second` LAST
(seed 002), names, lists, ranges, steps, `0` and `7` for Sunday, `L`, `LW`, `nL`, `n#k`, aliases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from nomaflow.errors import Code, NomaflowError

LONGEST = 200

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class CronText:
    """An expression whose text is right; whether it ever fires is another question."""

    written: str
    seconds_first: str  # cronsim's own order
    is_fixed: bool  # names a wall-clock time: neither minute nor hour begins with `*`


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()

    @property
    def span(self) -> int:
        return self.high - self.low + 1


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_DAY = _Field("day-of-month", 1, 31)
_WEEKDAY = _Field("day-of-week", 0, 7, _DAYS)
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _DAY,
    _Field("month", 1, 12, _MONTHS),
    _WEEKDAY,
    _Field("second", 0, 59),
)


def read(expression: str) -> CronText:
    """Check `expression`; NomaflowError INVALID says what is wrong at which column."""
    if len(expression) > LONGEST:
        _refuse(expression[:20] + "...", f"it is longer than {LONGEST} characters", 1)
    if not expression.isascii() or not expression.isprintable():
        at = next(i for i, c in enumerate(expression) if not (c.isascii() and c.isprintable()))
        shown = expression.encode("unicode_escape").decode("ascii")
        _refuse(shown, "only plain ASCII characters and spaces are allowed", at + 1)
    written = expression.strip()
    expanded = _alias(written) if written.startswith("@") else written
    words = [(m.group(), m.start() + 1) for m in re.finditer(r"\S+", expanded)]
    if len(words) not in (5, 6):
        _refuse(written, _field_count(len(words)), 1)
    terms = [
        [_Term(written, field, term, at).checked() for term, at in _split(word, at)]
        for field, (word, at) in zip(_FIELDS, words, strict=False)
    ]
    minute, hour, day, month, weekday, *rest = (",".join(parts) for parts in terms)
    return CronText(
        written=written,
        seconds_first=" ".join([rest[0] if rest else "0", minute, hour, day, month, weekday]),
        is_fixed=not (minute.startswith("*") or hour.startswith("*")),
    )


def _alias(written: str) -> str:
    if written.lower() in ALIASES:
        return ALIASES[written.lower()]
    hint = "known are " + ", ".join(sorted(ALIASES))
    if written.lower().startswith("@every"):
        hint = 'use an interval such as `every = "10m"`'
    return _refuse(written, f"`{written.split(maxsplit=1)[0]}` is not an alias; {hint}", 1)


def _field_count(count: int) -> str:
    meant = "minute hour day-of-month month day-of-week, and seconds last when given"
    if count == len(_FIELDS) + 1:
        return f"it has 7 fields and a year is not one of them; write 5 or 6: {meant}"
    return f"it has {count} field{'' if count == 1 else 's'}, not 5 or 6: {meant}"


def _split(word: str, at: int) -> list[tuple[str, int]]:
    parts = []
    for part in word.split(","):
        parts.append((part, at))
        at += len(part) + 1
    return parts


@dataclass(frozen=True, slots=True)
class _Term:
    """One comma-separated piece of one field, and its column."""

    expression: str
    field: _Field
    text: str
    at: int

    def checked(self) -> str:
        """Return the text as cronsim reads it: in capitals, `FRIL` as `5L`."""
        if not self.text:
            self._no("a value is missing around a comma")
        if self.text == "?":
            self._no("`?` is not known; write `*`")
        special = self._special(self.text.upper())
        if special is not None:
            return special
        body, slash, step = self.text.partition("/")
        first = last = None
        if body != "*":
            start, dash, end = body.partition("-")
            first = self._number(start)
            last = self._number(end) if dash else None
            if last is not None and last < first:
                instead = _wrapped(self.field, first, last)
                self._no(f"{self.field.name} `{body}` runs backwards; write `{instead}`")
        if slash:
            self._check_step(step, first, last)
        return self.text.upper()

    def _special(self, text: str) -> str | None:
        if self.field is _DAY and text in ("L", "LW"):
            return text
        if self.field is _WEEKDAY and text.endswith("L") and len(text) > 1:
            return f"{self._number(text[:-1])}L"
        if self.field is _WEEKDAY and "#" in text:
            day, _, nth = text.partition("#")
            self._number(day)
            if nth not in ("1", "2", "3", "4", "5"):
                self._no(f"`{text}`: after `#` comes 1 to 5, the week of the month")
            return text
        return None

    def _number(self, text: str) -> int:
        field = self.field
        if text.upper() in field.words:
            return field.words.index(text.upper()) + field.low
        if text.isdigit() and len(text) <= 3 and field.low <= int(text) <= field.high:  # noqa: PLR2004  longer digits are out of every range
            return int(text)
        also = f" or {field.words[0]}-{field.words[-1]}" if field.words else ""
        return self._no(f"{field.name} `{text}` must be {field.low} to {field.high}{also}")

    def _check_step(self, step: str, first: int | None, last: int | None) -> None:
        field = self.field
        if not step.isdigit() or len(step) > 3 or int(step) == 0:  # noqa: PLR2004  as above
            self._no(f"{field.name} `{self.text}`: the step after `/` must be 1 or more")
        if first is not None and first == last:
            self._no(f"{field.name} `{self.text}` is a single value with a step; write `{first}`")
        if last is None and int(step) > field.span:
            self._no(
                f"{field.name} `{self.text}`: a step of {int(step)} is longer than the field "
                f'({field.span} values); for a longer rhythm use an interval, as `every = "90m"`'
            )

    def _no(self, reason: str) -> NoReturn:
        _refuse(self.expression, reason, self.at)


def _wrapped(field: _Field, first: int, last: int) -> str:
    """Write a range that runs over the field's end as two, or one when it ends at Sunday."""
    top = 6 if field is _WEEKDAY else field.high
    parts = [(first, top), (field.low, last)] if first <= top else [(field.low, last)]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _refuse(expression: str, reason: str, column: int) -> NoReturn:
    raise NomaflowError(Code.INVALID, f"invalid cron `{expression}`: {reason} (column {column})")
