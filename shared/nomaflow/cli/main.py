"""The `nomaflow` command's front door: gathers the commands and turns refusals into sentences.

Exit status: 0 done, 1 the run failed, 2 the command could not do what was asked.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from typing import Annotated

import typer

from nomaflow.errors import NomaflowError

# Each module here has `register(app)`, which adds its commands. Their own imports stay light
# and the heavy ones sit inside the commands, so that `nomaflow --help` answers at once.
ROOMS = (
    "up",
    "programs",
    "health",
    "declared",
    "jobs",
    "connectors",
    "syncs",
    "logs",
    "external",
    "clock",
    "closing",
)

app = typer.Typer(
    name="nomaflow",
    help="Scheduled and on-demand jobs behind one GraphQL endpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and those hold secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(importlib.metadata.version("nomaflow"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def gather() -> typer.Typer:
    """Add every room's commands; used by `main` and by tests that look at the whole command."""
    if not app.registered_commands:
        for room in ROOMS:
            importlib.import_module(f"nomaflow.cli.{room}").register(app)
    return app


def main() -> None:
    """Run the command line."""
    gather()
    try:
        app()
    except NomaflowError as error:
        sys.stderr.write(f"nomaflow: {error.message}\n")
        raise SystemExit(2) from None
