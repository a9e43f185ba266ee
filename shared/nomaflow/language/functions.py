"""The functions an expression may call besides JMESPath's own; null in gives null out.

Every function is total over JSON values: it answers or refuses its argument, and what it builds is
bounded in size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, TypeVar

from jmespath import exceptions, functions

from nomaflow.language import pattern

LONGEST_TEXT = 10_000_000
MOST_DIGITS = 100
MOST_BITS = 1_024

ANY: dict[str, Any] = {"types": []}
TEXT: dict[str, Any] = {"types": ["string"]}
MORE: dict[str, Any] = {"types": [], "variadic": True}

# What a function answers when one of its arguments is null; `contains` may look for a null.
_OF_NULL: dict[str, Any] = {
    **dict.fromkeys(("abs", "avg", "ceil", "floor", "round", "sum", "add", "sub", "mul", "div")),
    **dict.fromkeys(("max", "min", "max_by", "min_by", "map", "reverse", "sort", "sort_by")),
    **dict.fromkeys(("keys", "values", "join", "lower", "upper", "trim")),
    **dict.fromkeys(("string", "int", "json", "date")),
    "length": 0,
    "contains": False,
    "starts_with": False,
    "ends_with": False,
    "matches": False,
    "mod": None,
}
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
Number = int | float | Decimal
F = TypeVar("F", bound=Callable[..., Any])


def takes(*arguments: dict[str, Any]) -> Callable[[F], F]:
    """Say what a function takes; jmespath reads the mark, as of its own `signature`."""

    def mark(function: F) -> F:
        function.signature = arguments  # type: ignore[attr-defined]  # that is the mark
        return function

    return mark


class Functions(functions.Functions):  # type: ignore[misc]  # jmespath has no types
    """JMESPath's functions and ours, for one evaluation at one instant."""

    def __init__(self, params: Mapping[str, Any], now: datetime) -> None:
        self.params = params
        self.instant = now

    def call_function(self, function_name: str, resolved_args: list[Any]) -> Any:
        """Answer a call; null arguments never reach a function that cannot take them."""
        watched = resolved_args[:1] if function_name == "contains" else resolved_args
        if function_name in _OF_NULL and any(arg is None for arg in watched):
            return _OF_NULL[function_name]
        if function_name == "join" and isinstance(resolved_args[1], list):
            resolved_args[1] = [part for part in resolved_args[1] if part is not None]
        if function_name == "merge":
            resolved_args = [{} if arg is None else arg for arg in resolved_args]
        return super().call_function(function_name, resolved_args)

    @takes(TEXT)
    def _func_lower(self, text: str) -> str:
        return text.lower()

    @takes(TEXT)
    def _func_upper(self, text: str) -> str:
        return text.upper()

    @takes(TEXT)
    def _func_trim(self, text: str) -> str:
        return text.strip()

    @takes(MORE)
    def _func_concat(self, *parts: Any) -> str:
        texts = ["" if part is None else as_text(part) for part in parts]
        _bounded("concat", sum(map(len, texts)))
        return "".join(texts)

    @takes(TEXT, {"types": ["array-string"]})
    def _func_join(self, separator: str, parts: list[str]) -> str:
        _bounded("join", sum(map(len, parts)) + len(separator) * len(parts))
        return separator.join(parts)

    @takes(ANY)
    def _func_json(self, value: Any) -> str:
        return as_json("json", value)

    @takes(ANY)
    def _func_to_string(self, value: Any) -> str:
        return value if isinstance(value, str) else as_json("to_string", value)

    @takes(ANY)
    def _func_string(self, value: Any) -> str:
        return as_text(value)

    @takes(ANY)
    def _func_int(self, value: Any) -> int | None:
        try:
            match value:
                case bool():
                    return int(value)
                case int() | float():
                    return int(value)
                case str() | Decimal():
                    number = Decimal(str(value).strip())
                    return int(number) if number.adjusted() <= MOST_DIGITS else None
                case _:
                    return None
        except (ValueError, OverflowError, InvalidOperation):
            return None

    @takes()
    def _func_now(self) -> str:
        return rfc3339(self.instant)

    @takes(MORE)
    def _func_date(self, value: Any, *unit: Any) -> str:
        if len(unit) > 1 or (unit and unit[0] not in _UNITS):
            raise _refused("date", f"the unit must be one of {', '.join(_UNITS)}")
        try:
            return rfc3339(_instant(value, _UNITS[unit[0]] if unit else 1))
        except (ValueError, OverflowError, OSError):
            raise _refused(
                "date", f"{_shown(value)} is neither a time nor a Unix timestamp"
            ) from None

    @takes(TEXT)
    def _func_param(self, name: str) -> Any:
        return self.params.get(name)

    @takes(ANY, ANY)
    def _func_add(self, a: Any, b: Any) -> Number:
        x, y = _pair("add", a, b)
        return _finite("add", x + y)  # type: ignore[operator]  # _pair brings both to one kind

    @takes(ANY, ANY)
    def _func_sub(self, a: Any, b: Any) -> Number:
        x, y = _pair("sub", a, b)
        return _finite("sub", x - y)  # type: ignore[operator]  # as above

    @takes(ANY, ANY)
    def _func_mul(self, a: Any, b: Any) -> Number:
        x, y = _pair("mul", a, b)
        return _finite("mul", x * y)  # type: ignore[operator]  # as above

    @takes(ANY, ANY)
    def _func_div(self, a: Any, b: Any) -> Number:
        x, y = _pair("div", a, b)
        if y == 0:
            raise _refused("div", "it would divide by zero")
        if isinstance(x, int) and isinstance(y, int) and x % y == 0:
            return x // y
        return _finite("div", x / y)  # type: ignore[operator]  # as above

    @takes(ANY, ANY)
    def _func_mod(self, a: Any, b: Any) -> Number:
        x, y = _pair("mod", a, b)
        if y == 0:
            raise _refused("mod", "it would divide by zero")
        return x % y  # type: ignore[operator]  # as above

    @takes(ANY, ANY, ANY)
    def _func_if(self, condition: Any, then: Any, otherwise: Any) -> Any:
        return then if condition else otherwise

    @takes(TEXT, TEXT)
    def _func_matches(self, text: str, wanted: str) -> bool:
        try:
            return pattern.compile(wanted).found_in(text)
        except pattern.PatternError as error:
            raise _refused("matches", error.message) from None

    @takes(MORE)
    def _func_round(self, value: Any, *digits: Any) -> Number:
        places = digits[0] if digits else 0
        if len(digits) > 1 or not isinstance(places, int) or not 0 <= places <= 30:  # noqa: PLR2004  beyond any number's precision
            raise _refused("round", "the number of digits must be 0 to 30")
        number = _number("round", value)
        exact = Decimal(str(number)).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        if places == 0:
            return int(exact)
        return exact if isinstance(number, Decimal) else float(exact)


FUNCTIONS: Mapping[str, Mapping[str, Any]] = Functions.FUNCTION_TABLE


def arity(name: str) -> tuple[int, int | None]:
    """Return how many arguments a function takes: at least, at most (None: any number)."""
    taken = FUNCTIONS[name]["signature"]
    if taken and taken[-1].get("variadic"):
        return len(taken), {"date": 2, "round": 2}.get(name)
    return len(taken), len(taken)


def as_text(value: Any) -> str:
    """Write a value as text: true and false are words, tables and lists are JSON."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime():
            return rfc3339(value)
        case Mapping() | list():
            return as_json("string", value)
        case _:
            return str(value)


def as_json(name: str, value: Any) -> str:
    """Write compact JSON, refusing at the size limit rather than after it."""
    written: list[str] = []
    length = 0
    encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str)
    for part in encoder.iterencode(value):
        length += len(part)
        _bounded(name, length)
        written.append(part)
    return "".join(written)


def rfc3339(instant: datetime) -> str:
    """Write an instant as RFC 3339 in UTC with milliseconds, microseconds when it has them."""
    utc = instant.astimezone(UTC)
    digits = "microseconds" if utc.microsecond % 1_000 else "milliseconds"
    return utc.isoformat(timespec=digits).replace("+00:00", "Z")


def _bounded(name: str, length: int) -> None:
    if length > LONGEST_TEXT:
        raise _refused(name, f"its text would be longer than {LONGEST_TEXT:,} characters")


def _refused(name: str, reason: str) -> exceptions.JMESPathError:
    return exceptions.JMESPathError(f"{name}(): {reason}")


def _instant(value: Any, unit: int) -> datetime:
    match value:
        case bool():
            raise ValueError(value)
        case int() | float() | Decimal():
            return datetime.fromtimestamp(float(Decimal(str(value)) / unit), UTC)
        case datetime():
            return value
        case str():
            parsed = datetime.fromisoformat(value.strip())
            return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        case _:
            raise ValueError(value)


def _number(name: str, value: Any) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _refused(name, f"{_shown(value)} is not a number; int(...) reads one from text")
    return value


def _finite(name: str, value: Number) -> Number:
    too_big = value.bit_length() > MOST_BITS if isinstance(value, int) else not math.isfinite(value)
    if too_big:
        raise _refused(name, "the number is too big")
    return value


def _pair(name: str, a: Any, b: Any) -> tuple[Number, Number]:
    x, y = _number(name, a), _number(name, b)
    if isinstance(x, Decimal) or isinstance(y, Decimal):
        return Decimal(str(x)), Decimal(str(y))
    return x, y


def _shown(value: Any) -> str:
    return f"{type(value).__name__} `{str(value)[:40]}`"
