"""The expressions of `when` and of maps: JMESPath and a few functions, checked when a job loads.

An expression is total: no loops, no recursion, patterns of bounded time only; what it may build
out of its input is bounded before it runs. Wrong ones are refused with the column.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any, NoReturn

from jmespath import exceptions, visitor

from nomaflow.errors import Code, NomaflowError
from nomaflow.language import pattern
from nomaflow.language.functions import FUNCTIONS, Functions, arity
from nomaflow.language.syntax import Lexer, Parser

LONGEST = 4_000
DEEPEST = 100
MOST_COPIES = 1_000
MOST_ELEMENTS = 1_000_000

WHEN_ROOTS = ("params", "steps", "previous_step", "state", "run")

_OPENING = {"lparen", "lbracket", "lbrace", "filter"}
_CLOSING = {"rparen", "rbracket", "rbrace"}
_Node = dict[str, Any]


class ExpressionError(NomaflowError):
    """An expression that cannot be read, or a value it cannot be applied to."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.INVALID, message)


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; `reads` are the first two names of each path it starts from.

    `copies` bounds how many times over its answer may hold its input.
    """

    text: str
    reads: frozenset[tuple[str, ...]]
    tree: _Node = field(repr=False, compare=False)
    copies: float = field(default=MOST_COPIES, repr=False, compare=False)

    def evaluate(
        self, data: Any, *, params: Mapping[str, Any] | None = None, now: datetime | None = None
    ) -> Any:
        """Return the value for `data`; ExpressionError when a function refuses its argument.

        `params` is what `param('x')` reads, `now` what `now()` answers (default: the clock).
        """
        return self.bind(params=params, now=now)(data)

    def is_true(
        self, data: Any, *, params: Mapping[str, Any] | None = None, now: datetime | None = None
    ) -> bool:
        """Tell whether the value counts as true: not null, false, 0, empty text, list or table."""
        return bool(self.evaluate(data, params=params, now=now))

    def bind(
        self, *, params: Mapping[str, Any] | None = None, now: datetime | None = None
    ) -> Callable[[Any], Any]:
        """Prepare the expression for many values, such as the rows of a page."""
        interpreter = _Interpreter(
            visitor.Options(custom_functions=Functions(params or {}, now or datetime.now(UTC)))
        )

        def apply(data: Any) -> Any:
            try:
                return interpreter.visit(self.tree, data)
            except exceptions.JMESPathTypeError as error:
                wanted = " or ".join(error.expected_types)
                reason = f"{error.function_name}() takes {wanted}, not {error.actual_type}"
            except exceptions.JMESPathError as error:
                reason = str(error)
            except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
                reason = f"it cannot be applied to this value ({type(error).__name__}: {error})"
            except RecursionError:
                reason = "this value is nested too deep"
            raise ExpressionError(f"expression `{self.text}`: {reason[:300]}")

        return apply


class _Interpreter(visitor.TreeInterpreter):  # type: ignore[misc]  # jmespath has no types
    def _is_false(self, value: Any) -> bool:
        """Tell what `&&`, `||` and filters take for false: what a condition does, 0 as well."""
        return not value

    def visit_not_expression(self, node: _Node, value: Any) -> bool:
        """Take the opposite, of 0 as well."""
        return not self.visit(node["children"][0], value)

    def visit_flatten(self, node: _Node, value: Any) -> Any:
        merged = super().visit_flatten(node, value)
        if merged is not None and len(merged) > MOST_ELEMENTS:
            raise exceptions.JMESPathError(
                f"a list would have more than {MOST_ELEMENTS:,} elements"
            )
        return merged


@lru_cache(maxsize=2048)
def compile(text: str, *, roots: Collection[str] | None = None) -> Expression:  # noqa: A001  the word for it
    """Read an expression; ExpressionError says what is wrong at which column.

    With `roots` (a tuple) the names it starts from must be among them, as in a `when`.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"expression `{text[:40]}...` is longer than {LONGEST} characters")
    tokens = _tokens(text)
    _check_calls(text, tokens)
    try:
        tree: _Node = Parser().parse(text).parsed
    except exceptions.IncompleteExpressionError:
        _refuse(text, "it ends too early", len(text))
    except exceptions.ParseError as error:
        _refuse(text, _unexpected(error), error.lex_position)
    except RecursionError:
        _refuse(text, "it is nested too deep", 0)
    if _depth(tree) > DEEPEST:
        _refuse(text, f"it is nested deeper than {DEEPEST} levels", 0)
    copies = _copies(tree)
    if copies > MOST_COPIES:
        _refuse(text, f"it would copy its input {copies:.0f} times", 0)
    reads = frozenset(_reads(tree))
    if roots is not None:
        _check_roots(text, tokens, reads, roots)
    return Expression(text, reads, tree, copies)


def _tokens(text: str) -> list[_Node]:
    try:
        return list(Lexer().tokenize(text))
    except exceptions.EmptyExpressionError:
        raise ExpressionError("the expression is empty") from None
    except exceptions.LexerError as error:
        at, reason = error.lexer_position, error.message
        if error.lexer_value == "-":
            reason = "arithmetic is sub(a, b); a name with a hyphen needs double quotes"
        elif error.lexer_value in ("=", "+", "/", "%", "?", "$"):
            reason = f"`{error.lexer_value}` is not an operator here; see == add() div() || &&"
        _refuse(text, reason, at)


def _check_calls(text: str, tokens: list[_Node]) -> None:
    if max(_nesting(tokens), default=0) > DEEPEST:
        _refuse(text, f"it is nested deeper than {DEEPEST} levels", 0)
    for at, (token, after) in enumerate(pairwise(tokens)):
        if token["type"] != "unquoted_identifier" or after["type"] != "lparen":
            continue
        name = token["value"]
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(name, FUNCTIONS, n=1)
            hint = f"did you mean {near[0]}()?" if near else "known: " + " ".join(sorted(FUNCTIONS))
            _refuse(text, f"there is no function {name}(); {hint}", token["start"])
        given, (least, most) = _arguments(tokens[at + 2 :]), arity(name)
        if given < least or (most is not None and given > most):
            bound = f"{least} or more" if most is None else f"{least} to {most}"
            bound = f"{least}" if least == most else bound
            _refuse(
                text,
                f"{name}() takes {bound} argument{'' if bound == '1' else 's'}, not {given}",
                token["start"],
            )
        if name == "matches":
            _check_pattern(text, tokens[at + 2 :])


def _check_pattern(text: str, tokens: list[_Node]) -> None:
    """Read the pattern of a `matches` where it is written out, as the second argument."""
    open_ = 0
    for comma, wanted in pairwise(tokens):
        if open_ == 0 and comma["type"] == "comma" and isinstance(wanted["value"], str):
            if wanted["type"] == "literal":
                try:
                    pattern.compile(wanted["value"])
                except pattern.PatternError as error:
                    _refuse(text, f"pattern: {error.message}", wanted["start"] + 1 + error.offset)
            return
        open_ += (comma["type"] in _OPENING) - (comma["type"] in _CLOSING)
        if open_ < 0:
            return


def _nesting(tokens: list[_Node]) -> Iterator[int]:
    open_ = 0
    for token in tokens:
        open_ += (token["type"] in _OPENING) - (token["type"] in _CLOSING)
        yield open_


def _arguments(tokens: list[_Node]) -> int:
    """Count the arguments up to the bracket that closes a call."""
    if not tokens or tokens[0]["type"] in ("rparen", "eof"):
        return 0
    count, open_ = 1, 0
    for token in tokens:
        open_ += (token["type"] in _OPENING) - (token["type"] in _CLOSING)
        if open_ < 0:
            break
        count += open_ == 0 and token["type"] == "comma"
    return count


def _depth(tree: _Node) -> int:
    level, depth = [tree], 0
    while level and depth <= DEEPEST:
        level = [child for node in level for child in _children(node)]
        depth += 1
    return depth


def _children(node: _Node) -> list[_Node]:
    return [child for child in node["children"] if isinstance(child, dict)]


def _copies(node: _Node) -> float:  # noqa: PLR0911  a line for each kind of node
    """Bound how many times over an expression's answer may hold its input."""
    parts = [_copies(child) for child in _children(node)]
    match node["type"]:
        case "subexpression" | "pipe" | "projection" | "value_projection" | "index_expression":
            return _product(parts)
        case "filter_projection":
            return _product(parts[:2])
        case "multi_select_list" | "multi_select_dict":
            return max(sum(parts), 1.0)
        case "function_expression" if any(c["type"] == "expref" for c in _children(node)):
            return _product(parts)
        case "function_expression":
            return max(sum(parts), 1.0)
        case "comparator":
            return 1.0
        case _:
            return max(parts, default=1.0)


def _product(factors: list[float]) -> float:
    total = 1.0
    for factor in factors:
        total *= factor
    return total


def _reads(node: _Node) -> Iterator[tuple[str, ...]]:
    children = _children(node)
    match node["type"]:
        case "field":
            yield (node["value"],)
        case "subexpression":
            first, second = children[0], children[1]
            if first["type"] == second["type"] == "field":
                yield (first["value"], second["value"])
            else:
                yield from _reads(first)
        case "index_expression" | "projection" | "value_projection" | "filter_projection" | "pipe":
            yield from _reads(children[0])
        case "expref":
            return
        case _:
            for child in children:
                yield from _reads(child)


def _check_roots(
    text: str, tokens: list[_Node], reads: Collection[tuple[str, ...]], roots: Collection[str]
) -> None:
    for name in sorted({path[0] for path in reads} - set(roots)):
        token = next(t for t in tokens if t["value"] == name and "identifier" in t["type"])
        hint = f"it may start from {', '.join(roots)}"
        if token["type"] == "quoted_identifier":
            hint = f"double quotes name a field; text is in single quotes: '{name}'"
        _refuse(text, f"`{name}` is not known here; {hint}", token["start"])


def _unexpected(error: exceptions.ParseError) -> str:
    if error.token_type == "EOF":  # noqa: S105  a kind of token
        return "it ends too early"
    if error.token_type == "NUMBER":  # noqa: S105  a kind of token
        return f"a number is written between backticks: `{error.token_value}`"
    return f"`{error.token_value}` is not expected here"


def _refuse(text: str, reason: str, offset: int) -> NoReturn:
    raise ExpressionError(f"expression `{text}`: {reason} (column {offset + 1})")
