"""`nomaflow external`: runs of scripts that Nomaflow does not execute, reported from a shell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow.cli import talk

if TYPE_CHECKING:
    from nomaflow.client import AsyncJob

JSON = dict[str, Any]
PANEL = "Outside runs"

external = typer.Typer(
    name="external",
    help="Report runs of scripts that run elsewhere, and read their last success.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Free text; one name per destination.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The id that `external start` printed.")]
Source = Annotated[str, typer.Option("--source", help="Where the data comes from.")]
Destination = Annotated[str, typer.Option("--destination", help="Where it goes to.")]
Records = Annotated[int | None, typer.Option("--records", min=0, help="Records processed.")]
Message = Annotated[str | None, typer.Option("--message", "-m", help="A sentence for history.")]
Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="The same key and name: the first run again."),
]
Heartbeat = Annotated[
    float | None,
    typer.Option("--heartbeat", help="Seconds between signs of life; three missed are stale."),
]


def register(app: typer.Typer) -> None:
    """Add `nomaflow external ...`."""
    app.add_typer(external, rich_help_panel=PANEL)


@external.command("run", context_settings={"ignore_unknown_options": True})
def run_command(
    name: Name,
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="The command and its arguments.")
    ],
    source: Source,
    destination: Destination,
    heartbeat: Annotated[
        float, typer.Option("--heartbeat", min=1, help="Seconds between signs of life.")
    ] = 60,
    idempotency_key: Key = None,
    required: Annotated[
        bool, typer.Option("--required", help="Do not begin unless the run is registered.")
    ] = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Run a command as an outside run: its end is the run's end, its status ours.

    An API that is away does not keep it from its work.
    """
    import logging

    from nomaflow.cli.wrapping import Wrapped

    logging.basicConfig(format="nomaflow: %(message)s")

    async def work(job: AsyncJob) -> int:
        return await Wrapped(job, command, heartbeat).run()

    options = {
        "heartbeat_seconds": heartbeat,
        "idempotency_key": idempotency_key,
        "required": required,
    }
    raise typer.Exit(talk.as_job(url, home, work, name, source, destination, **options))


@external.command("start")
def start(
    name: Name,
    source: Source,
    destination: Destination,
    heartbeat: Heartbeat = None,
    idempotency_key: Key = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Begin an outside run and print its id."""

    async def work(job: AsyncJob) -> JSON:
        return await job.start()

    options = {"heartbeat_seconds": heartbeat, "idempotency_key": idempotency_key}
    record = talk.as_job(url, home, work, name, source, destination, **options)
    if as_json:
        talk.print_json(record)
    else:
        print(record["id"])


@external.command("heartbeat")
def heartbeat_of(
    run: Run, message: Message = None, url: talk.Url = None, home: talk.Home = None
) -> None:
    """Say that an outside run lives."""

    async def work(job: AsyncJob) -> None:
        await job.resume(run).heartbeat(message)

    talk.as_job(url, home, work)


@external.command("finish")
def finish(
    run: Run,
    result: Annotated[str, typer.Argument(metavar="RESULT", help="`success` or `error`.")],
    records: Records = None,
    message: Message = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Report the end of an outside run."""

    async def work(job: AsyncJob) -> JSON:
        return await job.resume(run).result(result, message, records)

    record = talk.as_job(url, home, work)
    if as_json:
        talk.print_json(record)


@external.command("most-recent")
def most_recent(
    name: Name,
    source: Annotated[
        str, typer.Option("--source", help="Only runs from there; absent: from anywhere.")
    ] = "",
    destination: Annotated[
        str, typer.Option("--destination", help="Only runs to there; absent: to anywhere.")
    ] = "",
    status: Annotated[str, typer.Option("--status", help="`success` or `error`.")] = "success",
    iso: Annotated[bool, typer.Option("--iso", help="As RFC 3339, not as seconds.")] = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Print when the newest successful run of a name started, in seconds since 1970.

    Status 1, and nothing printed, when none ever succeeded. Runs of the engine count as well.
    """

    async def work(job: AsyncJob) -> float | None:
        return await job.most_recent(status)

    found = talk.as_job(url, home, work, name, source, destination)
    if found is None:
        sys.exit(1)
    print(_iso(found) if iso else f"{found:.3f}")


def _iso(seconds: float) -> str:
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
