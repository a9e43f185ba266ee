"""What a value given for a declared parameter of a named query is, or why it is not one (Q05)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal
from uuid import UUID

ParamType = Literal["string", "int", "float", "bool", "date", "datetime", "decimal", "json", "uuid"]

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
_INTEGER = re.compile(r"[+-]?\d{1,1000}", re.ASCII)
_LONGEST_SHOWN = 60


def coerced(kind: ParamType, value: Any) -> Any:
    """The value as `kind`; ValueError says what it should have been. null stays null."""
    if value is None:
        return None
    try:
        found = _READERS[kind](value)
    except (ValueError, TypeError, OverflowError, InvalidOperation, RecursionError):
        found = None
    if found is None:
        raise ValueError(f"{_shown(value)} is not {_WANTED[kind]}")
    return found


def _string(value: Any) -> Any:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime() | date():
            return value.isoformat()
        case int() | float() | Decimal() | UUID():
            return str(value)
        case _:
            return None


def _int(value: Any) -> Any:
    match value:
        case bool():
            return None
        case int():
            return value
        case float() | Decimal():
            return int(value) if value == int(value) else None
        case str():
            return int(value) if _INTEGER.fullmatch(value.strip()) else None
        case _:
            return None


def _float(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def _bool(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    return True if word in _TRUE else False if word in _FALSE else None


def _date(value: Any) -> Any:
    match value:
        case datetime():
            return None  # whoever gives a time of day means it
        case date():
            return value
        case str():
            return date.fromisoformat(value.strip())
        case _:
            return None


def _datetime(value: Any) -> Any:
    match value:
        case datetime():
            return value
        case date():
            return datetime(value.year, value.month, value.day, tzinfo=UTC).replace(tzinfo=None)
        case str():
            return datetime.fromisoformat(value.strip())
        case _:
            return None


def _decimal(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return found if found.is_finite() else None


def _json(value: Any) -> Any:
    if isinstance(value, str):
        json.loads(value)  # databases read text given for JSON as a JSON document
        return value
    return value if isinstance(value, Mapping | list | tuple | bool | int | float) else None


def _uuid(value: Any) -> Any:
    if isinstance(value, UUID):
        return value
    return UUID(value) if isinstance(value, str) else None


_READERS: Mapping[ParamType, Callable[[Any], Any]] = {
    "string": _string,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "date": _date,
    "datetime": _datetime,
    "decimal": _decimal,
    "json": _json,
    "uuid": _uuid,
}
_WANTED: Mapping[ParamType, str] = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "date": "a date, as 2024-05-06",
    "datetime": "a date with a time, as 2024-05-06T07:08:09Z",
    "decimal": "a decimal number",
    "json": "JSON",
    "uuid": "a UUID",
}


def _shown(value: Any) -> str:
    written = repr(value)
    return written if len(written) <= _LONGEST_SHOWN else f"{written[:_LONGEST_SHOWN]}…"
