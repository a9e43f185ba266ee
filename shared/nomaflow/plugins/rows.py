"""Rows of a copy on their way to a function and back: JSON that keeps what JSON has no word for."""

from __future__ import annotations

import base64
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from nomaflow.errors import StepError

Row = Mapping[str, Any]
_PLAIN = (bool, int, str, type(None))


def pack(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows of equal keys, as JSON."""
    names = list(rows[0]) if rows else []
    return {"names": names, "rows": [[_packed(row[name]) for name in names] for row in rows]}


def unpack(packed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `pack` was given."""
    names = packed["names"]
    return [
        dict(zip(names, [_unpacked(cell) for cell in row], strict=True)) for row in packed["rows"]
    ]


def unpack_answers(packed: Any) -> list[dict[str, Any] | None]:
    """What a function answered for each row."""
    return [
        None if row is None else {name: _unpacked(cell) for name, cell in row.items()}
        for row in packed
    ]


async def each(name: str, function: Callable[..., Any], rows: Sequence[dict[str, Any]]) -> Any:
    """Call a plugin's function with every row, one after the other; its answers as JSON.

    StepError naming the row's place in the batch for an answer that is neither a dict nor None.
    """
    answers: list[Any] = []
    for place, row in enumerate(rows, 1):
        answer = function(row)
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is not None and not isinstance(answer, Mapping):
            raise StepError(
                f"{name} answered {type(answer).__name__} for row {place} of its batch: return a "
                "dict, or None to drop the row",
                retryable=False,
            )
        answers.append(
            None if answer is None else {str(key): _packed(cell) for key, cell in answer.items()}
        )
    return answers


def _packed(cell: Any) -> Any:  # noqa: C901, PLR0911, PLR0912  a line per kind of value
    if isinstance(cell, _PLAIN) and type(cell) in _PLAIN:
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
        case str() | int():
            return str(cell) if isinstance(cell, str) else int(cell)  # an Enum of text or numbers
        case _:
            raise StepError(
                f"a value of the type {type(cell).__name__} cannot be copied into a table: "
                f"{cell!r:.80}",
                retryable=False,
            )


_READ: dict[str, Callable[[Any], Any]] = {
    "float": float,
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "interval": lambda parts: timedelta(parts[0], parts[1], parts[2]),
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
