"""What a job reaches for: the connectors that its steps name, as far as the definition tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nomaflow.job.spec import JobSpec

_PARAMETER = re.compile(r"\$\{(?:kw|params)[:.]([\w-]+)\}")


def connectors(spec: JobSpec, params: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Return the names of the connectors, in order; `${kw:x}` is read from these parameters.

    What a python function opens by itself is known only to it.
    """
    known = {**spec.params, **(params or {})}
    named = (_resolved(name, known) for step in spec.steps for name in _named(step.config))
    return tuple(sorted({name for name in named if name}))


def _named(value: Any) -> Iterator[str]:
    match value:
        case Mapping():
            for key, part in value.items():
                if isinstance(part, str) and (key == "connector" or key.endswith("_connector")):
                    yield part
                else:
                    yield from _named(part)
        case list() | tuple():
            for part in value:
                yield from _named(part)


def _resolved(name: str, params: Mapping[str, Any]) -> str:
    token = _PARAMETER.fullmatch(name)
    value = params.get(token[1]) if token else name
    return value if isinstance(value, str) else ""
