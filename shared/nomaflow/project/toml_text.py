"""Reads TOML that people write: refuses what would be slow, and knows the line of every key."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 262_144  # bytes of one file

_WORD = r"(?:[A-Za-z0-9_-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
# The parser's time grows with the square of a key's parts (SEC-D01); nobody writes 32.
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_WORD}[ \t]*+\.[ \t]*+){{32}}")
_LONG_NUMBER = re.compile(r"[0-9_]{400}")
_DEEP = re.compile(r"(?:[\[{]\s*+){30}")
_AT = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_STRING = (
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:\'{0,2})'
    r'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
)
_KEY_PART = re.compile(r"\s*(?:([A-Za-z0-9_-]+)|(\"(?:\\.|[^\"\\\n])*\")|'([^'\n]*)')\s*(\.?)")
_VALUE_PART = re.compile(
    rf"(?P<string>{_STRING})|#[^\n]*|[\[\]{{}}\n]|[^\"'#\[\]{{}}\n]+|.", re.DOTALL
)

Path = tuple[str, ...]


class BrokenTomlError(Exception):
    """A text that is not TOML, with the line where that shows."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True)
class TomlText:
    """A parsed text: its values, and the line of each table and key (from 1)."""

    data: Mapping[str, Any]
    lines: Mapping[Path, int]

    def line_of(self, path: Path) -> int:
        """Return the line of a place, or of the nearest thing around it that is written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1


def read(raw: bytes) -> TomlText:
    """Parse one file's bytes; BrokenTomlError says what is wrong at which line."""
    if len(raw) > LARGEST:
        raise BrokenTomlError(f"the file is larger than {LARGEST // 1024} KB", 1)
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BrokenTomlError("the file is not UTF-8 text", line) from None
    _refuse(text, _LONG_KEY, "a key has more than 32 parts")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _broken(str(error), text) from None
    except RecursionError:
        _refuse(text, _DEEP, "the values are nested too deep")
        raise BrokenTomlError("the values are nested too deep", 1) from None
    except ValueError as error:
        _refuse(text, _LONG_NUMBER, "a number has too many digits")
        raise BrokenTomlError(str(error), 1) from None
    return TomlText(data, _lines(text))


def _refuse(text: str, pattern: re.Pattern[str], message: str) -> None:
    found = pattern.search(text)
    if found:
        raise BrokenTomlError(message, text.count("\n", 0, found.start()) + 1)


def _broken(message: str, text: str) -> BrokenTomlError:
    at = _AT.search(message)
    line = int(at[1]) if at and at[1] else text.count("\n") + 1
    said = _AT.sub("", message)
    return BrokenTomlError(f"this is not TOML: {said[:1].lower()}{said[1:200]}", line)


def _lines(text: str) -> dict[Path, int]:
    """Walk a text that is known to be TOML and note where each table and key begins."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    at, line = 0, 1
    while at < len(text):
        char = text[at]
        if char == "\n":
            line += 1
            at += 1
        elif char.isspace():
            at += 1
        elif char == "#":
            at = _end_of_line(text, at)
        elif char == "[":
            double = text.startswith("[[", at)
            parts, at = _key(text, at + 1 + double)
            table = _resolved(parts, counts, enter=double)
            lines.setdefault(table, line)
            at = _end_of_line(text, at)
        else:
            parts, at = _key(text, at)
            for length in range(1, len(parts) + 1):
                lines.setdefault((*table, *parts[:length]), line)
            at, line = _value(text, at, line, (*table, *parts), lines)
    return lines


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _key(text: str, at: int) -> tuple[Path, int]:
    parts: list[str] = []
    while (match := _KEY_PART.match(text, at)) is not None:
        bare, quoted, literal, more = match.groups()
        parts.append(bare if bare is not None else literal if quoted is None else _unquoted(quoted))
        at = match.end()
        if not more:
            break
    return tuple(parts), at + 1


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]


def _resolved(parts: Path, counts: dict[Path, int], *, enter: bool) -> Path:
    """Put the index of the current entry behind each array of tables on the way."""
    path: Path = ()
    for at, part in enumerate(parts):
        path = (*path, part)
        last = at == len(parts) - 1
        if last and enter:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, str(counts[path]))
    return path


def _value(text: str, at: int, line: int, path: Path, lines: dict[Path, int]) -> tuple[int, int]:
    """Step over a value; the entries of an array that spans lines get their own."""
    depth, entry = 0, 0
    while match := _VALUE_PART.match(text, at):
        part = match.group()
        if part == "\n" and depth == 0:
            break
        if depth == 1 and not part.isspace() and part[0] not in "#,]}":
            lines.setdefault((*path, str(entry)), line)
        if part in ("[", "{"):
            depth += 1
        elif part in ("]", "}"):
            depth -= 1
        elif depth == 1 and match["string"] is None and part[0] != "#":
            entry += part.count(",")
        line += part.count("\n")
        at = match.end()
    return at, line
