"""Puts a file's `[step_defaults]` under its steps: the step wins, tables merge one level (J13)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from nomaflow.job import words
from nomaflow.job.problems import did_you_mean
from nomaflow.steps import registry


@cache
def fields_of(step_type: str) -> frozenset[str]:
    """Return the names a step type's own fields are written with; none for an unknown type."""
    found = registry.all_types().get(step_type)
    if found is None:
        return frozenset()
    return frozenset(field.alias or name for name, field in found.model_fields.items())


def under(step: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step with the defaults that its type has a field for."""
    own = defaults.get("config", {})
    kind = step.get("type", defaults.get("type"))
    taken = {key: own[key] for key in own if isinstance(kind, str) and key in fields_of(kind)}
    shared = {key: value for key, value in defaults.items() if key not in ("config", "name")}
    return {
        **_merged(shared, {k: v for k, v in step.items() if k != "config"}),
        "config": _merged(taken, step.get("config", {})),
    }


def unknown(defaults: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the defaults that no step type knows, each with a sentence."""
    known = set(words.STEP_COMMON).union(*map(fields_of, registry.all_types()))
    found = [
        (key, f"no step type has a field `{key}`{did_you_mean(key, sorted(known))}")
        for key in defaults.get("config", {})
        if key not in known
    ]
    return [("name", "a step's `name` has no default"), *found] if "name" in defaults else found


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    out = {**below, **above}
    for key in below:
        if isinstance(below[key], dict) and isinstance(above.get(key), dict):
            out[key] = {**below[key], **above[key]}
    return out
