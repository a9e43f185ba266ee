"""What `nomaflow job run` was told, as the API's input: parameters, step arguments, switches."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nomaflow.errors import Code, NomaflowError

SWITCH = {
    "on": True, "true": True, "yes": True, "1": True,
    "off": False, "false": False, "no": False, "0": False,
}  # fmt: skip


def params(given: Iterable[str]) -> dict[str, Any]:
    """Read `--param NAME=VALUE`s; NomaflowError (INVALID) names the one that cannot be read."""
    return _pairs("--param", given)


def step_kwargs(given: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read `--kwarg STEP.NAME=VALUE`s, grouped by step."""
    grouped: dict[str, dict[str, Any]] = {}
    for name, chosen in _pairs("--kwarg", given).items():
        step, dot, argument = name.partition(".")
        if not (step and dot and argument):
            raise _wrong("--kwarg", name, "is not STEP.NAME=VALUE, like copy-orders.batch_size=500")
        grouped.setdefault(step, {})[argument] = chosen
    return grouped


def step_enabled(given: Iterable[str]) -> dict[str, bool]:
    """Read `--step NAME=on|off`s."""
    switches = {}
    for name, word in _pairs("--step", given, read=str).items():
        if word.lower() not in SWITCH:
            raise _wrong("--step", f"{name}={word}", "is not NAME=on or NAME=off")
        switches[name] = SWITCH[word.lower()]
    return switches


def nested(option: str, given: Iterable[str]) -> dict[str, Any]:
    """Read `A.B=VALUE`s as tables in a table."""
    table: dict[str, Any] = {}
    for name, chosen in _pairs(option, given).items():
        *outer, last = name.split(".")
        place = table
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise _wrong(option, name, f"leads into `{part}`, which is no table")
        place[last] = chosen
    return table


def value(text: str) -> Any:
    """Read a value as JSON where it is JSON (5, true, null, [1], {"a": 1}), else as plain text."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is a word to JSON's specification, not a number")


def _pairs(option: str, given: Iterable[str], *, read: Any = value) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        name = name.strip()
        if not (name and equals):
            raise _wrong(option, item, "is not NAME=VALUE")
        if name in pairs:
            raise _wrong(option, item, f"comes after another value for `{name}`: give it once")
        pairs[name] = read(text)
    return pairs


def _wrong(option: str, item: str, why: str) -> NomaflowError:
    return NomaflowError(Code.INVALID, f"{option} `{item}` {why}.", (option.lstrip("-"),))
