"""What a directory answers to a search, read from its bytes (RFC 4511 in BER): plain and quick.

Lengths are checked against what encloses them, so whatever the bytes are, reading ends: in
entries, in a result, or in BerError. Nothing is kept that was not received.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ENTRY, DONE, REFERENCE, EXTENDED, INTERMEDIATE = 0x64, 0x65, 0x73, 0x78, 0x79
PAGED_RESULTS = b"1.2.840.113556.1.4.319"  # RFC 2696
LONGEST_MESSAGE = 32 * 1024 * 1024

_SEQUENCE, _SET, _INTEGER, _STRING, _ENUMERATED = 0x30, 0x31, 0x02, 0x04, 0x0A
_CONTROLS, _REFERRAL = 0xA0, 0xA3
_LONG = 0x80
_MOST_LENGTH_BYTES = 4
_MOST_REFERRALS = 20

Cell = bytes | list[bytes] | None
"""The values of one attribute: none, one, or several."""


class BerError(ValueError):
    """The bytes are not what RFC 4511 says; nothing of the answer can be trusted."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message within the bytes: its id, what it is, and where its content lies."""

    id: int
    kind: int
    start: int
    end: int
    after: int
    """Where the message ends; controls lie between `end` and here."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a search ended; `cookie` asks for the next page, and is empty after the last."""

    code: int
    matched: str
    message: str
    referrals: tuple[str, ...]
    cookie: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry: its name, and for each wanted attribute its values."""

    dn: bytes
    cells: list[Cell]
    ranges: tuple[tuple[int, bytes], ...] = ()
    """Attributes of which only a part came, each with the description it came under."""


class Wanted(dict[bytes, int]):
    """Where each attribute description goes; -1 is nowhere, -2 and below a part of number -2-n.

    Names differ in case only by taste (RFC 4512 section 2.5), so what a server really writes
    is looked up once and kept.
    """

    MOST_KEPT = 1000

    def __init__(self, places: Mapping[str, int]) -> None:
        super().__init__()
        self._places = {name.lower().encode(): place for name, place in places.items()}
        self.width = max(self._places.values(), default=-1) + 1

    def __missing__(self, description: bytes) -> int:
        name = description.lower()
        place = self._places.get(name)
        if place is None and name.endswith(b";binary"):
            # Asked for a certificate, a server says how it sends it (RFC 4522).
            place = self._places.get(name.removesuffix(b";binary"))
        if place is None:
            # Active Directory: `member;range=0-1499`, the last part `member;range=1500-*`.
            plain, mark, bounds = name.partition(b";range=")
            known = self._places.get(plain) if mark else None
            place = -1 if known is None else known if bounds.endswith(b"-*") else -2 - known
        if len(self) < self.MOST_KEPT:
            self[description] = place
        return place


def frames(data: bytes | bytearray, at: int, longest: int = LONGEST_MESSAGE) -> list[Frame]:
    """The whole messages from `at` on; BerError when one is malformed or longer than `longest`."""
    found: list[Frame] = []
    there = len(data)
    while at + 2 <= there:
        if data[at] != _SEQUENCE:
            raise BerError(f"a message begins with 0x{data[at]:02x}")
        size = data[at + 1]
        body = at + 2
        if size >= _LONG:
            count = size - _LONG
            if not 0 < count <= _MOST_LENGTH_BYTES:
                raise BerError(f"a length of {count} bytes")
            if body + count > there:
                break
            size = int.from_bytes(data[body : body + count])
            body += count
        if size > longest:
            raise BerError(f"a message of {size} bytes; at most {longest} are taken")
        end = body + size
        if end > there:
            break
        found.append(_frame(data, body, end))
        at = end
    return found


def _frame(data: bytes | bytearray, at: int, after: int) -> Frame:
    start, end = _part(data, at, after, _INTEGER)
    if not 0 < end - start <= _MOST_LENGTH_BYTES:
        raise BerError("a message without a number")
    number = int.from_bytes(data[start:end])
    if end >= after:
        raise BerError("a message without content")
    kind = data[end]
    start, end = _part(data, end, after, kind)
    return Frame(number, kind, start, end, after)


def entry(data: bytes, frame: Frame, wanted: Wanted) -> Entry:
    """Read a SearchResultEntry (RFC 4511 section 4.5.2)."""
    try:
        return _entry(data, frame.start, frame.end, wanted)
    except IndexError:
        raise BerError("an entry ends too early") from None


def _entry(data: bytes, at: int, stop: int, wanted: Wanted) -> Entry:  # noqa: C901, PLR0912, PLR0915  the hot loop: a call costs more than a line
    at, end = _part(data, at, stop, _STRING)
    dn = data[at:end]
    at, end = _part(data, end, stop, _SEQUENCE)
    if end != stop:
        raise BerError("an entry holds more than its attributes")
    cells: list[Cell] = [None] * wanted.width
    ranges: list[tuple[int, bytes]] = []
    while at < stop:
        # PartialAttribute: a sequence of the description and the set of values.
        size = data[at + 1]
        if data[at] != _SEQUENCE:
            raise BerError("an attribute that is none")
        if size < _LONG:
            at += 2
            end = at + size
        else:
            at, end = _part(data, at, stop, _SEQUENCE)
        size = data[at + 1]
        if end > stop or data[at] != _STRING or size >= _LONG:
            raise BerError("an attribute without a name")
        start = at + 2
        at = start + size
        if at >= end:
            raise BerError("an attribute without values")
        place = wanted[data[start:at]]
        if place == -1:
            at = end
            continue
        if place < -1:
            place = -2 - place
            ranges.append((place, data[start:at]))
        size = data[at + 1]
        if data[at] != _SET:
            raise BerError("an attribute without values")
        if size < _LONG:
            at += 2
            inner = at + size
        else:
            at, inner = _part(data, at, end, _SET)
        if inner != end:
            raise BerError("an attribute holds more than its values")
        values: list[bytes] = []
        while at < end:
            size = data[at + 1]
            if data[at] != _STRING:
                raise BerError("a value that is none")
            if size < _LONG:
                at += 2
                inner = at + size
            else:
                at, inner = _part(data, at, end, _STRING)
            if inner > end:
                raise BerError("a value longer than its attribute")
            values.append(data[at:inner])
            at = inner
        if values:
            cells[place] = values[0] if len(values) == 1 else values
    return Entry(dn, cells, tuple(ranges))


def result(data: bytes, frame: Frame) -> Result:
    """Read a SearchResultDone or another LDAPResult, and the cookie of its paging control."""
    start, end = _part(data, frame.start, frame.end, _ENUMERATED)
    if not 0 < end - start <= _MOST_LENGTH_BYTES:
        raise BerError("a result without a code")
    code = int.from_bytes(data[start:end])
    start, end = _part(data, end, frame.end, _STRING)
    matched = data[start:end]
    start, end = _part(data, end, frame.end, _STRING)
    message = data[start:end]
    referrals: list[str] = []
    if end < frame.end and data[end] == _REFERRAL:
        at, stop = _part(data, end, frame.end, _REFERRAL)
        while at < stop and len(referrals) < _MOST_REFERRALS:
            start, at = _part(data, at, stop, _STRING)
            referrals.append(words(data[start:at]))
    cookie = _cookie(data, frame)
    return Result(code, words(matched), words(message), tuple(referrals), cookie)


def _cookie(data: bytes, frame: Frame) -> bytes:
    if frame.end == frame.after:
        return b""
    at, stop = _part(data, frame.end, frame.after, _CONTROLS)
    while at < stop:
        at, end = _part(data, at, stop, _SEQUENCE)
        start, at = _part(data, at, end, _STRING)
        kind = data[start:at]
        if at < end and data[at] != _STRING:  # the criticality
            _, at = _part(data, at, end, data[at])
        if kind == PAGED_RESULTS and at < end:
            at, inner = _part(data, at, end, _STRING)
            at, inner = _part(data, at, inner, _SEQUENCE)
            _, at = _part(data, at, inner, _INTEGER)
            start, at = _part(data, at, inner, _STRING)
            return data[start:at]
        at = end
    return b""


def _part(data: bytes | bytearray, at: int, stop: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends, all of it before `stop`."""
    if at + 2 > stop:
        raise BerError("the message ends too early")
    if data[at] != tag:
        raise BerError(f"0x{data[at]:02x} where 0x{tag:02x} belongs")
    size = data[at + 1]
    at += 2
    if size >= _LONG:
        count = size - _LONG
        if not 0 < count <= _MOST_LENGTH_BYTES or at + count > stop:
            raise BerError(f"a length of {count} bytes")
        size = int.from_bytes(data[at : at + count])
        at += count
    if at + size > stop:
        raise BerError("a part longer than what holds it")
    return at, at + size


def words(raw: bytes) -> str:
    """Text of the server for people: short, and on one line."""
    text = raw[:2000].decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text).strip()
