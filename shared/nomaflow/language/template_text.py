"""Reads the `${...}` tokens of a text: what each one names, or why it names nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nomaflow.clock import calendar_words
from nomaflow.errors import Code, NomaflowError

_PIECE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INDEX = re.compile(r"\[(-?\d{1,9})\]")
_SHOWN = 12

_CONTEXT = {
    "run_id": "run_id",
    "job_name": "job_name",
    "job_id": "job_name",
    "step": "step",
    "attempt": "attempt",
    "triggered_by": "triggered_by",
    "scheduled_for": "scheduled_for",
    "started_at": "started_at",
    "dry_run": "dry_run",
}
# The shorter spellings of the run's context: run.id, job.id, step.name.
_CONTEXT_PARTS = {
    "run": {"id": "run_id", "started_at": "started_at"},
    "job": {"id": "job_name", "name": "job_name"},
    "step": {"name": "step", "attempt": "attempt"},
}
_NAMESPACES = {
    "env": "env",
    "kw": "kw",
    "params": "kw",
    "out": "out",
    "steps": "out",
    "previous_step": "previous_step",
    "ctx": "ctx",
    "state": "state",
    "secret": "secret",
    **dict.fromkeys(_CONTEXT_PARTS, "ctx"),
}
_KNOWN = "env kw params out steps previous_step ctx run job step state secret"


class TemplateError(NomaflowError):
    """A token that means nothing, or names something that is not there."""

    def __init__(self, message: str, path: tuple[str, ...] = (), token: str = "") -> None:
        super().__init__(Code.INVALID, message, path)
        self.token = token


@dataclass(frozen=True, slots=True)
class Token:
    """One `${...}`: where to look (`namespace`, `path`), how it was written, from which offset."""

    text: str
    start: int
    namespace: str  # env kw out previous_step ctx state secret date
    path: tuple[str, ...]
    default: str | None = None


def tokens(text: str) -> list[Token]:
    """Return the tokens of a text in order; TemplateError when one is malformed."""
    return [piece for piece in pieces(text) if isinstance(piece, Token)]


def pieces(text: str) -> Iterator[str | Token]:
    """Yield a text's literal parts and its tokens in order; TemplateError at a malformed one."""
    end = 0
    for match in _PIECE.finditer(text):
        if match.start() > end:
            yield text[end : match.start()]
        end = match.end()
        if match.group() == "$${":
            yield "${"
        elif match[1] is None:
            shown = text[match.start() : match.start() + 40]
            inner = text[match.end() :].split("}", 1)[0]
            why = (
                "a token may not hold another token or braces"
                if "{" in inner
                else "the closing `}` is missing; write `$${` for a literal `${`"
            )
            raise TemplateError(f"malformed token `{shown}`: {why}", token=shown)
        else:
            yield _token(match.group(), match[1], match.start())
    if end < len(text):
        yield text[end:]


def _token(text: str, inner: str, start: int) -> Token:
    head, has_default, default = inner.partition(":-")
    fallback = default if has_default else None
    if head in calendar_words.WORDS:
        return Token(text, start, "date", (head,), fallback)
    name = re.match(r"[A-Za-z_]+(?=[:.]|$)", head)
    namespace = _NAMESPACES.get(name.group()) if name else None
    if name is None or namespace is None:
        if _NAME.fullmatch(head):
            return Token(text, start, "env", (head,), fallback)
        raise TemplateError(_unknown(text, head), token=text)
    bare = head == name.group()
    path = () if bare else tuple(_INDEX.sub(r".\1", head[name.end() + 1 :]).split("."))
    if any(not part or part != part.strip() for part in path):
        raise TemplateError(f"malformed token `{text}`: a part of its path is empty", token=text)
    return Token(text, start, namespace, _settled(text, name.group(), namespace, path), fallback)


def _settled(  # noqa: C901  one case for each namespace
    text: str, written: str, namespace: str, path: tuple[str, ...]
) -> tuple[str, ...]:
    """Bring every spelling of a namespace's path to one form, or say what is wrong with it."""
    wrong: str | None = None
    match namespace:
        case "env" | "secret":
            if len(path) != 1 or (namespace == "env" and not _NAME.fullmatch(path[0])):
                wrong = f"write `${{{namespace}:NAME}}`"
        case "ctx" if written in _CONTEXT_PARTS:
            parts = _CONTEXT_PARTS[written]
            if len(path) == 1 and path[0] in parts:
                return (parts[path[0]],)
            wrong = f"`{written}` has {listed(parts)}"
        case "ctx":
            if len(path) == 1 and path[0] in _CONTEXT:
                return (_CONTEXT[path[0]],)
            wrong = f"`ctx` has {listed(_CONTEXT)}"
        case "out":
            if not path:
                wrong = f"write `${{{written}{':' if written == 'out' else '.'}STEP.PATH}}`"
            elif written == "steps" and path[1:2] == ("output",):
                return (path[0], *path[2:])
        case _:
            pass
    if wrong:
        raise TemplateError(f"malformed token `{text}`: {wrong}", token=text)
    return path


def _unknown(text: str, head: str) -> str:
    if not head.strip():
        return f"malformed token `{text}`: it names nothing"
    return (
        f"unknown token `{text[:80]}`: namespaces are {_KNOWN}, dates are "
        f"{' '.join(calendar_words.WORDS)}, and a bare `${{NAME}}` is a variable of .env; "
        "write `$${` for a literal `${`"
    )


def listed(names: Mapping[str, Any]) -> str:
    """Write what exists into an error, the first few by name."""
    some = [f"`{name}`" for name in list(names)[:_SHOWN]]
    more = len(names) - len(some)
    return ", ".join(some) + (f" and {more} more" if more > 0 else "")
