"""How a Python value is bound to a parameter whose type PostgreSQL has told us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from nomaflow.connectors import json_value
from nomaflow.errors import StepError

_TEXT = {"text", "varchar", "bpchar", "name", "char", "unknown", "xml"}
_JSON = {"json", "jsonb"}
_INTEGER = {"int2", "int4", "int8", "oid"}
_FLOAT = {"float4", "float8"}
_NATIVE: dict[type, frozenset[str]] = {
    bool: frozenset({"bool"}),
    int: frozenset(_INTEGER | _FLOAT | {"numeric"}),
    float: frozenset(_FLOAT),
    Decimal: frozenset({"numeric"}),
    date: frozenset({"date"}),
    timedelta: frozenset({"interval"}),
    UUID: frozenset({"uuid"}),
    bytes: frozenset({"bytea"}),
}


class ServerType(Protocol):
    """What the driver says of a parameter's type."""

    @property
    def oid(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def schema(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Bound:
    """The value to send, and the cast its parameter needs first (empty: none)."""

    value: Any
    cast: str = ""


def bind(name: str, value: Any, server: ServerType) -> Bound:  # noqa: PLR0911  a line per kind
    """Bind `value` as PostgreSQL would read it written out (text to date, uuid, numeric, json ...).

    StepError when the value could only be stored by losing something.
    """
    if value is None:
        return Bound(None)
    if server.kind == "array" or server.name.endswith("[]"):
        return _bind_array(name, value, server)
    if server.name in _JSON:
        return Bound(value if isinstance(value, str) else _json(name, value))
    if server.name in _TEXT:
        return Bound(_text(name, value))
    if isinstance(value, float) and server.name in _INTEGER:
        if not value.is_integer():
            raise StepError(f"parameter `{name}` is {value!r}, the database expects a whole number")
        return Bound(int(value))
    if _is_native(value, server.name):
        return Bound(value)
    through = "timestamptz" if isinstance(value, datetime) and value.tzinfo else "text"
    sent = value if through == "timestamptz" else _text(name, value)
    return Bound(sent, f"::{through}::{spelled(server)}")


def as_text(name: str, value: Any) -> Bound:
    """Bind for a place whose only type is the text we said it is."""
    return Bound(None if value is None else _text(name, value))


def _is_native(value: Any, type_name: str) -> bool:
    if isinstance(value, datetime):
        return type_name == ("timestamptz" if value.tzinfo else "timestamp")
    if isinstance(value, time):
        return type_name == ("timetz" if value.tzinfo else "time")
    return type_name in _NATIVE.get(type(value), frozenset())


def _bind_array(name: str, value: Any, server: ServerType) -> Bound:
    if not isinstance(value, list | tuple):
        return Bound(_text(name, value), f"::text::{spelled(server)}")
    element = server.name.removesuffix("[]")
    flat = list(_elements(value))
    if element not in _TEXT and all(_is_native(part, element) for part in flat):
        return Bound(value)
    write = _json if element in _JSON else _text
    return Bound(_each(name, value, write), f"::text[]::{spelled(server)}")


def _elements(value: Any) -> Any:
    for part in value:
        if isinstance(part, list | tuple):
            yield from _elements(part)
        elif part is not None:
            yield part


def _each(name: str, value: Any, write: Any) -> list[Any]:
    return [
        _each(name, part, write)
        if isinstance(part, list | tuple)
        else None
        if part is None
        else part
        if isinstance(part, str)
        else write(name, part)
        for part in value
    ]


def spelled(server: ServerType) -> str:
    """The type's name, quoted so that it never takes a default length (`bit` alone is one bit)."""
    array = "[]" if server.name.endswith("[]") else ""
    base = server.name.removesuffix("[]").replace('"', '""')
    schema = server.schema.replace('"', '""')
    return f'"{schema}"."{base}"{array}'


def _text(name: str, value: Any) -> str:  # noqa: PLR0911  a line per kind of value
    match value:
        case str():
            if "\x00" in value:
                raise StepError(f"parameter `{name}` holds a NUL character; no database text can")
            return value
        case bool():
            return "true" if value else "false"
        case bytes():
            return f"\\x{value.hex()}"
        case date() | time():
            return value.isoformat()
        case timedelta():
            return f"{value.days} days {value.seconds}.{value.microseconds:06d} seconds"
        case Mapping() | list() | tuple():
            return _json(name, value)
        case _:
            return str(value)


def _json(name: str, value: Any) -> str:
    return json_value.written(name, value, lambda part: _text("value", part))
