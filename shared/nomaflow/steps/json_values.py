"""What a database value looks like in a step's output, which is JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from asyncpg import BitString, Range
from asyncpg.pgproto import pgproto

_EXACT_INTEGER = 2**53  # the largest integer every JSON reader keeps exactly


def row(values: Mapping[str, Any]) -> dict[str, Any]:
    """One row as a JSON object."""
    return {name: value(inner) for name, inner in values.items()}


def value(given: Any) -> Any:  # noqa: PLR0911  one line per kind of value
    """The value as JSON: times as ISO 8601, numeric as a number where a number holds it exactly."""
    match given:
        case None | bool() | str():
            return given
        case int():
            return given if abs(given) < _EXACT_INTEGER else str(given)
        case float():
            return given if math.isfinite(given) else str(Decimal(given))
        case Decimal():
            return _decimal(given)
        case datetime() | date() | time():
            return _infinity(given) or given.isoformat()
        case timedelta():
            return given.total_seconds()
        case bytes() | bytearray() | memoryview():
            return "\\x" + bytes(given).hex()
        case Mapping():
            return {str(key): value(inner) for key, inner in given.items()}
        case list() | tuple():
            return [value(inner) for inner in given]
        case _:
            return _other(given)


def _infinity(given: Any) -> str | None:
    """PostgreSQL's `infinity`, which the driver gives as objects of its own, equal to a real date.

    The last day of 9999 as a date of people (`valid_to`) is another object and stays a date.
    """
    if given is pgproto.infinity_date or given is pgproto.infinity_datetime:
        return "infinity"
    if given is pgproto.negative_infinity_date or given is pgproto.negative_infinity_datetime:
        return "-infinity"
    return None


def _other(given: Any) -> str:
    match given:
        case Range():
            return _range(given)
        case BitString():
            return str(given.as_string()).replace(" ", "")
        case _:
            return str(given)


def _range(given: Range) -> str:
    """As PostgreSQL writes it: `[1,3)`, `empty`, and nothing for an end that is open."""
    if given.isempty:
        return "empty"
    lower, upper = ("" if end is None else str(value(end)) for end in (given.lower, given.upper))
    opening, closing = "[" if given.lower_inc else "(", "]" if given.upper_inc else ")"
    return f"{opening}{lower},{upper}{closing}"


def _decimal(given: Decimal) -> int | float | str:
    if not given.is_finite():
        return str(given)
    if given == given.to_integral_value() and abs(given) < _EXACT_INTEGER:
        return int(given)
    as_float = float(given)
    return as_float if math.isfinite(as_float) and Decimal(repr(as_float)) == given else str(given)
