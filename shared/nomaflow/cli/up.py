"""`nomaflow up`: everything on this machine, from an empty folder to a served URL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Everything")(up)


def up(
    project: Annotated[
        Path | None,
        typer.Option(help="The project folder; default: NOMAFLOW_PROJECT or the current folder."),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(help="Where data lives; default: NOMAFLOW_HOME or .nomaflow in the project."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port of the API; default: 8080, or the next free one."
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address of the API; default: this machine only.")
    ] = None,
) -> None:
    """Start databases, API, scheduler and worker here, and keep them running until Ctrl-C."""
    from nomaflow.cli import supervisor

    raise typer.Exit(asyncio.run(supervisor.run(project=project, home=home, port=port, host=host)))
