"""Values of Python's as JSON that keeps what JSON has no word for."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

_PLAIN = frozenset({bool, int, str, type(None)})


def pack(columns: Sequence[Sequence[Any]]) -> bytes:
    """Columns of values; TypeError for one that `is_value` says is none."""
    packed = [
        column if set(map(type, column)) <= _PLAIN else [_packed(cell) for cell in column]
        for column in columns
    ]
    return json.dumps(packed, separators=(",", ":")).encode()


def unpack(packed: bytes) -> list[list[Any]]:
    """What `pack` was given; ValueError for what it did not write."""
    try:
        return [[_unpacked(cell) for cell in column] for column in json.loads(packed)]
    except (TypeError, KeyError, ArithmeticError) as error:
        raise ValueError(f"not what was packed: {error!r}") from None


def is_value(cell: Any) -> bool:
    """Whether a table could hold it, and all that is in it."""
    match cell:
        case Mapping():
            return all(map(is_value, cell.values()))
        case list() | tuple():
            return all(map(is_value, cell))
        case _:
            return isinstance(cell, _VALUES)


def _packed(cell: Any) -> Any:  # noqa: C901, PLR0911, PLR0912  a line per kind of value
    if type(cell) in _PLAIN:
        return cell
    match cell:
        case float():
            return cell if math.isfinite(cell) else {"float": str(cell)}
        case Decimal():
            return {"decimal": str(cell)}
        case datetime():
            return {"datetime": cell.isoformat()}
        case date():
            return {"date": cell.isoformat()}
        case time():
            return {"time": cell.isoformat()}
        case timedelta():
            return {"interval": [cell.days, cell.seconds, cell.microseconds]}
        case UUID():
            return {"uuid": str(cell)}
        case bytes() | bytearray() | memoryview():
            return {"bytes": base64.b64encode(bytes(cell)).decode()}
        case Mapping():
            return {"dict": {str(key): _packed(inner) for key, inner in cell.items()}}
        case list() | tuple():
            return {"list": [_packed(inner) for inner in cell]}
        case str():
            return str.__str__(cell)  # an Enum of text
        case int():
            return int(cell)
        case _:
            raise TypeError(f"a {type(cell).__name__}")


_VALUES = (
    *(bool, int, str, type(None), float, Decimal, date, time, timedelta, UUID),
    *(bytes, bytearray, memoryview),
)
_READ: dict[str, Callable[[Any], Any]] = {
    "float": float,
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "interval": lambda parts: timedelta(*parts),
    "uuid": UUID,
    "bytes": base64.b64decode,
    "dict": lambda inner: {key: _unpacked(cell) for key, cell in inner.items()},
    "list": lambda inner: [_unpacked(cell) for cell in inner],
}


def _unpacked(cell: Any) -> Any:
    if not isinstance(cell, dict):
        return cell
    ((kind, value),) = cell.items()
    return _READ[kind](value)
