"""What SQLite can keep of a Python value: integers, floats, text and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from nomaflow.connectors import json_value
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
            return json_value.written(name, value, _inner)
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


def _inner(value: Any) -> Any:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else _text(value)
