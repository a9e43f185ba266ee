"""Fills `${namespace:path}` in what a job declares, once and in one pass; never in SQL text.

A value that is one whole token keeps its type; a token inside text is written out. `$${` is a
literal `${`, `${X:-default}` gives the default when X is absent or empty, bare `${NAME}` is
`${env:NAME}`. Values that come in are never looked at again (SEC-V03).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from nomaflow.clock import calendar_words
from nomaflow.language.template_text import TemplateError, Token, listed, pieces, tokens

__all__ = [
    "Scope",
    "TemplateError",
    "Token",
    "as_text",
    "check",
    "escape",
    "has_tokens",
    "pieces",
    "problems",
    "references",
    "render",
    "tokens",
]

LONGEST_EMBEDDED = 65_536
DEEPEST = 64
ENV_LACK = "the project's .env has no variable"


@dataclass(frozen=True, slots=True)
class Scope:
    """What tokens may see; `now` is aware and in the job's zone (scheduled time, else start)."""

    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_lack: str = ENV_LACK
    kw: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    previous: Mapping[str, Any] | None = None
    ctx: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    connector_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def render(value: Any, scope: Scope) -> Any:
    """Return `value` with every token replaced, through tables and lists; keys stay as they are.

    Raises TemplateError naming the token, its place and what exists instead.
    """
    return _walk(value, (), lambda text, path: _render_text(text, path, scope))


def check(value: Any) -> None:
    """Raise the first TemplateError that can be seen without running: shape and namespace."""
    for problem in problems(value):
        raise problem


def problems(value: Any) -> list[TemplateError]:
    """Return every token of `value` that could never be filled, each with its place."""
    found: list[TemplateError] = []

    def look(text: str, path: tuple[str, ...]) -> str:
        try:
            tokens(text)
        except TemplateError as error:
            found.append(TemplateError(error.message, path, error.token))
        return text

    try:
        _walk(value, (), look, keys=look)
    except TemplateError as error:
        found.append(error)
    return found


def references(value: Any, namespace: str) -> set[tuple[str, ...]]:
    """Return the paths that `value` names in a namespace: `references(step, "env")`."""
    paths: set[tuple[str, ...]] = set()

    def look(text: str, _: tuple[str, ...]) -> str:
        paths.update(t.path for t in tokens(text) if t.namespace == namespace)
        return text

    _walk(value, (), look)
    return paths


def has_tokens(value: Any) -> bool:
    """Tell whether rendering would change `value`."""
    match value:
        case str():
            return "${" in value
        case Mapping():
            return any(has_tokens(part) for part in value.values())
        case list() | tuple():
            return any(has_tokens(part) for part in value)
        case _:
            return False


def escape(value: Any) -> Any:
    """Return `value` written so that rendering gives it back: for data that came from outside."""
    return _walk(value, (), lambda text, _: text.replace("${", "$${"))


def _walk(
    value: Any,
    path: tuple[str, ...],
    change: Callable[[str, tuple[str, ...]], Any],
    keys: Callable[[str, tuple[str, ...]], Any] | None = None,
) -> Any:
    if isinstance(value, str):
        return change(value, path) if "${" in value else value
    if len(path) >= DEEPEST:
        raise TemplateError(f"the value is nested deeper than {DEEPEST} levels", path[:4])
    if isinstance(value, Mapping):
        if keys is not None:
            for key in value:
                keys(str(key), path)
        return {key: _walk(part, (*path, str(key)), change, keys) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(part, (*path, str(at)), change, keys) for at, part in enumerate(value)]
    return value


def _render_text(text: str, path: tuple[str, ...], scope: Scope) -> Any:
    try:
        parts = list(pieces(text))
        if len(parts) == 1 and isinstance(parts[0], Token):
            return _value(parts[0], scope)
        return _joined(parts, scope)
    except TemplateError as error:
        place = f" (in `{'.'.join(path)}`)" if path else ""
        raise TemplateError(error.message + place, path, error.token) from None


def _joined(parts: list[str | Token], scope: Scope) -> str:
    written: list[str] = []
    room = LONGEST_EMBEDDED
    for piece in parts:
        if isinstance(piece, str):
            written.append(piece)
            continue
        text = as_text(_value(piece, scope))
        room -= len(text)
        if room < 0:
            raise TemplateError(
                f"`{piece.text}` puts more than {LONGEST_EMBEDDED // 1024} KB inside a text; a big "
                "value passes only when the token is the whole value",
                token=piece.text,
            )
        written.append(text)
    return "".join(written)


def as_text(value: Any) -> str:
    """Write a value inside a text: null is empty, true and false are words, tables are JSON."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime() | date():
            return value.isoformat()
        case Mapping() | list() | tuple():
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
        case _:
            return str(value)


def _value(token: Token, scope: Scope) -> Any:
    try:
        value = _look_up(token, scope)
    except TemplateError:
        if token.default is None:
            raise
        return token.default
    if token.default is not None and (value is None or value == ""):
        return token.default
    return value


def _look_up(token: Token, scope: Scope) -> Any:  # noqa: PLR0911  a line for each namespace
    path = token.path
    match token.namespace:
        case "date":
            return calendar_words.WORDS[path[0]](scope.now)
        case "env":
            return _member(token, scope.env, path[0], scope.env_lack, shown=False)
        case "secret":
            secrets = scope.connector_secrets
            return _member(token, secrets, path[0], "this connector has no secret", shown=False)
        case "kw":
            return _follow(token, scope.kw, path, "there is no parameter")
        case "state":
            return _follow(token, scope.state, path, "there is no state")
        case "ctx":
            return _member(token, scope.ctx, path[0], "the run's context has no")
        case "out":
            output = _member(
                token, scope.outputs, path[0], "no earlier step with an output is named"
            )
            return _follow(token, output, path[1:], f"the output of step `{path[0]}` has no")
        case _:
            if scope.previous is None:
                raise TemplateError(
                    f"`{token.text}`: this is the first step, there is no previous one",
                    token=token.text,
                )
            return _follow(token, scope.previous, path, "the previous step's output has no")


def _follow(token: Token, value: Any, path: tuple[str, ...], lack: str) -> Any:
    for at, part in enumerate(path):
        if isinstance(value, list | tuple):
            index = int(part) if re.fullmatch(r"-?\d{1,9}", part) else None
            if index is None or not -len(value) <= index < len(value):
                where = ".".join(path[:at]) or "it"
                raise TemplateError(
                    f"`{token.text}`: {lack} `{'.'.join(path[: at + 1])}`; `{where}` is a list of "
                    f"{len(value)}, counted from 0",
                    token=token.text,
                )
            value = value[index]
        else:
            value = _member(token, value, part, lack, ".".join(path[: at + 1]))
    return value


def _member(
    token: Token, table: Any, name: str, lack: str, shown_as: str = "", *, shown: bool = True
) -> Any:
    if isinstance(table, Mapping):
        if name in table:
            return table[name]
        there = f"; there is {listed(table)}" if shown and table else ""
    else:
        there = "" if table is None else f"; it is {type(table).__name__}, not a table"
    raise TemplateError(f"`{token.text}`: {lack} `{shown_as or name}`{there}", token=token.text)
