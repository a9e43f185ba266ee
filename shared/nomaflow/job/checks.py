"""What a job's fields must agree on among themselves, looked at before the model is built.

Works on plain JSON in canonical words, so that every problem of a job is found at once and not
only the first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nomaflow.job import clock_checks, kwarg_names, param_schema, step_defaults, words
from nomaflow.job.problems import Path, Problem, SpecErrors, did_you_mean, real_path, with_article
from nomaflow.job.tables import shown, tables, token_problems
from nomaflow.language import expression, template
from nomaflow.steps import registry

_JOB_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_STEP_NAME = re.compile(r"\w(?:[\w -]{0,126}[\w-])?")
_REQUIRED = registry.sentence({"type": "missing"})
_UNKNOWN = registry.sentence({"type": "extra_forbidden"})


def problems(job: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a job beyond the types of its fields; paths are canonical."""
    return [
        *_names(job),
        *_words(job),
        *clock_checks.of_clocks(job),
        *clock_checks.of_dependencies(job),
        *param_schema.of_schema(job.get("param_schema")),
        *_params(job),
        *_presets(job),
        *_steps(job),
    ]


def _names(job: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("name", "app", "worker"):
        name = job.get(key)
        if isinstance(name, str) and not _JOB_NAME.fullmatch(name):
            yield Problem(
                (key,),
                f"`{key}` {shown(name)} must be 1 to 128 letters, digits, `-` or `_`",
            )
    tag = job.get("worker")
    if isinstance(tag, str) and tag.startswith("_"):
        yield Problem(
            ("worker",),
            f"`worker` {shown(tag)} is reserved: tags that begin with `_` are for Nomaflow's own "
            "runs; choose another",
        )
    for key, one in (("steps", "step"), ("schedules", "schedule"), ("presets", "preset")):
        seen: dict[str, int] = {}
        for at, part in tables(job, key):
            name = part.get("name")
            if not isinstance(name, str):
                continue
            path = (key, str(at), "name")
            if not _STEP_NAME.fullmatch(name) or unicodedata.normalize("NFC", name) != name:
                yield Problem(
                    path,
                    f"the {one} name {shown(name)} must be 1 to 128 letters, digits, spaces, `-` "
                    "or `_`",
                )
            elif name in seen:
                first = seen[name] + 1
                yield Problem(
                    path, f"there are two {one}s `{name}`: number {first} and number {at + 1}"
                )
            else:
                seen[name] = at


def _words(job: Mapping[str, Any]) -> Iterator[Problem]:
    texts: list[tuple[Path, Any]] = [(("description",), job.get("description"))]
    tags = job.get("tags")
    texts += [
        (("tags", str(at)), tag) for at, tag in enumerate(tags if isinstance(tags, list) else [])
    ]
    for path, text in texts:
        allowed = "\n\t" if path == ("description",) else ""
        if isinstance(text, str) and any(_hidden(char) and char not in allowed for char in text):
            yield Problem(path, f"`{path[0]}` holds invisible control characters: {shown(text)}")


def _hidden(char: str) -> bool:
    # Cf holds the bidirectional overrides and zero-width letters that make text lie (SEC-D08);
    # the joiner inside emoji is the one in honest use.
    return unicodedata.category(char) in ("Cc", "Cf") and char != "\u200d"


def _params(job: Mapping[str, Any]) -> Iterator[Problem]:
    params = job.get("params", {})
    yield from token_problems(params, ("params",), "")
    if isinstance(params, dict) and not param_schema.of_schema(job.get("param_schema")):
        yield from param_schema.of_values(params, job.get("param_schema"))
        yield from _own_params(job, params)


def _own_params(job: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[Problem]:
    """Hold the parameters of clocks and presets against the same schema as a fire's."""
    schema = job.get("param_schema")
    for key, one in (("schedules", "schedule"), ("presets", "preset")):
        for at, part in tables(job, key):
            given = part.get("params", {})
            whose, path = f"{one} `{part.get('name', at + 1)}`: ", (key, str(at))
            if not isinstance(given, dict):
                continue
            try:
                param_schema.coerce(given, schema or param_schema.inferred(params))
            except SpecErrors as errors:
                for wrong in errors.problems:
                    yield Problem((*path, *wrong.path), whose + wrong.message)
            if key == "schedules":
                for wrong in param_schema.missing({**params, **given}, schema):
                    yield Problem(path, f"{whose}it gives no value, and {wrong.message}")


def _presets(job: Mapping[str, Any]) -> Iterator[Problem]:
    steps = {step.get("name"): step for _, step in tables(job, "steps")}
    names = list(steps)
    for at, preset in tables(job, "presets"):
        path, whose = ("presets", str(at)), f"preset `{preset.get('name', at + 1)}`: "
        for key in ("kwargs", "steps"):
            for name in preset[key] if isinstance(preset.get(key), dict) else ():
                if name not in names:
                    hint = did_you_mean(name, filter(None, names))
                    yield Problem((*path, key, name), f"{whose}there is no step `{name}`{hint}")
                elif key == "kwargs" and isinstance(preset[key][name], dict):
                    for wrong, message in _strange(job, steps[name], preset[key][name]):
                        yield Problem((*path, key, name, wrong), whose + message)
        yield from token_problems(preset.get("params"), (*path, "params"), whose)
        yield from token_problems(preset.get("kwargs"), (*path, "kwargs"), whose)


def _strange(
    job: Mapping[str, Any], step: Mapping[str, Any], given: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield the kwargs that mean nothing to a step that is otherwise well."""
    kind, config = step.get("type"), step.get("config", {})
    if not isinstance(kind, str) or template.problems(config):
        return
    schema = job.get("param_schema")
    declared = [job.get("params"), schema.get("properties") if isinstance(schema, dict) else None]
    tables_of = (table for table in (*declared, config.get("kwargs")) if isinstance(table, dict))
    names = kwarg_names.known(kind, config, (name for table in tables_of for name in table))
    yield from kwarg_names.unknown(step["name"], kind, given, names)


def _steps(job: Mapping[str, Any]) -> Iterator[Problem]:
    earlier: list[str] = []
    for at, step in tables(job, "steps"):
        path = ("steps", str(at))
        name = step.get("name")
        whose = f"step `{name}`" if isinstance(name, str) else f"step number {at + 1}"
        config = step.get("config", {})
        found = list(token_problems(config, (*path, "config"), f"{whose}: "))
        yield from found
        if not found:
            yield from _references(config, (*path, "config"), whose, earlier)
        yield from _when(step.get("when"), (*path, "when"), whose, earlier)
        if isinstance(step.get("type"), str):
            yield from _settings(step["type"], config, path, whose)
        if isinstance(name, str):
            earlier.append(name)


def _references(config: Any, path: Path, whose: str, earlier: list[str]) -> Iterator[Problem]:
    for key, value in config.items():
        for name in sorted({reference[0] for reference in template.references(value, "out")}):
            yield from _earlier(name, (*path, key), whose, earlier)
        if not earlier and template.references(value, "previous_step"):
            message = f"{whose} is the first step and reads `${{previous_step...}}`"
            yield Problem((*path, key), message)


def _when(text: Any, path: Path, whose: str, earlier: list[str]) -> Iterator[Problem]:
    if not isinstance(text, str) or not text:
        return
    try:
        compiled = expression.compile(text, roots=expression.WHEN_ROOTS)
    except expression.ExpressionError as error:
        yield Problem(path, f"{whose}: `when`: {error.message}")
        return
    for reads in sorted(compiled.reads):
        if reads[0] == "steps" and len(reads) > 1:
            yield from _earlier(reads[1], path, whose, earlier)


def _earlier(name: str, path: Path, whose: str, earlier: Iterable[str]) -> Iterator[Problem]:
    if name not in earlier:
        hint = did_you_mean(name, earlier)
        yield Problem(
            path, f"{whose} reads the output of `{name}`, and no step before it has that name{hint}"
        )


def _settings(kind: str, config: Mapping[str, Any], path: Path, whose: str) -> Iterator[Problem]:
    if kind in words.NOT_YET_STEP_TYPES and kind not in registry.all_types():
        message = f"{whose}: step type `{kind}` is not available in this version"
        yield Problem((*path, "type"), message)
        return
    if (why := registry.broken().get(kind)) is not None and kind not in registry.all_types():
        message = f"{whose}: the step type `{kind}` of a package cannot be used: {why}"
        yield Problem((*path, "type"), message)
        return
    if kind not in registry.all_types():
        known = sorted(registry.all_types())
        hint = did_you_mean(kind, known) or f"; known are {', '.join(known)}"
        yield Problem((*path, "type"), f"{whose}: there is no step type `{kind[:60]}`{hint}")
        return
    for inner, message in registry.problems(kind, config):
        real = real_path(config, inner)
        dotted = ".".join(real)
        at = (*path, "config", *real)
        if message == _REQUIRED:
            yield Problem(at, f"{whose} needs `{dotted}`")
        elif message == _UNKNOWN:
            known = sorted(step_defaults.fields_of(kind) | words.STEP_COMMON)
            hint = did_you_mean(real[-1], known) if len(real) == 1 else ""
            yield Problem(at, f"{whose}: {with_article(kind)} step has no field `{dotted}`{hint}")
        else:
            yield Problem(
                at, f"{whose}: `{dotted}`: {message}" if dotted else f"{whose}: {message}"
            )
