"""The JSON text of what a function returns, or a sentence that says where it cannot be one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from nomaflow.errors import StepError


def to_json(value: Any, what: str) -> str:
    """`value` as JSON text; `what` is how a refusal calls it (`releases.sync:f returned`).

    Decimals become numbers where that loses nothing, else text; dates, times, UUIDs and paths
    become text; sets become lists. StepError, not to be retried, for anything else and for NaN.
    """
    try:
        return json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise StepError(f"{what} {_place(value, error)}", retryable=False) from None


def _place(value: Any, error: Exception) -> str:
    try:
        return _misfit(value, "", 0) or f"something JSON cannot hold ({error})"
    except RecursionError:
        return _TOO_DEEP


def _plain(value: Any) -> Any:
    """What stands in JSON for a value that it does not know."""
    match value:
        case Decimal():
            return _number(value)
        case date() | time():  # datetime is a date
            return value.isoformat()
        case UUID() | PurePath():
            return str(value)
        case Enum():
            return value.value
        case set() | frozenset():
            return list(value)
        case Mapping():
            return dict(value)
        case _:
            raise TypeError(type(value).__name__)


_MOST_DIGITS = 100


def _number(value: Decimal) -> int | float | str:
    if not value.is_finite() or abs(value.adjusted()) > _MOST_DIGITS:
        return str(value)
    if value == value.to_integral_value():
        return int(value)
    near = float(value)
    return near if Decimal(repr(near)) == value else str(value)


_DEEPEST = 100
_TOO_DEEP = f"something nested more than {_DEEPEST} deep, or inside itself"


def _misfit(value: Any, path: str, depth: int) -> str | None:
    """Words for the first value that JSON cannot hold, with its place."""
    if depth > _DEEPEST:
        return _TOO_DEEP
    words: str | None = None
    match value:
        case float() if not math.isfinite(value):
            words = f"{value} at {path or '/'}: JSON has no word for it"
        case str() | int() | float() | None:
            pass
        case Mapping():
            words = _misfit_of_mapping(value, path, depth)
        case list() | tuple() | set() | frozenset():
            items = ((f"{path}/{number}", item) for number, item in enumerate(value))
            words = _first_misfit(items, depth)
        case _:
            try:
                words = _misfit(_plain(value), path, depth + 1)
            except TypeError:
                words = f"a {_kind(value)} at {path or '/'}, which JSON cannot hold"
    return words


def _misfit_of_mapping(value: Mapping[Any, Any], path: str, depth: int) -> str | None:
    for key in value:
        if not isinstance(key, str | int | float | bool | None):
            return f"a {_kind(value)} with the key {key!r:.80} at {path or '/'}: keys are text"
    return _first_misfit(((f"{path}/{key}", item) for key, item in value.items()), depth)


def _first_misfit(items: Iterable[tuple[str, Any]], depth: int) -> str | None:
    found = (_misfit(item, path, depth + 1) for path, item in items)
    return next((words for words in found if words), None)


def _kind(value: Any) -> str:
    return type(value).__name__
