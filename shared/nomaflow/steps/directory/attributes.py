"""Which attribute fills which column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from nomaflow.connectors.ldap.schema import Schema
from nomaflow.errors import StepError
from nomaflow.steps.directory.rows import DN

ALL = "*"
_DESCRIPTION = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)(?:;[A-Za-z0-9-]+)*")


def checked(name: str) -> str:
    """An attribute description (RFC 4512 section 2.5); ValueError otherwise."""
    if name == ALL or "${" in name or _DESCRIPTION.fullmatch(name):
        return name
    raise ValueError(f"{name[:60]!r} is not the name of an attribute")


def check_mapping(mapping: Mapping[str, str]) -> None:
    """ValueError when a name is none, or two attributes fill one column."""
    seen: dict[str, str] = {}
    lower: set[str] = set()
    for attribute, column in mapping.items():
        checked(attribute)
        if attribute == ALL or attribute.lower() in lower:
            raise ValueError(f"{attribute!r} is mapped twice" if attribute != ALL else _NO_STAR)
        lower.add(attribute.lower())
        if not column or "\x00" in column:
            raise ValueError(f"{attribute!r} is mapped to no column")
        if column in seen:
            raise ValueError(f"both {seen[column]!r} and {attribute!r} are mapped to {column!r}")
        seen[column] = attribute


_NO_STAR = "`*` is no attribute to map; name each one"


def pairs(
    mapping: Mapping[str, str], named: Sequence[str], offered: Sequence[str], schema: Schema
) -> list[tuple[str, str]]:
    """Each attribute with its column: as mapped, else by name, else all that both sides have.

    StepError for an attribute that the directory does not know.
    """
    if mapping:
        found = list(mapping.items())
    elif named and ALL not in named:
        columns = {name.lower(): name for name in reversed(offered)}
        unique = {name.lower(): name for name in reversed(named)}
        found = [(name, columns.get(low, name)) for low, name in reversed(unique.items())]
    else:
        found = [
            (name, name)
            for name in offered
            if name.lower() == DN or (schema.names and schema.knows(name))
        ]
        if not found:
            raise StepError(
                "no column has the name of an attribute; say in `mapping` which attribute fills "
                "which column",
                retryable=False,
            )
    for attribute, _ in found:
        if attribute.lower() != DN and not schema.knows(attribute):
            near = get_close_matches(attribute.lower(), schema.names, 1)
            hint = f"; did you mean {schema.names[near[0]]!r}?" if near else ""
            raise StepError(f"the directory has no attribute {attribute!r}{hint}", retryable=False)
    return found
