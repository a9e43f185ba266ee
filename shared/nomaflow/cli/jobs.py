"""`nomaflow job`: what is declared, and running it, once or again, aborting and remembering it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow.cli import documents, listings, logs, run_options, talk, words

if TYPE_CHECKING:
    from nomaflow.outside.api_client import Client

FAILED = 1
PANEL = "Jobs and runs"

JSON = dict[str, Any]

job = typer.Typer(
    name="job", help="List, run, run again, abort and look back at jobs.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add `nomaflow job ...`."""
    app.add_typer(job, rich_help_panel=PANEL)


@job.command("list")
def list_jobs(
    application: Annotated[
        str | None, typer.Option("--app", help="Only jobs of this application.")
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="Only jobs with this tag; may be repeated.")
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", help="Only jobs whose name or description has it.")
    ] = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """List the jobs: when each fires next, and how its last run went."""
    wanted = {"app": application, "tags": tags or None, "search": search}
    chosen = {name: value for name, value in wanted.items() if value is not None}

    from nomaflow.cli import pages

    async def ask(client: Client) -> list[JSON]:
        return await pages.read(client, documents.JOBS, "jobs", {"filter": chosen})

    found = talk.talk(url, home, ask)
    for each in found:
        if each["lastRun"]:
            each["lastRun"] = words.plain_ids(each["lastRun"])
    if as_json:
        talk.print_json(found)
    elif found:
        listings.print_jobs(found)
    else:
        talk.note("No job is declared." if not chosen else "No job is like that.")


@job.command("run")
def run_job(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The job's name.")],
    param: run_options.Param = None,
    kwarg: run_options.Kwarg = None,
    step: run_options.Step = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Start from this preset of the job.")
    ] = None,
    log_level: run_options.LogLevel = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Each step says what it would do, changes nothing."),
    ] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key", help="The same key within 7 days gives the first run again."
        ),
    ] = None,
    following: run_options.Follow = False,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Run a job now.

    Ends at once with the run's id, or with --follow when the run is over. Ctrl-C while following
    leaves the run alone.
    """
    request = run_options.overrides(
        param,
        kwarg,
        step,
        log_level,
        job=name,
        preset=preset,
        idempotencyKey=idempotency_key,
        dryRun=dry_run,
    )

    async def ask(client: Client) -> str | None:
        return await _start(client, documents.TRIGGER, request, following, as_json)

    _end_as(talk.talk(url, home, ask))


@job.command("replay")
def replay_run(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The run's id, or a job's name for its newest run.")
    ],
    from_step: Annotated[
        str | None,
        typer.Option("--from", metavar="STEP", help="Begin here; keep what earlier steps put out."),
    ] = None,
    param: run_options.Param = None,
    kwarg: run_options.Kwarg = None,
    step: run_options.Step = None,
    log_level: run_options.LogLevel = None,
    dry_run: Annotated[
        bool | None,
        typer.Option("--dry-run/--no-dry-run", help="Default: as that run was."),
    ] = None,
    following: run_options.Follow = False,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Run a run again: same definition, same parameters, with what is given here laid over them."""
    changes = run_options.overrides(
        param, kwarg, step, log_level, fromStep=from_step, dryRun=dry_run
    )

    async def ask(client: Client) -> str | None:
        request = {**changes, "run": await logs.find_run(client, run)}
        return await _start(client, documents.REPLAY, request, following, as_json)

    _end_as(talk.talk(url, home, ask))


@job.command("abort")
def abort_run(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The run's id, or a job's name for its newest run.")
    ],
    reason: Annotated[str | None, typer.Option("--reason", help="Why, kept in history.")] = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Abort a run: its step ends within two seconds, the rest is skipped."""

    async def ask(client: Client) -> JSON:
        identifier = await logs.find_run(client, run)
        payload = await client.mutate(documents.ABORT, {"run": identifier, "reason": reason})
        return words.plain_ids(payload["run"])

    aborted = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(aborted)
    elif aborted["status"] == "ABORTED":
        print(f"Run {aborted['id']} of {aborted['jobName']} is aborted.")
    else:
        print(f"Run {aborted['id']} of {aborted['jobName']} is asked to abort.")


@job.command("history")
def show_history(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The job's name.")],
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="So many runs, newest first.")
    ] = 20,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="Only runs of this status, like failed; may be repeated."),
    ] = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """List a job's runs, newest first."""
    chosen: JSON = {"jobs": [name]}
    if status:
        chosen["status"] = [word.upper() for word in status]

    from nomaflow.cli import pages

    async def ask(client: Client) -> list[JSON]:
        runs = await pages.read(client, documents.HISTORY, "runs", {"filter": chosen}, limit)
        if not runs and (await client.query(documents.JOB_EXISTS, {"name": name}))["job"] is None:
            raise await logs.no_such_job(client, name)
        return runs

    runs = [words.plain_ids(run) for run in talk.talk(url, home, ask)]
    if as_json:
        talk.print_json(runs)
    elif runs:
        listings.print_runs(runs)
    else:
        talk.note(f"{name} has no such run yet.")


@job.command("logs")
def show_logs(
    run: logs.Run,
    following: logs.Follow = False,
    step: logs.StepName = None,
    min_level: logs.MinLevel = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Print a run's log: the same as `nomaflow logs`."""
    logs.show(run, following, step, min_level, as_json, url, home)


async def _start(
    client: Client, document: str, request: Mapping[str, Any], following: bool, as_json: bool
) -> str | None:
    """Start a run and say so; give its last status when it was followed to its end."""
    payload = await client.mutate(document, {"input": request})
    started = words.plain_ids(payload["run"])
    if not following:
        _print_started(started, created=payload["created"], as_json=as_json)
        return None
    from nomaflow.cli.follow import follow

    if not as_json:
        talk.note(_started(started, created=payload["created"]))
    return (await follow(client, started["id"], as_json=as_json)).status


def _end_as(status: str | None) -> None:
    if status not in {None, "SUCCEEDED"}:
        raise typer.Exit(FAILED)


def _started(run: JSON, *, created: bool) -> str:
    if not created:
        return f"Run {run['id']} of {run['jobName']} had this idempotency key already."
    return f"Run {run['id']} of {run['jobName']} is {run['status'].lower()}."


def _print_started(run: JSON, *, created: bool, as_json: bool) -> None:
    if as_json:
        talk.print_json(run | {"created": created})
        return
    print(_started(run, created=created))
    talk.note(f"Watch it with: nomaflow logs --follow {run['id']}")
