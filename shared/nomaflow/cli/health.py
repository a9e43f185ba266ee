"""`nomaflow healthcheck`: is this program alive, for a container's health check."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from nomaflow.cli.ports import served_url
from nomaflow.errors import Code, NomaflowError

Kind = Literal["api", "scheduler", "worker"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="One program alone")(healthcheck)


def healthcheck(
    program: Annotated[Kind, typer.Argument(help="api, scheduler or worker")],
    home: Annotated[Path | None, typer.Option(help="Home of a running `nomaflow up`.")] = None,
) -> None:
    """Exit with 0 when this machine's program is alive, else with 2 and a sentence."""
    from nomaflow.cli.home import State
    from nomaflow.cli.programs import join
    from nomaflow.settings import Settings

    join(home)
    settings = Settings.read()
    if program == "api":
        url = State.read(home).url if home else served_url(settings.host, settings.port)
        _ask_api(f"{url}/health")
    else:
        asyncio.run(_look_for_beat(settings.database, program))
    print(f"The {program} is alive.")


def _ask_api(url: str) -> None:
    import httpx

    try:
        httpx.get(url, timeout=3.0, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise NomaflowError(Code.UNAVAILABLE, f"{url} does not answer: {error}") from None


async def _look_for_beat(url: str, kind: str) -> None:
    import socket

    from nomaflow.store import database, processes

    store = await database.connect(url, min_size=1, max_size=1, application="healthcheck")
    try:
        alive = await processes.alive(store, kind)
    finally:
        await store.close()
    here = socket.gethostname()
    if not any(here in program.name for program in alive):
        raise NomaflowError(
            Code.UNAVAILABLE, f"No {kind} on {here} has given a sign of life lately."
        )
