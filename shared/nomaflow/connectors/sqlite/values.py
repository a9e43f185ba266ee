"""What SQLite can keep of a Python value: integers, floats, text and bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from nomaflow.errors import StepError

_LEAST, _MOST = -(2**63), 2**63 - 1


def bind(name: str, value: Any) -> int | float | str | bytes | None:
    """The value as SQLite keeps it; StepError when it would lose something.

    Dates and times become ISO 8601 text, moments with a zone in UTC, so that text compares as
    time does (sqlite.org/lang_datefunc.html); numeric becomes text, which a column of type
    NUMERIC turns into a number where it can.
    """
    match value:
        case None | float() | str():
            return value
        case bool():
            return int(value)
        case int():
            if not _LEAST <= value <= _MOST:
                raise StepError(f"parameter `{name}` is {value}, more than SQLite's 64 bits hold")
            return value
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case Mapping() | list() | tuple():
            return _json(name, value)
        case _:
            return _text(value)


def _text(value: Any) -> str:  # noqa: PLR0911  a line per kind of value
    match value:
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat(" ")
        case datetime():
            return value.isoformat(" ")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return f"{value.days} days {value.seconds}.{value.microseconds:06d} seconds"
        case Decimal():
            return format(value, "f") if value.is_finite() else str(value)
        case UUID():
            return str(value)
        case _:
            return str(value)


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, default=_json_text)
    except (TypeError, ValueError) as error:
        raise StepError(f"parameter `{name}` cannot be written as JSON: {error}") from None


def _json_text(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        raise TypeError("a set has no JSON form")
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return dict(value) if isinstance(value, Mapping) else _text(value)
