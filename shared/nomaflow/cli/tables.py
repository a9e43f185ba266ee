"""Plain tables for people: no lines, and no blanks at the ends of what a file gets."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

WHOLE = frozenset({"RUN", "JOB", "STATUS", "QUEUED", "DUE", "HERE", "FIRST", "OUTCOME", "UNTIL"})
"""Columns that are never broken into lines."""


def table(*titles: str) -> Table:
    """Make an empty table with these columns."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in titles:
        made.add_column(title, no_wrap=title in WHOLE)
    return made


def show(console: Console, made: Table) -> None:
    """Print it; a file gets no blanks at the ends of its lines."""
    with console.capture() as captured:
        console.print(made)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
