"""Rows as lines of COPY's text form, which PostgreSQL and MariaDB both read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import cast

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
NULL = "\\N"

_PAIR = re.compile(rb"\\.", re.DOTALL)
_BARE = {b"\\v": b"\v", b"\\f": b"\f"}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PLAIN = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}


def encode(columns: Sequence[Sequence[str | None]]) -> bytes:
    """Columns of texts as lines; None is NULL."""
    return joined([escaped(column) for column in columns])


def joined(cells: Sequence[Sequence[str]]) -> bytes:
    """Columns of cells, escaped already, as lines."""
    text = "\n".join(map("\t".join, zip(*cells, strict=True)))
    return (text + "\n").encode() if text or cells else b""


def escaped(column: Sequence[str | None]) -> Sequence[str]:
    """A column's texts as cells."""
    if None in column:
        return [NULL if cell is None else _escaped(cell) for cell in column]
    texts = cast("Sequence[str]", column)
    text = "".join(texts)
    if not any(letter in text for letter in _ESCAPES):  # quicker than the pattern by far
        return texts
    return [_escaped(cell) for cell in texts]


def _escaped(cell: str) -> str:
    if _SPECIAL.search(cell) is None:
        return cell
    return _SPECIAL.sub(lambda found: _ESCAPES[found.group()], cell)


def pieces(portion: bytes, size: int) -> Iterator[bytes]:
    """Whole lines in pieces of about `size` bytes; a longer line is a piece of its own."""
    start = 0
    while len(portion) - start > size:
        end = portion.rfind(b"\n", start, start + size) + 1 or portion.index(b"\n", start) + 1
        yield portion[start:end]
        start = end
    if start < len(portion):
        yield portion[start:]


def for_load_data(portion: bytes) -> bytes:
    """Lines of PostgreSQL's own as MySQL reads them: it has no escape for two of the controls."""
    if b"\\v" not in portion and b"\\f" not in portion:
        return portion
    return _PAIR.sub(lambda pair: _BARE.get(pair.group(), pair.group()), portion)


def decode(portion: bytes) -> list[list[str | None]]:
    """Whole lines as rows of texts."""
    text = portion.decode()
    rows = [line.split("\t") for line in text.split("\n")[:-1]]
    if "\\" not in text:
        return cast("list[list[str | None]]", rows)
    return [[None if cell == NULL else _unescaped(cell) for cell in row] for row in rows]


def columns(portion: bytes, width: int) -> tuple[list[Sequence[str | None]], bool]:
    """Whole lines as columns of texts, and whether none of them is NULL or was escaped."""
    cells = portion.decode().replace("\n", "\t").split("\t")
    cells.pop()  # behind the last line's end
    found: list[Sequence[str | None]] = [cells[number::width] for number in range(width)]
    if b"\\" not in portion:
        return found, True
    return [
        [None if cell == NULL else _unescaped(cast("str", cell)) for cell in column]
        for column in found
    ], False


def _unescaped(cell: str) -> str:
    if "\\" not in cell:
        return cell
    return _ESCAPED.sub(lambda found: _PLAIN.get(found.group(1), found.group(1)), cell)
