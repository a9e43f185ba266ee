"""Jobs that name each other: which circles they make, told as A → B → A."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

Edges = Mapping[str, Collection[str]]


def calls(steps: Iterable[tuple[str, Any]]) -> dict[str, int]:
    """Return the jobs that steps call by name, each with the position of the first such step.

    A step is given as its type and its `job`. A name that is only known when the run is there,
    such as `${kw:job}`, is left to the run.
    """
    found: dict[str, int] = {}
    for at, (kind, name) in enumerate(steps):
        if kind == "call_job" and isinstance(name, str) and "${" not in name:
            found.setdefault(name, at)
    return found


def through(name: str, edges: Edges) -> tuple[str, ...] | None:
    """Return the shortest circle that leads from a job back to it, or None."""
    came_from: dict[str, str] = {}
    waiting = [name]
    for here in waiting:
        for there in sorted(edges.get(here, ())):
            if there == name:
                return (*_way(name, here, came_from), name)
            if there not in came_from:
                came_from[there] = here
                waiting.append(there)
    return None


def _way(start: str, end: str, came_from: Mapping[str, str]) -> tuple[str, ...]:
    way = [end]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))


def in_words(circle: Iterable[str]) -> str:
    """Write a circle for people."""
    return " → ".join(f"`{name}`" for name in circle)
