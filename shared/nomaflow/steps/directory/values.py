"""What the values of a directory look like in a column."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from nomaflow.connectors.ldap.ber import Cell

GUIDS = frozenset(
    {"objectguid", "msexchmailboxguid", "msexcharchiveguid", "ms-ds-consistencyguid"}
    | {"schemaidguid", "msds-generationid"}
)
SIDS = frozenset(
    {"objectsid", "sidhistory", "securityidentifier", "tokengroups", "msexchmasteraccountsid"}
)
_GUID_BYTES = 16
# Generalized time, RFC 4517 section 3.3.13.
_TIME = re.compile(
    r"(\d{4})(\d\d)(\d\d)(\d\d)(?:(\d\d)(\d\d)?)?(?:[.,](\d+))?(Z|[+-]\d\d(?:\d\d)?)"
)
# Active Directory counts 100 ns from 1601; both ends of the range mean never (MS-ADTS 2.3).
_FILETIME = re.compile(r"\d{17,19}|0")
_NEVER = ("0", "9223372036854775807")
_FILETIME_START = datetime(1601, 1, 1, tzinfo=UTC)


class Kind(StrEnum):
    """What a column takes."""

    TEXT = "text"
    BYTES = "bytes"
    ARRAY = "array"
    JSON = "json"
    TIME = "time"
    TIME_UTC = "time_utc"
    """A time without a zone, in UTC."""
    TRUTH = "truth"
    """Written as true and false."""
    FLAG = "flag"
    """Written as 1 and 0."""
    OTHER = "other"
    """The database reads the text."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column to fill, and the attribute that fills it; `dn` is the entry's own name."""

    name: str
    attribute: str
    kind: Kind
    is_binary: bool


class UnfitError(ValueError):
    """A value that the column cannot hold; the message says why, the value is not repeated."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """In the place of a value: why there is none."""

    why: str


Convert = Callable[[Sequence[Cell]], list[str | Unfit | None]]


def converter(column: Column, joiner: str) -> Convert:
    """How the cells of one attribute become the values of a column.

    `joiner` stands between several values; "array" keeps them apart: as an array in a column
    of arrays or of JSON, and in one of text as JSON where there are several.
    """
    one = _one(column)
    many = _many(column, joiner)
    plain = column.kind is Kind.TEXT and joiner != "array" and not _is_bytes(column)

    def slowly(cells: Sequence[Cell]) -> list[str | Unfit | None]:
        out: list[str | Unfit | None] = []
        for cell in cells:
            try:
                out.append(None if cell is None else many(cell, one))
            except UnfitError as error:
                out.append(Unfit(f"{column.attribute}: {error}"))
        return out

    def quickly(cells: Sequence[Cell]) -> list[str | Unfit | None]:
        try:
            texts = [
                cell.decode() if type(cell) is bytes else None if cell is None else many(cell, one)
                for cell in cells
            ]
        except ValueError:
            return slowly(cells)
        return slowly(cells) if "\x00" in "".join(filter(None, texts)) else list(texts)

    return quickly if plain else slowly


def _is_bytes(column: Column) -> bool:
    name = column.attribute.lower()
    return column.is_binary or name in GUIDS or name in SIDS


def _one(column: Column) -> Callable[[bytes], str | None]:  # noqa: PLR0911  a line per kind
    name = column.attribute.lower()
    written: Callable[[bytes], str | None]
    if column.kind is Kind.BYTES:
        return lambda raw: "\\x" + raw.hex()
    if name in GUIDS:
        written = guid
    elif name in SIDS:
        written = sid
    else:
        written = encoded if column.is_binary else text
    match column.kind:
        case Kind.TIME:
            return lambda raw: moment(text(raw))
        case Kind.TIME_UTC:
            return lambda raw: _without_zone(moment(text(raw)))
        case Kind.TRUTH:
            return lambda raw: _truth(text(raw), "true", "false")
        case Kind.FLAG:
            return lambda raw: _truth(text(raw), "1", "0")
        case Kind.OTHER:
            return lambda raw: (written(raw) or "").strip() or None
        case _:
            return written


def _many(
    column: Column, joiner: str
) -> Callable[[bytes | list[bytes], Callable[[bytes], str | None]], str | None]:
    def values(cell: bytes | list[bytes], one: Callable[[bytes], str | None]) -> list[str | None]:
        return [one(cell)] if isinstance(cell, bytes) else [one(raw) for raw in cell]

    if column.kind is Kind.ARRAY:
        return lambda cell, one: array(values(cell, one))
    if column.kind is Kind.JSON or (joiner == "array" and column.kind is Kind.TEXT):
        always = joiner == "array" and column.kind is Kind.JSON
        plain = column.kind is Kind.TEXT

        def as_json(cell: bytes | list[bytes], one: Callable[[bytes], str | None]) -> str | None:
            found = values(cell, one)
            if len(found) == 1 and plain:
                return found[0]
            whole = found if always or len(found) > 1 else found[0]
            return json.dumps(whole, ensure_ascii=False)

        return as_json
    if column.kind is Kind.BYTES:

        def only(cell: bytes | list[bytes], one: Callable[[bytes], str | None]) -> str | None:
            if isinstance(cell, bytes):
                return one(cell)
            raise UnfitError(f"{len(cell)} values do not fit one column of bytes")

        return only
    return lambda cell, one: (
        one(cell)
        if isinstance(cell, bytes)
        else joiner.join(value for value in map(one, cell) if value is not None)
    )


def text(raw: bytes) -> str:
    """Text in UTF-8, as every LDAPv3 string; base64 when it is none after all."""
    try:
        found = raw.decode()
    except UnicodeDecodeError:
        return encoded(raw)
    if "\x00" in found:
        raise UnfitError("the value holds a NUL character")
    return found


def encoded(raw: bytes) -> str:
    """Bytes as base64, as in LDIF (RFC 2849)."""
    return base64.b64encode(raw).decode()


def guid(raw: bytes) -> str:
    """A GUID of Active Directory, whose first three parts come with their bytes reversed."""
    if len(raw) != _GUID_BYTES:
        return text(raw) if raw.isascii() else encoded(raw)
    return str(UUID(bytes_le=raw))


def sid(raw: bytes) -> str:
    """A security identifier as `S-1-5-21-...` (MS-DTYP 2.4.2)."""
    count = raw[1] if len(raw) > 1 else 0
    if len(raw) != 8 + 4 * count or len(raw) < 8 or raw[0] != 1:  # noqa: PLR2004  the layout
        return text(raw) if raw.startswith(b"S-") else encoded(raw)
    authority = int.from_bytes(raw[2:8])
    parts = (int.from_bytes(raw[at : at + 4], "little") for at in range(8, len(raw), 4))
    shown = str(authority) if authority < 1 << 32 else f"0x{authority:012x}"
    return "-".join(["S", str(raw[0]), shown, *map(str, parts)])


def moment(value: str) -> str | None:
    """A time in ISO 8601 from generalized time or Active Directory's; None for never.

    What is neither is left to the database, which may read it.
    """
    value = value.strip()
    if (found := _TIME.fullmatch(value)) is not None:
        return _generalized(*found.groups())
    if _FILETIME.fullmatch(value):
        if value in _NEVER:
            return None
        try:
            return (_FILETIME_START + timedelta(microseconds=int(value) // 10)).isoformat()
        except OverflowError:
            return None
    return value or None


def _without_zone(value: str | None) -> str | None:
    """The same moment as databases write it that know no zones."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return value
    if at.tzinfo is not None:
        at = at.astimezone(UTC).replace(tzinfo=None)
    return at.isoformat(" ")


def _generalized(
    year: str,
    month: str,
    day: str,
    hour: str,
    minute: str | None,
    second: str | None,
    fraction: str | None,
    zone: str,
) -> str:
    # A fraction is one of the last unit that is written.
    unit = 1.0 if second else 60.0 if minute else 3600.0
    extra = timedelta(seconds=round(float(f"0.{fraction or 0}") * unit, 6))
    offset = "+00:00" if zone == "Z" else f"{zone[:3]}:{zone[3:] or '00'}"
    leap = second == "60"
    written = f"{year}-{month}-{day}T{hour}:{minute or '00'}:{'59' if leap else second or '00'}"
    try:
        at = datetime.fromisoformat(written + offset)
        return (at + extra + timedelta(seconds=int(leap))).isoformat()
    except (ValueError, OverflowError):
        raise UnfitError("the value is no time") from None


def array(values: Sequence[str | None]) -> str:
    """An array as PostgreSQL reads it from text."""
    parts = []
    for value in values:
        if value is None:
            parts.append("NULL")
        else:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'"{escaped}"')
    return "{" + ",".join(parts) + "}"


def _truth(value: str, yes: str, no: str) -> str:
    match value.strip().upper():
        case "TRUE" | "T" | "YES" | "1":
            return yes
        case "FALSE" | "F" | "NO" | "0":
            return no
        case _:
            return value
