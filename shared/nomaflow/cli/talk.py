"""How a command talks to the API: finds it, says who calls, ends with sentences."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from nomaflow.errors import Code, NomaflowError

T = TypeVar("T")

Url = Annotated[
    str | None,
    typer.Option("--url", help="The API's address; default: NOMAFLOW_URL, or a running `up`."),
]
Home = Annotated[
    Path | None,
    typer.Option("--home", help="Home of a running `nomaflow up`: its address and token."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

INTERRUPTED = 130
# Wide enough that nothing is ever cut where a program or a file reads.
UNLIMITED_WIDTH = 10_000


def talk(url: str | None, home: Path | None, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Run `work(client)` to its end; Ctrl-C ends with status 130 and stops nothing but us."""
    from nomaflow.outside import address
    from nomaflow.outside.api_client import Client

    async def conversation() -> T:
        place = address.find(url, home=home)
        async with Client(place, name=f"cli/{os_user()}") as client:
            return await work(client)

    try:
        return asyncio.run(conversation())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def as_job(
    url: str | None,
    home: Path | None,
    work: Callable[[Any], Coroutine[Any, Any, T]],
    name: str = "",
    source: str = "",
    destination: str = "",
    **options: Any,
) -> T:
    """Run `work(job)` for an outside run; Ctrl-C is the business of whoever works."""
    from nomaflow.client import AsyncJob
    from nomaflow.outside import address

    place = address.find(url, home=home)
    job = AsyncJob(
        name, place.url, source, destination, place.token, client=f"cli/{os_user()}", **options
    )
    try:
        return asyncio.run(work(job))
    except ValueError as error:
        raise NomaflowError(Code.INVALID, str(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def os_user() -> str:
    """Name who runs this, in characters that a header may hold."""
    try:
        import pwd

        name = pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):
        name = getpass.getuser()
    return re.sub(r"[^A-Za-z0-9._@-]", "_", name)[:64]


def console() -> Console:
    """Give a console that cuts and colours only for a person at a terminal.

    Markup stays off: a log line may hold brackets of its own.
    """
    if sys.stdout.isatty():
        return Console(highlight=False, markup=False, emoji=False)
    return Console(
        highlight=False, markup=False, emoji=False, width=UNLIMITED_WIDTH, color_system=None
    )


def print_json(value: Any, *, line: bool = False) -> None:
    """Print one JSON value; on one `line` for streams (NDJSON)."""
    print(json.dumps(value, ensure_ascii=False, indent=None if line else 2), flush=line)


def note(sentence: str) -> None:
    """Tell a person something that is not the command's output."""
    sys.stderr.write(f"{sentence}\n")
