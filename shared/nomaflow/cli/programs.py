"""`nomaflow api | scheduler | worker | migrate`: one program alone, in this very process."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from nomaflow.errors import Code, NomaflowError

Home = Annotated[
    Path | None,
    typer.Option(help="Join the servers of the `nomaflow up` that runs on this folder."),
]


PANEL = "One program alone"

scheduler = typer.Typer(name="scheduler", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=PANEL)(api)
    app.add_typer(scheduler, rich_help_panel=PANEL)
    for command in (worker, migrate):
        app.command(rich_help_panel=PANEL)(command)


def api(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Serve GraphQL, the console and the REST door."""
    _set("HOST", host)
    _set("PORT", port)
    _become("nomaflow_api", home)


@scheduler.callback()
def _scheduler(context: typer.Context, home: Home = None) -> None:
    """Fire due jobs; several may run, one is active.

    With `pause` or `resume` it starts nothing, and tells the schedulers that run.
    """
    if context.invoked_subcommand is not None:
        return
    _become("nomaflow_scheduler", home)


def worker(
    home: Home = None,
    capacity: Annotated[int | None, typer.Option(help="Runs at the same time.")] = None,
    tags: Annotated[str | None, typer.Option(help="Kinds of job, comma separated.")] = None,
) -> None:
    """Carry out runs; start as many as you like."""
    _set("WORKER_CAPACITY", capacity)
    _set("WORKER_TAGS", tags)
    _become("nomaflow_worker", home)


def migrate(home: Home = None) -> None:
    """Bring the database to this version; safe to repeat."""
    from nomaflow import logs
    from nomaflow.cli import database
    from nomaflow.settings import Settings

    join(home)
    settings = Settings.read()
    logs.configure("migrate", look=settings.log_format)
    asyncio.run(database.migrate(settings.database))
    print("The database is at this version.")


def named_home() -> Path | None:
    """The home that NOMAFLOW_HOME names, for a command that needs the servers of its `up`.

    None where the environment says itself which database: then no `up` need run.
    """
    named = os.environ.get("NOMAFLOW_HOME")
    return Path(named) if named and not os.environ.get("NOMAFLOW_DATABASE_URL") else None


def join(home: Path | None) -> None:
    """Take the settings of a running `up`; what the environment says already wins."""
    if home is None:
        return
    from nomaflow.cli.home import State

    for name, value in State.read(home.resolve()).environment().items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("NOMAFLOW_HOME", str(home.resolve()))


def argv(module: str) -> list[str]:
    """Give the command that starts a service; -P keeps the current folder out of its imports."""
    return [sys.executable, "-P", "-m", module]


def _become(module: str, home: Path | None) -> NoReturn:
    """Replace this process: the service is then the one that signals and supervisors see."""
    if module == "nomaflow_api" and importlib.util.find_spec("starlette") is None:
        raise NomaflowError(
            Code.UNAVAILABLE, "The web parts are missing. Run `pip install 'nomaflow[api]'`."
        )
    join(home)
    command = argv(module)
    os.execv(command[0], command)  # noqa: S606  no shell is wanted


def _set(name: str, value: object) -> None:
    if value is not None:
        os.environ[f"NOMAFLOW_{name}"] = str(value)
