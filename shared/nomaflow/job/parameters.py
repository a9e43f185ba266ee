"""The parameters of a run: merged in one order, read as their declared types, checked in words.

Later wins: the job's params, the step's kwargs, the schedule's or preset's params, the params of
this fire, then the kwargs that this fire gives that step (T08).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nomaflow.errors import Code
from nomaflow.job import kwarg_names, param_schema
from nomaflow.job.problems import Path, Problem, SpecErrors, did_you_mean, written
from nomaflow.language import template
from nomaflow.steps import registry

if TYPE_CHECKING:
    from nomaflow.job.spec import JobSpec, PresetSpec

LARGEST = 262_144  # characters of JSON


def merge(
    job_params: Mapping[str, Any],
    schedule_or_preset: Mapping[str, Any],
    step_kwargs: Mapping[str, Any],
    fire_params: Mapping[str, Any],
    fire_kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the parameters that one step sees, in the order above; values replace, never mix."""
    return {**job_params, **step_kwargs, **schedule_or_preset, **fire_params, **fire_kwargs}


def resolve(params: Mapping[str, Any], scope: template.Scope) -> dict[str, Any]:
    """Render parameters, of which one may name another by `${kw:name}`.

    Raises TemplateError for an unknown name and for parameters that name each other in a circle.
    """
    done: dict[str, Any] = {}

    def one(name: str, via: tuple[str, ...]) -> Any:
        if name in via:
            circle = " -> ".join((*via, name))
            raise template.TemplateError(
                f"parameters name each other in a circle: {circle}", (name,)
            )
        if name not in done:
            needed = {p[0] for p in template.references(params[name], "kw") if p} & params.keys()
            known = {other: one(other, (*via, name)) for other in sorted(needed)}
            done[name] = template.render(params[name], replace(scope, kw=known))
        return done[name]

    return {name: one(name, ()) for name in params}


def coerce(params: Mapping[str, Any], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return given parameters with texts read as their declared types: `"5"` as 5 (T20).

    Raises SpecErrors for values that are not of their type or not allowed (T07).
    """
    return param_schema.coerce(params, schema)


def schema_of(spec: JobSpec) -> Mapping[str, Any]:
    """Return the job's schema, else one that keeps each parameter to the kind of its default."""
    return spec.param_schema or param_schema.inferred(spec.params)


def with_preset(
    preset: PresetSpec,
    params: Mapping[str, Any],
    step_kwargs: Mapping[str, Mapping[str, Any]],
    step_enabled: Mapping[str, bool],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, bool]]:
    """Lay what a fire gives over a preset's values: params, step kwargs, steps on or off."""
    names = {*preset.kwargs, *step_kwargs}
    kwargs = {n: {**preset.kwargs.get(n, {}), **step_kwargs.get(n, {})} for n in sorted(names)}
    return {**preset.params, **params}, kwargs, {**preset.steps, **step_enabled}


def validate_overrides(
    spec: JobSpec,
    params: Any,
    step_kwargs: Any = None,
    step_enabled: Any = None,
    preset: PresetSpec | None = None,
    *,
    may_edit: bool = True,
) -> list[Problem]:
    """Return what is wrong with what a fire gives: unknown steps, ill-typed values (T07).

    Whoever may run a job but not edit it tunes a step and gives it values; where it goes and what
    it does (a URL, SQL text, a connector) stays as declared, or its secrets could go anywhere.

    Paths begin with `params`, `step_kwargs` or `step_enabled`. What the schema requires may come
    from the job, the preset or the fire. Secrets may only be named by the definition: a value that
    brings its own `${env:...}` is refused, an unchanged one is not.
    """
    given = {"params": params, "step_kwargs": step_kwargs, "step_enabled": step_enabled}
    found = [
        Problem((key,), f"`{key}` must be a table, not {written(value)}")
        for key, value in given.items()
        if value is not None and not isinstance(value, Mapping)
    ]
    if not found:
        try:
            size = len(json.dumps(given, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            return [Problem(("params",), f"the parameters cannot be written as JSON: {error}")]
        if size > LARGEST:
            return [Problem(("params",), f"the parameters are larger than {LARGEST // 1024} KB")]
        found += _override_problems(spec, params or {}, step_kwargs or {}, step_enabled or {})
        if not may_edit:
            found += _edits(spec, step_kwargs or {})
        saved = preset.params if preset else {}
        found += param_schema.missing({**spec.params, **saved, **(params or {})}, spec.param_schema)
    return found


def _override_problems(
    spec: JobSpec,
    params: Mapping[str, Any],
    step_kwargs: Mapping[str, Any],
    step_enabled: Mapping[str, Any],
) -> Iterator[Problem]:
    names = [step.name for step in spec.steps]
    for key, table in (("step_kwargs", step_kwargs), ("step_enabled", step_enabled)):
        for name in table:
            if name not in names:
                hint = did_you_mean(name, names)
                yield Problem((key, name), f"job `{spec.name}` has no step `{name}`{hint}")
    for name, value in step_enabled.items():
        if not isinstance(value, bool):
            yield Problem(
                ("step_enabled", name), f"`{name}` must be true or false, not {written(value)}"
            )
    yield from _values(params, spec.params, schema_of(spec), ("params",))
    for step in spec.steps:
        own = step_kwargs.get(step.name, {})
        if isinstance(own, Mapping):
            schema = param_schema.inferred(step.kwargs)
            yield from _values(own, step.kwargs, schema, ("step_kwargs", step.name))
            declared = (*spec.params, *schema_of(spec).get("properties", {}), *step.kwargs)
            meant = kwarg_names.known(step.type, step.config, declared)
            for name, message in kwarg_names.unknown(step.name, step.type, own, meant):
                yield Problem(("step_kwargs", step.name, name), message)
        else:
            message = f"the kwargs of step `{step.name}` must be a table, not {written(own)}"
            yield Problem(("step_kwargs", step.name), message)


def _edits(spec: JobSpec, step_kwargs: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each setting that says what a step is (SEC-V02)."""
    for step in spec.steps:
        kind = registry.all_types().get(step.type)
        own = step_kwargs.get(step.name, {})
        if kind is None or not isinstance(own, Mapping):
            continue
        for name in own:
            if name in kind.model_fields and name not in kind.tuning:
                message = (
                    f"`{name}` says what step `{step.name}` does; to give another one for a run "
                    "takes the permission `edit`"
                )
                yield Problem(("step_kwargs", step.name, name), message, Code.FORBIDDEN)


def _values(
    given: Mapping[str, Any], defined: Mapping[str, Any], schema: Mapping[str, Any], path: Path
) -> Iterator[Problem]:
    try:
        param_schema.coerce(given, schema)
    except SpecErrors as error:
        for problem in error.problems:
            yield Problem((*path, *problem.path[1:]), problem.message)
    for name, value in given.items():
        if name in defined and defined[name] == value:
            continue
        broken = template.problems(value)
        for wrong in broken:
            yield Problem((*path, name, *wrong.path), wrong.message)
        for namespace in ("env", "secret") if not broken else ():
            if template.references(value, namespace):
                message = (
                    f"`{name}`: a run's parameters may not name secrets (`${{{namespace}:...}}`)"
                )
                yield Problem((*path, name), message)
