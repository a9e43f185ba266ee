"""Reads parameters as their declared types, and says in words what a schema has against them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError

from nomaflow.job.problems import Path, Problem, SpecErrors, did_you_mean, written
from nomaflow.language import template

_YES = {"true", "yes", "on", "1"}
_NO = {"false", "no", "off", "0"}
_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "null",
}
# A schema comes from a job's editor: nothing in it may fetch, recurse or run a regular expression.
_REFUSED = {
    "$ref": "write the schema out",
    "$dynamicRef": "write the schema out",
    "$id": "leave it out",
    "pattern": "list the allowed values with `enum`",
    "patternProperties": "name the parameters in `properties`",
}

_formats = FormatChecker(formats=())


def _is_date(value: object) -> bool:
    return not isinstance(value, str) or bool(date.fromisoformat(value))


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


_formats.checks("date", ValueError)(_is_date)
_formats.checks("date-time", ValueError)(_is_time)


def coerce(params: Mapping[str, Any], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return given parameters with texts read as their declared types: `"5"` as 5 (T20).

    Raises SpecErrors for values that are not of their type or not allowed (T07).
    """
    read = {name: _read(value, _types(schema, name)) for name, value in params.items()}
    wrong = of_values(read, schema)
    if wrong:
        raise SpecErrors(wrong)
    return read


def of_values(params: Mapping[str, Any], schema: Mapping[str, Any] | None) -> list[Problem]:
    """Return what a schema has against the values given; `${...}` are not known yet."""
    if not schema:
        return []
    try:
        errors = list(Draft202012Validator(schema, format_checker=_formats).iter_errors(params))
    except RecursionError:
        return [Problem(("params",), "the parameters are nested too deep")]
    return [
        Problem(("params", *map(str, error.absolute_path)), _sentence(error, schema))
        for error in errors
        if (error.absolute_path or error.validator != "required")
        and not template.has_tokens(error.instance if error.absolute_path else None)
    ]


def missing(params: Mapping[str, Any], schema: Mapping[str, Any] | None) -> list[Problem]:
    """Return the parameters that a run must have and these do not give."""
    return [
        Problem(("params",), f"parameter `{name}` is required")
        for name in (schema or {}).get("required", [])
        if name not in params
    ]


def of_schema(schema: Any) -> list[Problem]:
    """Return what is wrong with a `param_schema` itself."""
    if schema is None:
        return []
    if not isinstance(schema, dict):
        return [Problem(("param_schema",), "`param_schema` must be a table")]
    if schema.get("type", "object") != "object":
        return [Problem(("param_schema", "type"), "`param_schema` describes a table: type object")]
    found = list(_refused(schema, ("param_schema",)))
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        path = ("param_schema", *map(str, error.absolute_path))
        found.append(Problem(path, f"`param_schema` is not a JSON Schema: {error.message[:200]}"))
    return found


def _refused(schema: Any, path: Path) -> Iterator[Problem]:
    if isinstance(schema, list):
        for at, part in enumerate(schema):
            yield from _refused(part, (*path, str(at)))
    elif isinstance(schema, dict):
        for key, part in schema.items():
            if key in _REFUSED and path[-1] not in ("properties", "$defs"):
                message = f"`{key}` is not supported in `param_schema`; {_REFUSED[key]}"
                yield Problem((*path, key), message)
            elif key not in ("default", "enum", "const", "examples"):
                yield from _refused(part, (*path, key))


def inferred(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make the schema that keeps each parameter to the kind of its default."""
    return {
        "type": "object",
        "properties": {name: _kind_of(value) for name, value in values.items()},
    }


def _kind_of(value: Any) -> dict[str, Any]:  # noqa: PLR0911  a line for each kind of value
    match value:
        case str() if template.has_tokens(value):
            return {}
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array"}
        case Mapping():
            return {"type": "object"}
        case _:
            return {}


def _types(schema: Mapping[str, Any] | None, name: str) -> tuple[str, ...]:
    declared = ((schema or {}).get("properties") or {}).get(name)
    kind = declared.get("type", ()) if isinstance(declared, Mapping) else ()
    return (kind,) if isinstance(kind, str) else tuple(kind)


def _read(value: Any, types: tuple[str, ...]) -> Any:  # noqa: PLR0911  a line for each type
    """Read a text as the first declared type that it fits; any other value stays."""
    if not isinstance(value, str) or "string" in types or template.has_tokens(value):
        return value
    word = value.strip()
    for kind in types:
        if kind == "boolean" and word.lower() in _YES | _NO:
            return word.lower() in _YES
        if kind in ("integer", "number") and re.fullmatch(r"[+-]?\d{1,18}", word):
            return int(word)
        if kind == "number" and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", word):
            number = float(word)
            return number if math.isfinite(number) else value
        if kind in ("array", "object") and word[:1] in ("[", "{"):
            try:
                return json.loads(word)
            except (ValueError, RecursionError):
                return value
    return value


def _sentence(  # noqa: PLR0911  a line for each rule
    error: ValidationError, schema: Mapping[str, Any]
) -> str:
    name = ".".join(map(str, error.absolute_path)) or "params"
    shown = written(error.instance)
    match error.validator:
        case "type":
            kinds = error.validator_value
            kinds = [kinds] if isinstance(kinds, str) else kinds
            return f"`{name}` must be {' or '.join(_KINDS.get(k, k) for k in kinds)}, not {shown}"
        case "enum":
            choices = ", ".join(json.dumps(choice) for choice in error.validator_value[:20])
            return f"`{name}` must be one of {choices}, not {shown}"
        case "additionalProperties":
            known = sorted(schema.get("properties", {}))
            extra = sorted(set(error.instance) - set(known)) if not error.absolute_path else []
            hint = did_you_mean(extra[0], known) if extra else ""
            return f"there is no parameter `{extra[0]}`{hint}" if extra else error.message[:200]
        case "minimum":
            return f"`{name}` must be at least {error.validator_value}, not {shown}"
        case "maximum":
            return f"`{name}` must be at most {error.validator_value}, not {shown}"
        case "format":
            return f"`{name}` must be a {error.validator_value}, not {shown}"
        case _:
            return f"`{name}`: {error.message[:200]}"
