"""Values of TOML and JSON as a function's annotations want them (P13).

Text becomes numbers, words of yes and no, dates, decimals, members of an Enum or a Literal; lists
and tables are looked into. An annotation that is not listed here asks for nothing.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from nomaflow.clock import schedule
from nomaflow.errors import NomaflowError

_TRUE = {"true", "t", "yes", "y", "1", "on"}
_FALSE = {"false", "f", "no", "n", "0", "off"}
_UNIONS = (typing.Union, types.UnionType)
_LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: list,
    AbstractSet: set,
}
_TABLES = (dict, Mapping)
_MOST_SHOWN = 80


def coerced(value: Any, hint: Any) -> Any:  # noqa: PLR0911  a line for each kind of annotation
    """Return `value` as the annotation says; ValueError when it cannot be. None stays None."""
    if value is None or not is_known(hint):
        return value
    origin = typing.get_origin(hint)
    kind = origin or hint
    if origin in _UNIONS:
        return _of_union(value, typing.get_args(hint))
    if origin is typing.Annotated:
        return coerced(value, typing.get_args(hint)[0])
    if origin is typing.Literal:
        return _of_literal(value, typing.get_args(hint))
    if kind in _LISTS:
        return _of_list(value, kind, typing.get_args(hint))
    if kind in _TABLES:
        return _of_table(value, typing.get_args(hint))
    if issubclass(hint, Enum):
        return _of_enum(value, hint)
    return value if type(value) is hint else _plain(value, hint)


def is_known(hint: Any) -> bool:
    """Tell whether an annotation asks for something that can be made here, all of it."""
    origin = typing.get_origin(hint)
    kind = origin or hint
    if origin in _UNIONS:
        return all(part is types.NoneType or is_known(part) for part in typing.get_args(hint))
    if origin is typing.Annotated:
        return is_known(typing.get_args(hint)[0])
    if origin is typing.Literal or kind in _LISTS or kind in _TABLES:
        return True
    return isinstance(hint, type) and (hint in _CONVERT or issubclass(hint, Enum))


def in_words(hint: Any) -> str:
    """Write an annotation for people: `int or none`, `one of 'a', 'b'`, `list of date`."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    kind = origin or hint
    if origin in _UNIONS:
        return " or ".join(in_words(part) for part in parts)
    if origin is typing.Annotated:
        return in_words(parts[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, parts))
    if hint is types.NoneType:
        return "none"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(repr(member.value) for member in hint)
    name: str = getattr(kind, "__name__", str(kind))
    inner = [part for part in parts if part is not ...]
    return f"{name} of {in_words(inner[-1])}" if inner and is_known(inner[-1]) else name


def _of_union(value: Any, parts: tuple[Any, ...]) -> Any:
    """The type it has already, if that is among them; an empty text is none; else the first fit."""
    if type(value) in parts:
        return value
    if value == "" and types.NoneType in parts:
        return None
    for part in parts:
        if part is not types.NoneType:
            try:
                return coerced(value, part)
            except ValueError:
                continue
    raise ValueError


def _of_literal(value: Any, options: tuple[Any, ...]) -> Any:
    for option in options:
        if type(value) is type(option) and value == option:
            return option
    for option in options:
        try:
            if coerced(value, type(option)) == option:
                return option
        except ValueError:
            continue
    raise ValueError


def _of_enum(value: Any, hint: type[Enum]) -> Enum:
    if isinstance(value, hint):
        return value
    for member in hint:
        try:
            if coerced(value, type(member.value)) == member.value:
                return member
        except ValueError:
            continue
    if isinstance(value, str) and value in hint.__members__:
        return hint[value]
    raise ValueError


def _of_list(value: Any, kind: Any, parts: tuple[Any, ...]) -> Any:
    items = _read(value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple | set | frozenset):
        raise ValueError  # noqa: TRY004  one exception says that a value does not fit
    if kind is tuple and parts and ... not in parts:
        if len(items) != len(parts):
            raise ValueError
        return tuple(coerced(item, part) for item, part in zip(items, parts, strict=True))
    inner = parts[0] if parts else Any
    return _LISTS[kind]([coerced(item, inner) for item in items])


def _of_table(value: Any, parts: tuple[Any, ...]) -> Any:
    table = _read(value) if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise ValueError  # noqa: TRY004  as above
    key, inner = parts or (Any, Any)
    return {coerced(name, key): coerced(part, inner) for name, part in table.items()}


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError from None


def _plain(value: Any, kind: type) -> Any:
    try:
        return _CONVERT[kind](value)
    except (TypeError, OverflowError, InvalidOperation):
        raise ValueError from None


def _to_int(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _to_bool(value: Any) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError


def _to_str(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError


def _to_decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return Decimal(str(value).strip())


def _to_date(value: Any) -> date:
    if isinstance(value, datetime):
        return value.date()
    text = _text(value)
    day = datetime.fromisoformat(text)
    if len(text) > len("2026-01-01") and day.time() != time():
        raise ValueError  # a time of day would be lost
    return day.date()


def _to_datetime(value: Any) -> datetime:
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001  a day has no zone
    return datetime.fromisoformat(_text(value))


def _to_time(value: Any) -> time:
    return time.fromisoformat(_text(value))


def _to_timedelta(value: Any) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if isinstance(value, str) and schedule.is_interval(value):
        try:
            return timedelta(seconds=schedule.every_seconds(value))
        except NomaflowError:
            raise ValueError from None
    return timedelta(seconds=float(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.strip()


_CONVERT: dict[Any, Callable[[Any], Any]] = {
    int: _to_int,
    float: float,
    bool: _to_bool,
    str: _to_str,
    Decimal: _to_decimal,
    date: _to_date,
    datetime: _to_datetime,
    time: _to_time,
    timedelta: _to_timedelta,
    UUID: lambda value: UUID(_text(value)),
    Path: lambda value: Path(_text(value)),
}
