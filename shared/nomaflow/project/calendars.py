"""What calendars.toml says: each calendar and blackout that is right, a problem otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path as FilePath
from typing import Any

from nomaflow.clock import calendars, ics
from nomaflow.clock.calendars import Blackout
from nomaflow.errors import NomaflowError
from nomaflow.job.problems import Path, did_you_mean, written
from nomaflow.project import files, toml_text
from nomaflow.project.jobs import FileProblem

YEARS_BACK, YEARS_AHEAD = 1, 5
"""An iCalendar file is worked out for these years around the present one."""

NAME = "calendars.toml"
MOST = 200
EMPTY = "the file is empty: write into it or delete it; what it declared before stays in force"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_TABLES = ("calendars", "blackouts")


@dataclass(frozen=True, slots=True)
class Calendars:
    """The file's calendars as they are stored, its blackouts, and what is wrong with the rest.

    What is wrong stays in force as it was: a name in `bad_calendars` or `bad_blackouts` is
    declared and could not be read; of an `unreadable` file nothing is known at all.
    """

    definitions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    blackouts: Mapping[str, Blackout] = field(default_factory=dict)
    problems: tuple[FileProblem, ...] = ()
    bad_calendars: frozenset[str] = frozenset()
    bad_blackouts: frozenset[str] = frozenset()
    unreadable: bool = False


class CalendarFile:
    """A project's calendars.toml, read anew when it or an iCalendar file of it has changed."""

    def __init__(self, root: FilePath) -> None:
        self.root = root
        self.path = root / NAME
        self._year = 0
        self._stamps: dict[FilePath, files.Stamp | None] = {}
        self._found = Calendars()

    @property
    def paths(self) -> list[FilePath]:
        """The files whose change matters: its own, and those it names."""
        return list(self._stamps) or [self.path]

    def get(self) -> Calendars:
        """Return what it says; the same object until something has changed, or a year is over."""
        year = datetime.now(UTC).year
        seen = {path: files.stamp(path) for path in self.paths}
        if (seen, year) != (self._stamps, self._year):
            # Before it is read, so that a change meanwhile is seen the next time.
            stamps = {self.path: files.stamp(self.path)}
            self._found = self._read(year, stamps)
            self._stamps, self._year = stamps, year
        return self._found

    def _read(self, year: int, stamps: dict[FilePath, files.Stamp | None]) -> Calendars:
        def beside(path: FilePath) -> bytes | None:
            stamps[path] = files.stamp(path)
            return files.contents(path, ics.LARGEST)

        raw = files.contents(self.path, toml_text.LARGEST)
        if raw is not None:
            return read(raw, Surroundings(self.root, year, beside))
        if stamps[self.path] is None:
            return Calendars()
        problem = FileProblem(NAME, 1, (), files.UNREADABLE)
        return Calendars(problems=(problem,), unreadable=True)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the file lies, the present year, and how files beside it are read."""

    root: FilePath
    year: int
    read: Callable[[FilePath], bytes | None]


def read(raw: bytes, around: Surroundings) -> Calendars:
    """Read the file's bytes, and the iCalendar files that it names. Nothing is raised."""
    if not raw.strip():
        # Many editors empty a file before they write it anew; closed days must not open meanwhile.
        return Calendars(problems=(FileProblem(NAME, 1, (), EMPTY),), unreadable=True)
    try:
        text = toml_text.read(raw)
    except toml_text.BrokenTomlError as error:
        problem = FileProblem(NAME, error.line, (), error.message)
        return Calendars(problems=(problem,), unreadable=True)
    reading = _Reading(around, text)
    reading.outer()
    reading.calendars()
    reading.blackouts()
    return Calendars(
        definitions=reading.definitions,
        blackouts=reading.windows,
        problems=tuple(dict.fromkeys(reading.problems)),
        bad_calendars=frozenset(reading.bad_calendars),
        bad_blackouts=frozenset(reading.bad_blackouts),
    )


class _Reading:
    """One pass over the file, gathering what is right and what is not."""

    def __init__(self, around: Surroundings, text: toml_text.TomlText) -> None:
        self._around = around
        self._text = text
        self.definitions: dict[str, Mapping[str, Any]] = {}
        self.windows: dict[str, Blackout] = {}
        self.problems: list[FileProblem] = []
        self.bad_calendars: set[str] = set()
        self.bad_blackouts: set[str] = set()

    def outer(self) -> None:
        for key in self._text.data:
            if key not in _TABLES:
                hint = did_you_mean(key, _TABLES)
                self._wrong((key,), f"there is no table `{key[:60]}` in calendars.toml{hint}")

    def calendars(self) -> None:
        tables = self._text.data.get("calendars", {})
        if not isinstance(tables, dict) or len(tables) > MOST:
            self._wrong(
                ("calendars",), f"write each calendar as a table [calendars.NAME], at most {MOST}"
            )
            return
        for name, table in tables.items():
            wrong = list(_wrong_in(name, table))
            for path, message in wrong:
                self._wrong(("calendars", name, *path), f"calendar `{name[:60]}`: {message}")
            definition = None if wrong else self._definition(name, table)
            if definition is None:
                self.bad_calendars.add(name)
            else:
                self.definitions[name] = definition

    def _definition(self, name: str, table: Mapping[str, Any]) -> Mapping[str, Any] | None:
        definition = {key: _plain(value) for key, value in table.items()}
        if "ics" in table:
            path = ("calendars", name, "ics")
            try:
                days = self._days(table["ics"])
            except _NotReadError as error:
                message = f"calendar `{name}`: {error}"
                if error.line is None:
                    self._wrong(path, message)
                else:
                    self.problems.append(FileProblem(table["ics"], error.line, path, message))
                return None
            definition["ics_days"] = days
        return definition

    def _days(self, given: Any) -> dict[str, str]:
        """Work out the days of an iCalendar file, as text."""
        if not isinstance(given, str) or not given or "\0" in given:
            raise _NotReadError(f"`ics` must name a file, not {written(given)}")
        shown, path, root = f'"{given[:60]}"', self._around.root / given, self._around.root
        try:
            inside = path.resolve().is_relative_to(root.resolve())
        except (OSError, RuntimeError):
            inside = False
        if not inside or FilePath(given).is_absolute():
            raise _NotReadError(f"{shown} leads outside of the project; keep the file in it")
        raw = self._around.read(path)
        if raw is None:
            raise _NotReadError(f"there is no file {shown} in the project that can be read")
        first = date(self._around.year - YEARS_BACK, 1, 1)
        last = date(self._around.year + YEARS_AHEAD, 12, 31)
        try:
            found = ics.days(raw.decode("utf-8-sig"), first, last)
        except UnicodeDecodeError:
            raise _NotReadError(f"{shown} is not UTF-8 text") from None
        except NomaflowError as error:
            raise _NotReadError(error.message, int(error.path[0]) if error.path else 1) from None
        return {day.isoformat(): called for day, called in found.items()}

    def blackouts(self) -> None:
        tables = self._text.data.get("blackouts", [])
        if not isinstance(tables, list) or len(tables) > MOST:
            self._wrong(("blackouts",), f"begin each blackout with [[blackouts]], at most {MOST}")
            return
        for at, table in enumerate(tables):
            wrong = list(self._blackout(table))
            named = table.get("name") if isinstance(table, dict) else None
            whose = f"blackout `{named[:60]}`" if isinstance(named, str) else f"blackout {at + 1}"
            for path, message in wrong:
                self._wrong(("blackouts", str(at), *path), f"{whose}: {message}")
            if wrong and isinstance(named, str) and named not in self.windows:
                self.bad_blackouts.add(named)

    def _blackout(self, table: Any) -> Iterator[tuple[Path, str]]:
        if not isinstance(table, dict):
            yield (), f"it must be a table, not {written(table)}"
            return
        wrong = list(calendars.blackout_problems(table))
        if not wrong and table["name"] in self.windows:
            wrong.append((("name",), "there is another one of that name in this file"))
        yield from wrong
        if not wrong:
            window = Blackout.parse(table)
            self.windows[window.name] = window

    def _wrong(self, path: Path, message: str) -> None:
        line = self._text.line_of(path)
        self.problems.append(FileProblem(NAME, line, path, message))


class _NotReadError(Exception):
    """Why the days of a calendar are not known; `line` is one of the iCalendar file."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def _wrong_in(name: str, table: Any) -> Iterator[tuple[Path, str]]:
    if not _NAME.fullmatch(name):
        yield (), "a name is 1 to 128 letters, digits, `-` or `_`"
    if not isinstance(table, dict):
        yield (), f"it must be a table, not {written(table)}"
    elif "ics_days" in table:
        yield ("ics_days",), "`ics_days` is worked out from the file that `ics` names"
    else:
        yield from calendars.problems(table)


def _plain(value: Any) -> Any:
    """Write TOML's own dates as text, so that the table can be stored as JSON."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, date | datetime) else value
