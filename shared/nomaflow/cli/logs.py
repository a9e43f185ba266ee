"""`nomaflow logs`: the lines of one run, from history or as they are written."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow.cli import documents, talk, words
from nomaflow.cli.timeline import FINAL, LogLine
from nomaflow.errors import Code, NomaflowError

if TYPE_CHECKING:
    from nomaflow.outside.api_client import Client

FAILED = 1

JSON = dict[str, Any]

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, or a job's name for its newest run.")
]
Follow = Annotated[
    bool,
    typer.Option("--follow", "-f", help="Go on until the run is over; status 1 if it failed."),
]
StepName = Annotated[str | None, typer.Option("--step", help="Only lines of this step.")]
MinLevel = Annotated[
    str | None,
    typer.Option("--min-level", help="DEBUG, INFO, WARNING or ERROR: only these and above."),
]


def register(app: typer.Typer) -> None:
    """Add `nomaflow logs`."""
    app.command("logs", rich_help_panel="Jobs and runs")(show)


def show(
    run: Run,
    following: Follow = False,
    step: StepName = None,
    min_level: MinLevel = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Print a run's log; with --follow until the run is over."""
    chosen = {"step": step, "minLevel": min_level and min_level.upper()}
    filtered = {name: value for name, value in chosen.items() if value is not None}

    async def ask(client: Client) -> str | None:
        identifier = await find_run(client, run)
        stamp = words.clock if talk.console().is_terminal else words.instant

        def say(line: JSON) -> None:
            if as_json:
                talk.print_json(line, line=True)
            else:
                print(LogLine.of(line).text(stamp), flush=following)

        variables = {"run": identifier, "filter": filtered or None}
        if not following:
            await _stored(client, variables, say)
            return None
        async for data in client.subscribe(documents.LIVE_LOGS, variables):
            for line in data["runLogs"]["lines"]:
                say(line)
        status: str = (await client.query(documents.RUN, {"run": identifier}))["run"]["status"]
        return status

    status = talk.talk(url, home, ask)
    if status in FINAL - {"SUCCEEDED"}:
        talk.note(f"The run {status.lower()}.")
        raise typer.Exit(FAILED)


async def _stored(client: Client, variables: JSON, say: Any) -> None:
    after = None
    while True:
        run = (await client.query(documents.LOGS, variables | {"after": after}))["run"]
        if run is None:
            raise NomaflowError(Code.NOT_FOUND, f"there is no run {variables['run']}")
        for line in run["logs"]["nodes"]:
            say(line)
        if not run["logs"]["pageInfo"]["hasNextPage"]:
            return
        after = run["logs"]["endCursor"]


async def find_run(client: Client, text: str) -> str:
    """Give the run's id: `text` itself, or the newest run of the job of that name."""
    if words.is_run_id(text):
        return words.run_id(text)
    nodes = (await client.query(documents.NEWEST, {"filter": {"jobs": [text]}}))["runs"]["nodes"]
    if nodes:
        return words.run_id(nodes[0]["id"])
    await need_job(client, text)
    raise NomaflowError(Code.NOT_FOUND, f"{text} has not run yet.")


async def need_job(client: Client, name: str) -> None:
    """Raise NomaflowError NOT_FOUND, with the names that are near, unless there is such a job."""
    if (await client.query(documents.JOB_EXISTS, {"name": name}))["job"] is None:
        raise await no_such_job(client, name)


async def no_such_job(client: Client, name: str) -> NomaflowError:
    """Say that there is no such job, and which names are near."""
    from nomaflow.cli import pages

    names = [each["name"] for each in await pages.read(client, documents.NAMES, "jobs", {})]
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join(f'`{each}`' for each in near)}?" if near else ""
    return NomaflowError(Code.NOT_FOUND, f"there is no job `{name}`{hint}")
