"""MySQL's names, quoted exactly as given."""

from __future__ import annotations

from collections.abc import Iterable


def quoted(name: str) -> str:
    """One identifier."""
    return "`" + name.replace("`", "``") + "`"


def qualified(schema: str, table: str) -> str:
    """A table in its database; without one, in the connection's own."""
    return f"{quoted(schema)}.{quoted(table)}" if schema else quoted(table)


def listed(names: Iterable[str], prefix: str = "") -> str:
    """Identifiers with commas between them, each behind `prefix`."""
    return ", ".join(prefix + quoted(name) for name in names)
