"""What is wrong with a declaration: each problem with its path and a sentence for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow.errors import Code

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right; `path` leads to it as it was written: `("steps", "1", "url")`."""

    path: Path
    message: str
    code: Code = Code.INVALID


class SpecErrors(Exception):
    """A declaration with one or more problems; nothing of it is taken over."""

    def __init__(self, problems: Sequence[Problem], where: str = "") -> None:
        self.problems = tuple(problems)
        self.where = where
        lines = "; ".join(problem.message for problem in self.problems)
        super().__init__(f"{where}: {lines}" if where else lines)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Write `; did you mean ...?` when a known word is near, else nothing."""
    near = difflib.get_close_matches(word[:128], list(known), n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


def with_article(kind: str) -> str:
    """Write `an http_sync`, `a python`: initials are said letter by letter."""
    return f"an {kind}" if kind.startswith(("http", "ldap", *"aeiou")) else f"a {kind}"


_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
    "finite_number": "a finite number",
}


# Fields whose values, and all below them, may be secrets.
_PRIVATE = frozenset({"auth", "headers", "password", "bind_password", "token", "client_secret"})
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
}
PATTERNS = {
    r"^[A-Za-z0-9_-]{1,128}$": "must be 1 to 128 letters, digits, `_` or `-`",
    r"^(run_start|completed_at|max:.+)$": "must be run_start, completed_at or max:<column>",
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "must be module:function",
    r"^\d{1,3}(\.\d+)?%$": "must be a share such as 20%",
    r"\$\{": "must be a `${...}`",
}
"""What the patterns of fields ask for, in words: the pattern itself is for programs."""
_SIZES = {
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entry",
}


def sentence(  # noqa: C901, PLR0911  a case for each kind of error
    error: Mapping[str, Any], known: Iterable[str] = ()
) -> str:
    """Say one of pydantic's errors in our words; `known` are the fields of that table."""
    loc = [str(part) for part in error["loc"]] or ["job"]
    name = f"{loc[-2]} {int(loc[-1]) + 1}" if loc[-1].isdigit() and len(loc) > 1 else loc[-1]
    context: Mapping[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"`{name}` is missing"
        case "extra_forbidden":
            return f"there is no field `{name}`{did_you_mean(name, known)}"
        case "literal_error":
            choices = context["expected"].replace("'", "")
            return f"`{name}` must be one of {choices}{_instead(error)}"
        case kind if kind in _BOUNDS:
            words, key = _BOUNDS[kind]
            return f"`{name}` must be {words} {context[key]}{_instead(error)}"
        case kind if kind in _SIZES:
            return f"`{name}` {_SIZES[kind].format(**context)}"
        case "string_pattern_mismatch":
            return f"`{name}` {PATTERNS[context['pattern']]}{_instead(error)}"
        case kind if kind in _KINDS:
            return f"`{name}` must be {_KINDS[kind]}{_instead(error)}"
        case "union_tag_invalid":
            choices = context["expected_tags"].replace("'", "")
            given = error["input"].get(_tag(context).strip("`"))
            return f"{_tag(context)} must be one of {choices}, not {written(given)}"
        case "union_tag_not_found":
            return f"{_tag(context)} is missing"
        case "value_error":
            return str(context["error"])
        case _:
            return f"`{name}`: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _tag(context: Mapping[str, Any]) -> str:
    return "`" + str(context["discriminator"]).strip("'") + "`"


def _instead(error: Mapping[str, Any]) -> str:
    return "" if is_private(error["loc"]) else f", not {written(error['input'])}"


def is_private(path: Iterable[Any]) -> bool:
    """Whether what stands at `path` may be a secret, which no sentence repeats."""
    return not _PRIVATE.isdisjoint(path)


def written(value: Any) -> str:
    """Show a value that was refused, shortly."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case str():
            return f'"{value[:60]}..."' if len(value) > 60 else f'"{value}"'  # noqa: PLR2004  a line's worth
        case _:
            return str(value)[:60]


def real_path(value: Any, path: Path) -> Path:
    """Leave out of pydantic's path what names a branch of a union and not a place in the input."""
    real: list[str] = []
    for at, part in enumerate(path):
        if isinstance(value, dict) and (part in value or at == len(path) - 1):
            real.append(part)
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            real.append(part)
            value = value[int(part)]
    return tuple(real)
