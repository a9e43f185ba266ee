"""What `up` prints: one line per event with the program's name before it, and the welcome."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

COLOURS = {"up": "36", "api": "35", "scheduler": "33", "worker": "32"}


class Voice:
    """Standard output shared by several programs; a reader who went away is not an error."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._coloured = out.isatty() and "NO_COLOR" not in os.environ

    def tell(self, name: str, line: str) -> None:
        label = f"{name:<9} |"
        if self._coloured:
            label = f"\x1b[{COLOURS.get(name, '0')}m{label}\x1b[0m"
        with contextlib.suppress(OSError, ValueError):
            self._out.write(f"{label} {line}\n")
            self._out.flush()

    def show(self, panel: Panel) -> None:
        # Wide enough that no path or token is ever cut, whoever reads it.
        width = None if self._coloured else 120
        with contextlib.suppress(OSError, ValueError):
            Console(file=self._out, width=width, highlight=False).print(panel)


@dataclass(frozen=True, slots=True)
class Installation:
    """The facts of the welcome."""

    url: str
    graphiql: bool
    home: Path
    project: Path
    token: str
    token_source: str
    servers: str
    loaded: str
    problems: Sequence[str]
    notes: Sequence[str]


def welcome(facts: Installation) -> Panel:
    """Draw the box that says where everything is."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        ("GraphQL", Text(f"{facts.url}/graphql", style="bold")),
        ("GraphiQL", Text(_graphiql(facts))),
        ("Health", Text(f"{facts.url}/health  and  {facts.url}/ready")),
        ("Token", Text.assemble((facts.token, "bold"), f"  {facts.token_source}")),
        ("Home", Text(str(facts.home))),
        ("Project", Text(str(facts.project))),
        ("Servers", Text(facts.servers)),
        ("Loaded", Text(facts.loaded)),
    ]
    for name, text in rows:
        table.add_row(name, text)
    for problem in facts.problems:
        table.add_row(Text("Problem", style="red"), Text(problem, style="red"))
    for note in facts.notes:
        table.add_row(Text("Note", style="yellow"), Text(note))
    return Panel(
        table,
        title="[bold]Nomaflow is up[/bold]",
        subtitle="Ctrl-C ends everything in good order",
        border_style="cyan",
        expand=False,
    )


def _graphiql(facts: Installation) -> str:
    """Give a link that signs in by itself, where the token is shown anyway."""
    if not facts.graphiql:
        return "switched off"
    return f"{facts.url}/graphiql" + (f"#token={facts.token}" if facts.token else "")
