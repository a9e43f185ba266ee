"""The kwargs that mean something to a step: its settings, and the names that it reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nomaflow.job.problems import did_you_mean, with_article
from nomaflow.language import template
from nomaflow.steps import registry

_ASKED = re.compile(r"\bparam\(\s*['\"]([^'\"]+)['\"]")
_OURS = {kind.type_name: kind for kind in registry.OURS}
_OPEN = "python"
"""Its function says which arguments it takes; that is looked at when it is called."""


def known(kind: str, config: Mapping[str, Any], declared: Iterable[str]) -> frozenset[str] | None:
    """Return the names a fire may give to a step; None when only the step itself can tell.

    They are the settings of its type, what its settings read as `${kw:name}` or `param('name')`,
    and what is `declared` (the job's parameters, the step's own kwargs). Functions and step types
    of packages may read others.
    """
    if kind not in _OURS or kind == _OPEN:
        return None
    read = {path[0] for path in template.references(config, "kw") if path}
    asked = {name for text in _texts(config) for name in _ASKED.findall(text)}
    return frozenset({*_OURS[kind].model_fields, *read, *asked, *declared})


def unknown(
    step: str, kind: str, given: Iterable[str], names: frozenset[str] | None
) -> Iterator[tuple[str, str]]:
    """Yield each given name that means nothing to the step, with the sentence that says so."""
    if names is None:
        return
    for name in given:
        if name not in names:
            hint = did_you_mean(name, sorted(names)) or f"; it knows {', '.join(sorted(names))}"
            yield name, f"step `{step}`: {with_article(kind)} step has no kwarg `{name:.80}`{hint}"


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for part in value.values():
                yield from _texts(part)
        case list() | tuple():
            for part in value:
                yield from _texts(part)
