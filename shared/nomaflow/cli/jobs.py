"""`nomaflow job`: what is declared, and running, aborting and remembering it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow.cli import documents, listings, logs, run_arguments, talk, words

if TYPE_CHECKING:
    from nomaflow.client import Client

FAILED = 1
PANEL = "Jobs and runs"

JSON = dict[str, Any]

job = typer.Typer(name="job", help="List, run, abort and look back at jobs.", no_args_is_help=True)


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
            each["lastRun"]["id"] = words.run_id(each["lastRun"]["id"])
    if as_json:
        talk.print_json(found)
    elif found:
        listings.print_jobs(found)
    else:
        talk.note("No job is declared." if not chosen else "No job is like that.")


@job.command("run")
def run_job(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The job's name.")],
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="A parameter of this run; JSON where it is JSON, else text. May be repeated.",
        ),
    ] = None,
    kwarg: Annotated[
        list[str] | None,
        typer.Option(
            "--kwarg",
            metavar="STEP.NAME=VALUE",
            help="An argument of one step in this run. May be repeated.",
        ),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step",
            metavar="NAME=on|off",
            help="Switch a step on or off in this run. May be repeated.",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Start from this preset of the job.")
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR; this run."),
    ] = None,
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
    following: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Watch until it is over; status 1 if it failed."),
    ] = False,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Run a job now.

    Ends at once with the run's id, or with --follow when the run is over. Ctrl-C while following
    leaves the run alone.
    """
    from nomaflow.cli.follow import follow

    wanted = {
        "job": name,
        "params": run_arguments.params(param or ()) or None,
        "stepKwargs": run_arguments.step_kwargs(kwarg or ()) or None,
        "stepEnabled": run_arguments.step_enabled(step or ()) or None,
        "preset": preset,
        "logLevel": log_level and log_level.upper(),
        "idempotencyKey": idempotency_key,
        "dryRun": dry_run,
    }
    request = {field: value for field, value in wanted.items() if value is not None}

    async def ask(client: Client) -> str | None:
        payload = await client.mutate(documents.TRIGGER, {"input": request})
        started = payload["run"] | {"id": words.run_id(payload["run"]["id"])}
        if not following:
            _print_started(started, created=payload["created"], as_json=as_json)
            return None
        if not as_json:
            talk.note(_started(started, created=payload["created"]))
        return (await follow(client, started["id"], as_json=as_json)).status

    status = talk.talk(url, home, ask)
    if status not in {None, "SUCCEEDED"}:
        raise typer.Exit(FAILED)


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
        aborted: JSON = payload["run"]
        return aborted | {"id": words.run_id(aborted["id"])}

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

    runs = [run | {"id": words.run_id(run["id"])} for run in talk.talk(url, home, ask)]
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
