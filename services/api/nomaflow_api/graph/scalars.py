"""The scalars of the schema and how each crosses the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NewType

import strawberry
from strawberry.types.scalar import ScalarDefinition

from nomaflow_api.doors.failures import bad_input

BigInt = NewType("BigInt", int)
Cursor = NewType("Cursor", str)
Json = NewType("Json", object)

_MOST = 2**63 - 1


def _show_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_time(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise bad_input("A DateTime is text of RFC 3339 with its offset, such as 2026-11-25T18:30:00Z.")


def _read_big(value: Any) -> int:
    try:
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            number = int(value)
            if abs(number) <= _MOST:
                return number
    except ValueError:
        pass
    raise bad_input("A BigInt is a whole number of at most 64 bits, as number or text.")


def _read_cursor(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise bad_input("A Cursor is text that this API gave out before.")


def _plain(value: Any) -> Any:
    return value


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(name="DateTime", serialize=_show_time, parse_value=_read_time),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="64-bit integer; leaves as a decimal string, accepts numbers and strings",
        serialize=str,
        parse_value=_read_big,
    ),
    Cursor: strawberry.scalar(
        name="Cursor",
        description="Opaque position in an event or log stream.",
        serialize=str,
        parse_value=_read_cursor,
    ),
    Json: strawberry.scalar(name="JSON", serialize=_plain, parse_value=_plain),
}
