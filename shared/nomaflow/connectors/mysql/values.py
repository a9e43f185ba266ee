"""Python values as MySQL literals that no mode of the server can read otherwise, and back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from asyncmy.constants import FIELD_TYPE
from asyncmy.converters import conversions

from nomaflow.connectors import json_value
from nomaflow.errors import StepError

_LONGEST_DECIMAL = 65
_MOST_SIGNED, _MOST_UNSIGNED = -(2**63), 2**64 - 1
# Text of these characters alone means itself between quotes whatever sql_mode and character set
# say; all other text is sent as hexadecimal digits, in which nothing can end a literal.
_PLAIN = re.compile(r"[ !#-&(-\[\]-~]*")  # printable ASCII without " ' and backslash
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)", re.ASCII
)
_DATES = frozenset({FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP})


def literal(name: str, value: Any) -> str:  # noqa: PLR0911  a line per kind of value
    """A value as MySQL text; StepError when it could only be stored by losing something."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "1" if value else "0"
        case int():
            return _integer(name, value)
        case float():
            if not math.isfinite(value):
                raise StepError(f"parameter `{name}` is {value}; MySQL has no such number")
            written = repr(value)
            return _signed(written if "e" in written else f"{written}e0")
        case Decimal():
            return _decimal(name, value)
        case str():
            return text(name, value)
        case bytes() | bytearray() | memoryview():
            return f"_binary X'{bytes(value).hex()}'"
        case _:
            return text(name, written_out(name, value))


def text(name: str, value: str) -> str:
    """A text literal."""
    if _PLAIN.fullmatch(value):
        return f"'{value}'"
    try:
        return f"_utf8mb4 X'{value.encode().hex()}'"
    except UnicodeEncodeError:
        raise StepError(
            f"parameter `{name}` holds half of a character (a lone surrogate); no database can"
        ) from None


def written_out(name: str, value: Any) -> str:
    """The text of a value that MySQL takes as text: times in UTC, JSON, UUID."""
    match value:
        case datetime():
            plain = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            return plain.isoformat(" ")
        case time() if value.tzinfo is not None:
            raise StepError(f"parameter `{name}` is a time with a zone, which MySQL cannot store")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return _duration(value)
        case UUID():
            return str(value)
        case Mapping() | list() | tuple():
            return _json(name, value)
        case _:
            return str(value)


def is_moment(value: Any) -> bool:
    """Whether text is a moment with its zone, `2024-05-06T07:08:09Z`, which MySQL cannot read."""
    return isinstance(value, str) and _MOMENT.fullmatch(value) is not None


def in_utc(value: Any) -> Any:
    """Such a text as the plain date and time it is in UTC; other values as they are."""
    if not is_moment(value):
        return value
    try:
        return datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return value


def decoders() -> dict[Any, Any]:
    """How asyncmy reads columns: numbers, dates and JSON as Python values, BIT as an integer."""
    return {
        **conversions,
        FIELD_TYPE.JSON: json.loads,
        FIELD_TYPE.BIT: _bits,
    }


def dates(fields: Sequence[Sequence[Any]]) -> list[tuple[int, str]]:
    """Places and names of a result's columns that hold dates."""
    return [(place, str(field[0])) for place, field in enumerate(fields) if field[1] in _DATES]


def check_dates(rows: Sequence[Sequence[Any]], places: Sequence[tuple[int, str]]) -> None:
    """StepError for `0000-00-00` and the like, which no other database and no program can hold."""
    for place, name in places:
        for row in rows:
            if isinstance(row[place], str):
                raise StepError(
                    f"column `{name}` holds the date {row[place]!r}, which does not exist; "
                    f"select NULLIF(`{name}`, 0), or CAST(`{name}` AS CHAR) to keep its text",
                    retryable=False,
                )


def _integer(name: str, value: int) -> str:
    if not _MOST_SIGNED <= value <= _MOST_UNSIGNED:
        return _decimal(name, Decimal(value))
    return _signed(str(int(value)))


def _decimal(name: str, value: Decimal) -> str:
    if not value.is_finite():
        raise StepError(f"parameter `{name}` is {value}; MySQL has no such number")
    written = format(value, "f")
    if sum(letter.isdigit() for letter in written) > _LONGEST_DECIMAL:
        raise StepError(
            f"parameter `{name}` has more than the {_LONGEST_DECIMAL} digits that MySQL keeps"
        )
    return _signed(written)


def _signed(written: str) -> str:
    return f"({written})" if written.startswith("-") else written


def _duration(value: timedelta) -> str:
    total = abs(value)
    hours, rest = divmod(total.days * 86_400 + total.seconds, 3600)
    sign = "-" if value < timedelta(0) else ""
    return f"{sign}{hours:02}:{rest // 60:02}:{rest % 60:02}.{total.microseconds:06}"


def _json(name: str, value: Any) -> str:
    def spell(part: Any) -> Any:
        if isinstance(part, datetime):
            return part.isoformat()
        return f"\\x{part.hex()}" if isinstance(part, bytes) else written_out(name, part)

    return json_value.written(name, value, spell)


def _bits(value: bytes) -> int:
    return int.from_bytes(value, "big")
