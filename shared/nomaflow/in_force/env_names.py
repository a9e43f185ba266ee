"""Which names of `.env` a job of the API may have: any for an administrator, else listed ones.

A project's folder is trusted like code; what comes through the API is not (SEC-V01). Looked at
when a job is saved, and kept with its revision: a run reads what that one was allowed to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow.errors import Code
from nomaflow.job.problems import Path, Problem, SpecErrors
from nomaflow.language import template

if TYPE_CHECKING:
    from nomaflow.job.spec import JobSpec

_WORDS = frozenset({"name", "app", "tags", "description"})
"""Fields that are never filled in."""


@dataclass(frozen=True, slots=True)
class EnvReach:
    """What whoever saves a job may let it read: any name, or the ones in the installation's list.

    With `listed` None nothing is refused on saving; a run then reads listed names only.
    """

    any_name: bool = False
    listed: frozenset[str] | None = None


def refuse(spec: JobSpec, reach: EnvReach) -> None:
    """Raise SpecErrors (FORBIDDEN) for each name that whoever saves the job may not give it."""
    if reach.any_name or reach.listed is None:
        return
    found = [
        Problem(path, _sentence(spec.name, path, name), Code.FORBIDDEN)
        for path, name in _named(spec.canonical())
        if name not in reach.listed
    ]
    if found:
        raise SpecErrors(found)


def _named(definition: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield each name of `.env`, with the field it stands in; steps one by one."""
    for field, value in definition.items():
        if field in _WORDS:
            continue
        if field != "steps":
            yield from (((field,), name) for name in _references(value))
            continue
        for at, step in enumerate(value):
            listed = step.get("env", ()) if step.get("type") == "python" else ()
            for name in sorted({*_references(step), *listed}):
                yield ("steps", str(at)), name


def _references(value: Any) -> list[str]:
    return sorted({path[0] for path in template.references(value, "env")})


def _sentence(job: str, path: Path, name: str) -> str:
    where = f"step number {int(path[1]) + 1}" if len(path) > 1 else f"`{path[0]}`"
    return (
        f"job `{job}`: {where} names `{name}` of .env: without the permission `admin` a job saved "
        "through the API may name only what NOMAFLOW_API_ENV_ALLOW lists; have it listed there, or "
        "let an administrator save the job"
    )
