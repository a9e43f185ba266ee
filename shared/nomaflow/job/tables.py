"""Looking into a job that is still plain JSON: its tables, texts as shown, `${...}` in values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nomaflow.job.problems import Path, Problem
from nomaflow.language import template


def tables(job: Mapping[str, Any], key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the entries of a list that are tables, each with its position."""
    parts = job.get(key)
    for at, part in enumerate(parts if isinstance(parts, list) else []):
        if isinstance(part, dict):
            yield at, part


def shown(name: str) -> str:
    """Quote a name that was refused, shortly and without letters that hide."""
    return "`" + name[:60].encode("unicode_escape").decode("ascii") + "`"


def token_problems(value: Any, path: Path, whose: str) -> Iterator[Problem]:
    """Yield what is wrong with the `${...}` in a value."""
    for error in template.problems(value):
        yield Problem((*path, *error.path), f"{whose}{error.message}")
    if not template.problems(value) and template.references(value, "secret"):
        yield Problem(
            path, f"{whose}`${{secret:...}}` belongs to connectors; a job reads `${{env:NAME}}`"
        )
