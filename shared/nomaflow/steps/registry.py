"""Which step types there are: ours, and those of installed packages (entry points)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from nomaflow.errors import Code, NomaflowError
from nomaflow.job.problems import PATTERNS, is_private, written
from nomaflow.steps import installed
from nomaflow.steps.base import Step
from nomaflow.steps.call_job import CallJobStep
from nomaflow.steps.http import HttpStep
from nomaflow.steps.http_sync import HttpSync
from nomaflow.steps.ldap_sync import LdapSync
from nomaflow.steps.python import PythonStep
from nomaflow.steps.sql_copy import SqlCopy
from nomaflow.steps.sql_query import SqlQuery

OURS: tuple[type[Step], ...] = (
    SqlQuery,
    SqlCopy,
    HttpStep,
    HttpSync,
    PythonStep,
    LdapSync,
    CallJobStep,
)

_SQL = frozenset({"query", "where", "sql"})
_BOUND = "substitutions are not allowed in SQL text; bind the value with `params`"
_ASKED = "substitutions are not allowed in an expression; it reads a parameter with param('name')"
_IN_PLAIN = "a secret is written as ${env:NAME}, and its value into .env"

# Where pydantic speaks of Python's types and not of what stands in a file.
_WANTED = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
}

Problem = tuple[tuple[str, ...], str]


def step_type(name: str) -> type[Step]:
    """The class of the step type `name`; NomaflowError NOT_FOUND with the known names."""
    found = all_types().get(name)
    if found is not None:
        return found
    why = _installed()[1].get(name)
    if why is not None:
        raise NomaflowError(
            Code.NOT_FOUND, f"the step type {name!r} could not be loaded: {why}", ("type",)
        )
    known = ", ".join(sorted(all_types()))
    raise NomaflowError(
        Code.NOT_FOUND, f"there is no step type {name!r}; known types: {known}", ("type",)
    )


def all_types() -> Mapping[str, type[Step]]:
    """Every step type by name: ours, then those of packages."""
    return {**{step.type_name: step for step in OURS}, **_installed()[0]}


def broken() -> Mapping[str, str]:
    """Entry points that could not be loaded, with the reason."""
    return _installed()[1]


def problems(name: str, config: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a step's raw settings, each with its path and a sentence.

    A value that still holds `${...}` is only checked once it is rendered.
    """
    step = step_type(name)
    found: list[Problem] = [
        (path, _BOUND if path[-1] in _SQL else _ASKED)
        for path in step.verbatim
        if _holds_token(_at(config, path))
    ]
    found += [
        (path, _IN_PLAIN)
        for path in step.secret
        if _at(config, path) not in (None, "") and not _holds_token(_at(config, path))
    ]
    try:
        step.model_validate(config)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            path = tuple(str(part) for part in problem["loc"])
            value = problem["input"]
            if problem["type"] == "extra_forbidden" or not (
                isinstance(value, str) and _holds_token(value)
            ):
                found.append((path, sentence(dict(problem))))
    return found


def sentence(problem: Mapping[str, Any]) -> str:
    """One problem of pydantic's in our words."""
    match problem["type"]:
        case "missing":
            return "this field is required"
        case "extra_forbidden":
            return "there is no such field"
        case "value_error" | "assertion_error":
            return (
                str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
            )
        case "string_pattern_mismatch":
            return f"it {PATTERNS[problem['ctx']['pattern']]}{_got(problem)}"
        case kind if kind in _WANTED:
            return f"it must be {_WANTED[kind]}{_got(problem)}"
        case _:
            return f"{problem['msg'][:1].lower()}{problem['msg'][1:]}{_got(problem)}"


def _got(problem: Mapping[str, Any]) -> str:
    """What was given, save that a secret, or a table that may hold one, is not repeated."""
    value = problem["input"]
    if is_private(problem["loc"]):
        return ""
    if isinstance(value, Mapping | list | tuple):
        return f", got {written(value)}"
    return f", got {value!r:.80}"


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema of the type's own settings, where any value may also be a `${...}` text."""
    schema: dict[str, Any] = _with_tokens(step_type(name).model_json_schema(by_alias=True))
    return schema


def _with_tokens(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_tokens(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: _with_tokens(value) if key != "default" else value for key, value in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        out["properties"] = {
            name: _or_token(_with_tokens(value)) for name, value in properties.items()
        }
    return out


def _or_token(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("type") in {"integer", "number", "boolean"} or "enum" in value:
        kept: dict[str, Any] = {
            key: value[key] for key in ("title", "description", "default") if key in value
        }
        bare = {key: part for key, part in value.items() if key not in kept}
        return {**kept, "anyOf": [bare, {"type": "string", "pattern": r"\$\{"}]}
    return value


def _at(config: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def _holds_token(value: Any) -> bool:
    match value:
        case str():
            return "${" in value.replace("$${", "")
        case Mapping():
            return any(_holds_token(part) for part in value.values())
        case list() | tuple():
            return any(_holds_token(part) for part in value)
        case _:
            return False


def _installed() -> tuple[Mapping[str, type[Step]], Mapping[str, str]]:
    return installed.found(frozenset(step.type_name for step in OURS))
