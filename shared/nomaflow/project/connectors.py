"""What connectors.toml says: each connector that is right, a problem with its line otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from nomaflow.connectors import spec as connector_spec
from nomaflow.connectors import sql
from nomaflow.connectors.spec import ConnectorSpec
from nomaflow.job.problems import Path, did_you_mean, real_path, sentence, written
from nomaflow.language import template
from nomaflow.project import toml_text
from nomaflow.project.jobs import FileProblem

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_KEYS = ("connectors", "env")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OR_A_TOKEN = ("constrained-str",)


@dataclass(frozen=True, slots=True)
class Connectors:
    """The connectors by name, the names of `.env` that are no secrets, and what is wrong."""

    specs: Mapping[str, ConnectorSpec] = field(default_factory=dict)
    public: tuple[str, ...] = ()
    problems: tuple[FileProblem, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    """Where each of them stands in the file."""


def read(raw: bytes, file: str, before: Connectors) -> Connectors:
    """Read the file's bytes; what cannot be read stays as it was in `before`."""
    try:
        text = toml_text.read(raw)
    except toml_text.BrokenTomlError as error:
        problem = FileProblem(file, error.line, (), error.message)
        return Connectors(before.specs, before.public, (problem,))
    problems = [FileProblem(file, text.line_of(path), path, m) for path, m in _outer(text.data)]
    specs: dict[str, ConnectorSpec] = {}
    tables = text.data.get("connectors", {})
    for name, table in tables.items() if isinstance(tables, dict) else ():
        wrong = list(problems_of(name, table))
        if isinstance(table, dict):
            wrong += _secret_elsewhere(name, table)
        for path, message in wrong:
            place = ("connectors", name, *path)
            problems.append(FileProblem(file, text.line_of(place), place, message))
        if not wrong:
            specs[name] = connector_spec.parse(table)
        elif name in before.specs:
            specs[name] = before.specs[name]
    lines = {name: text.line_of(("connectors", name)) for name in specs}
    return Connectors(specs, _public(text.data), tuple(dict.fromkeys(problems)), lines)


def _outer(data: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for key in data:
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS)
            yield (key,), f"there is no table `{key}` in connectors.toml{hint}"
    if not isinstance(data.get("connectors", {}), dict):
        yield ("connectors",), "write each connector as a table [connectors.NAME]"
    env = data.get("env", {})
    public = env.get("public", []) if isinstance(env, dict) else None
    if not isinstance(public, list) or not all(isinstance(name, str) for name in public):
        yield ("env",), '`[env]` holds `public = ["NAME", ...]`, names that are no secrets'
    elif extra := sorted(set(env) - {"public"}):
        yield ("env", extra[0]), f"there is no field `{extra[0]}` in `[env]`; it holds `public`"


def _public(data: Mapping[str, Any]) -> tuple[str, ...]:
    env = data.get("env", {})
    names = env.get("public", []) if isinstance(env, dict) else []
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def problems_of(name: str, table: Any) -> Iterator[tuple[Path, str]]:
    """Yield what is wrong with a connector, whoever declares it: where in its table, and why."""
    whose = f"connector `{name[:60]}`: "
    if not _NAME.fullmatch(name):
        yield (), f"{whose}a name is 1 to 128 letters, digits, `-` or `_`"
    if not isinstance(table, dict):
        yield (), f"{whose}it must be a table, not {written(table)}"
        return
    try:
        connector_spec.parse(table)
    except ValidationError as error:
        yield from ((path, whose + words) for path, words in _misfits(error, table))
    yield from ((path, whose + words) for path, words in _unreachable(table))
    for key, value in table.items():
        if key == "queries":
            continue
        for wrong in template.problems(value):
            yield (key, *wrong.path), whose + wrong.message
        if not template.problems(value):
            yield from _foreign(key, value, whose)


def _unreachable(table: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """A database that no driver here speaks to; what a `${...}` says is known when it is used."""
    if table.get("kind") != "sql":
        return
    driver, url = table.get("driver"), table.get("url")
    known = f"; there is {', '.join(sql.DIALECTS)}"
    if isinstance(driver, str) and "${" not in driver and sql.known(driver) is None:
        yield ("driver",), f"there is no driver `{driver[:40]}`{known}"
    if isinstance(url, str) and not url.startswith("${"):
        # Without a scheme the beginning may be a password.
        scheme = _SCHEME.match(url)
        if scheme is None:
            yield ("url",), "`url` begins with no scheme, such as postgresql://"
        elif sql.known(scheme[1]) is None:
            yield ("url",), f"there is no scheme `{scheme[1][:40]}`{known}"


def _misfits(error: ValidationError, table: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    known = connector_spec.fields_of(str(table.get("kind", "")))
    for one in error.errors(include_url=False):
        if one["loc"][-1:] == _OR_A_TOKEN:
            continue  # the value is no `${...}` either, which nobody expected
        path = real_path(table, tuple(str(part) for part in one["loc"]))
        if one["type"].startswith("union_tag_"):
            path = (*path, one["ctx"]["discriminator"].strip("'"))
        yield path, sentence({**one, "loc": path or one["loc"]}, known)


def _foreign(key: str, value: Any, whose: str) -> Iterator[tuple[Path, str]]:
    for namespace in ("kw", "out", "previous_step", "ctx", "state", "date"):
        if template.references(value, namespace):
            yield (key,), f"{whose}a connector knows no run; it may use `${{env:NAME}}` only"


def _secret_elsewhere(name: str, table: Mapping[str, Any]) -> list[tuple[Path, str]]:
    words = (
        f"connector `{name}`: `${{secret:...}}` belongs to connectors made through the API; in a "
        "file write `${env:NAME}`"
    )
    return [
        ((key,), words)
        for key, value in table.items()
        if key != "queries" and not template.problems(value)
        if template.references(value, "secret")
    ]
