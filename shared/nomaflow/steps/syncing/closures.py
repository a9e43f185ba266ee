"""Expressions as Python closures, for thousands of items: what `expression` answers, only sooner.

A node that has no closure of its own is given to the interpreter; an item on which a closure fails
is given to the whole expression again, which has the words for what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from jmespath import visitor

from nomaflow.language.expression import Expression
from nomaflow.language.functions import LONGEST_TEXT, Functions

Closure = Callable[[Any], Any]
_Node = Mapping[str, Any]

FEW_COPIES = 32
"""An answer that holds its input no more often may be written as JSON in one go."""

_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str).encode
_SAME = {"eq": False, "ne": True}
_METHODS: Mapping[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "trim": str.strip,
}


class TooLongError(Exception):
    """The interpreter knows how to refuse it."""


def of(expression: Expression, params: Mapping[str, Any], now: datetime) -> Closure:
    """A function from an item to the expression's value; ExpressionError as `bind` raises it."""
    slow = expression.bind(params=params, now=now)
    fast = _Maker(expression, Functions(params, now)).closure(expression.tree)

    def apply(item: Any) -> Any:
        try:
            return fast(item)
        except Exception:  # noqa: BLE001  whatever it was, the interpreter decides
            return slow(item)

    return apply


class _Maker:
    def __init__(self, expression: Expression, functions: Functions) -> None:
        self._expression, self._functions = expression, functions
        self._one_go = expression.copies <= FEW_COPIES

    def closure(self, node: _Node) -> Closure:  # noqa: PLR0911, C901  a line for each kind of node
        match node["type"]:
            case "field":
                return _field(node["value"])
            case "literal":
                value = node["value"]
                return lambda _: value
            case "current" | "identity":
                return lambda item: item
            case "subexpression" | "pipe" | "index_expression":
                return _chained([self.closure(child) for child in node["children"]])
            case "or_expression":
                return _either(*self._children(node))
            case "and_expression":
                return _both(*self._children(node))
            case "comparator" if node["value"] in _SAME:
                return _same(*self._children(node), negated=_SAME[node["value"]])
            case "multi_select_dict":
                names = [child["value"] for child in node["children"]]
                parts = [self.closure(child["children"][0]) for child in node["children"]]
                return _table(names, parts)
            case "multi_select_list":
                return _list(self._children(node))
            case "function_expression" if not _has_expression_argument(node):
                return self._call(node["value"], self._children(node))
            case _:
                return self._interpreted(node)

    def _children(self, node: _Node) -> list[Closure]:
        return [self.closure(child) for child in node["children"]]

    def _interpreted(self, node: _Node) -> Closure:
        part = replace(self._expression, tree=dict(node))
        return part.bind(params=self._functions.params, now=self._functions.instant)

    def _call(self, name: str, parts: list[Closure]) -> Closure:
        call = self._functions.call_function

        def general(item: Any) -> Any:
            return call(name, [part(item) for part in parts])

        match name, parts:
            case "lower" | "upper" | "trim", [part]:
                return _of_text(part, _METHODS[name], general)
            case "concat", _:
                return _concat(parts, general)
            case "join", [separator, joined]:
                return _join(separator, joined, general)
            case "json", [part] if self._one_go:
                return _json(part)
            case "now", []:
                now = call("now", [])
                return lambda _: now
            case _:
                return general


def _has_expression_argument(node: _Node) -> bool:
    return any(child["type"] == "expref" for child in node["children"])


def _field(name: str) -> Closure:
    def look(item: Any) -> Any:
        try:
            return item.get(name)
        except AttributeError:
            return None

    return look


def _chained(parts: list[Closure]) -> Closure:
    if len(parts) == 2:  # noqa: PLR2004  by far the most common
        first, second = parts
        return lambda item: second(first(item))

    def chain(item: Any) -> Any:
        for part in parts:
            item = part(item)
        return item

    return chain


def _either(first: Closure, second: Closure) -> Closure:
    return lambda item: first(item) or second(item)


def _both(first: Closure, second: Closure) -> Closure:
    return lambda item: first(item) and second(item)


def _same(first: Closure, second: Closure, *, negated: bool) -> Closure:
    equal = visitor.TreeInterpreter.COMPARATOR_FUNC["eq"]

    def same(item: Any) -> Any:
        return bool(equal(first(item), second(item))) is not negated

    return same


def _table(names: list[str], parts: list[Closure]) -> Closure:
    pairs = list(zip(names, parts, strict=True))

    def table(item: Any) -> Any:
        return None if item is None else {name: part(item) for name, part in pairs}

    return table


def _list(parts: list[Closure]) -> Closure:
    def listed(item: Any) -> Any:
        return None if item is None else [part(item) for part in parts]

    return listed


def _of_text(part: Closure, method: Callable[[str], str], general: Closure) -> Closure:
    def change(item: Any) -> Any:
        value = part(item)
        return method(value) if value.__class__ is str else general(item)

    return change


def _concat(parts: list[Closure], general: Closure) -> Closure:
    def concat(item: Any) -> Any:
        values = [part(item) for part in parts]
        if all(value.__class__ is str for value in values) and _fits(values):
            return "".join(values)
        return general(item)

    return concat


def _join(separator: Closure, joined: Closure, general: Closure) -> Closure:
    def join(item: Any) -> Any:
        between, values = separator(item), joined(item)
        if between.__class__ is str and values.__class__ is list:
            kept = [value for value in values if value is not None]
            if all(v.__class__ is str for v in kept) and _fits([*kept, between * len(kept)]):
                return between.join(kept)
        return general(item)

    return join


def _json(part: Closure) -> Closure:
    def write(item: Any) -> Any:
        value = part(item)
        if value is None:
            return None
        text = _to_json(value)
        if len(text) > LONGEST_TEXT:
            raise TooLongError
        return text

    return write


def _fits(texts: list[str]) -> bool:
    return sum(map(len, texts)) <= LONGEST_TEXT
