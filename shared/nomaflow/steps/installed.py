"""Step types of installed packages: entry points of the group `nomaflow.steps`.

A package that cannot be used is passed over with its reason; it never stops ours.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from nomaflow.steps.base import Step

GROUP = "nomaflow.steps"

# What every step has besides its type's own settings; a setting of that name could not be given.
_COMMON = frozenset(
    {"name", "type", "enabled", "timeout_seconds", "timeout", "retry", "when", "condition"}
    | {"continue_on_error", "on_interrupt"}
)


@cache
def found(ours: frozenset[str]) -> tuple[dict[str, type[Step]], dict[str, str]]:
    """Return the usable types by name, and why others are not; `ours` are names that are taken."""
    types: dict[str, type[Step]] = {}
    failed: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        try:
            if entry.name in ours:
                raise TypeError("that is the name of one of Nomaflow's own step types")
            if entry.name in types:
                raise TypeError("another package has a step type of that name")
            types[entry.name] = _load(entry)
        except (Exception, SystemExit) as error:  # noqa: BLE001  it may do anything when imported
            failed[entry.name] = f"{type(error).__name__}: {error}"[:500]
    return types, failed


def _load(entry: EntryPoint) -> type[Step]:
    loaded = entry.load()
    if not (isinstance(loaded, type) and issubclass(loaded, Step)):
        raise TypeError(f"{entry.value} is not a subclass of nomaflow.steps.base.Step")
    for name in ("type_name", "title"):
        if not isinstance(getattr(loaded, name, None), str):
            raise TypeError(f"{entry.value} has no `{name}`")
    if loaded.type_name != entry.name:
        raise TypeError(
            f"{entry.value} calls itself {loaded.type_name!r}, its entry point {entry.name!r}"
        )
    taken = sorted(_COMMON & {field.alias or name for name, field in loaded.model_fields.items()})
    if taken:
        raise TypeError(f"its setting `{taken[0]}` has the name of a field that every step has")
    loaded.model_json_schema(by_alias=True)  # fails for a field that no editor could be told of
    return loaded
