"""Closing and opening clocks: `job pause`, `scheduler pause`, `blackout`; and `job install`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow.cli import clock_documents, jobs, moments, programs, talk, words
from nomaflow.errors import Code, NomaflowError

if TYPE_CHECKING:
    from nomaflow.outside.api_client import Client

JSON = dict[str, Any]
FAILED = 1
LOOK_SECONDS = 1.0

blackout = typer.Typer(
    name="blackout", help="Stop jobs for a stretch of time that has an end.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The job's name.")]
BlackoutName = Annotated[str, typer.Argument(metavar="NAME", help="The blackout's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands, some of them to groups that are there."""
    app.add_typer(blackout, rich_help_panel="Time")
    for group, name, command in (
        (jobs.job, "pause", pause_job),
        (jobs.job, "resume", resume_job),
        (jobs.job, "install", install),
        (programs.scheduler, "pause", pause_scheduler),
        (programs.scheduler, "resume", resume_scheduler),
    ):
        group.command(name)(command)


def pause_job(
    name: Name,
    until: Annotated[str, typer.Option("--until", help="Until a time, or for so long: 2h, 1d.")],
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Let a job's clocks stand still until then; it can still be run by hand."""
    end = moments.shown(moments.ahead(until, "--until"))
    job = _pause(name, end, url, home)
    if as_json:
        talk.print_json(job)
        return
    paused = words.day_and_time(words.moment(job["pausedUntil"]))
    print(f"{name} is paused until {paused}; {_next(job)}.")


def resume_job(
    name: Name,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """End a job's pause; what it missed is not made up for."""
    job = _pause(name, None, url, home)
    if as_json:
        talk.print_json(job)
    else:
        print(f"{name} is not paused; {_next(job)}.")


def _pause(name: str, until: str | None, url: talk.Url, home: talk.Home) -> JSON:
    async def ask(client: Client) -> JSON:
        wanted = {"name": name, "until": until}
        found: JSON = (await client.mutate(clock_documents.PAUSE_JOB, wanted))["job"]
        return found

    return talk.talk(url, home, ask)


def _next(job: JSON) -> str:
    at = words.day_and_time(words.moment(job["nextFireAt"]))
    return f"it fires next {at}" if at else "it does not fire by itself"


def pause_scheduler(
    as_json: talk.Json = False, url: talk.Url = None, home: talk.Home = None
) -> None:
    """Let every clock stand still; runs by hand are free."""
    _switch(True, as_json, url, home)


def resume_scheduler(
    as_json: talk.Json = False, url: talk.Url = None, home: talk.Home = None
) -> None:
    """Let the clocks go on from now; what they missed is not made up for."""
    _switch(False, as_json, url, home)


def _switch(paused: bool, as_json: bool, url: talk.Url, home: talk.Home) -> None:
    async def ask(client: Client) -> JSON:
        return await client.mutate(clock_documents.PAUSE_SCHEDULER, {"paused": paused})

    stands = talk.talk(url, home, ask)["paused"]
    if as_json:
        talk.print_json({"paused": stands})
    else:
        print("The scheduler is paused: no clock fires." if stands else "The clocks go on.")


def install(
    force: Annotated[
        bool, typer.Option("--force", help="Also jobs that have succeeded before.")
    ] = False,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Run the jobs with an install_step in their order, until one fails; status 1 if it did.

    Ctrl-C leaves the installation alone: it goes on by itself.
    """

    async def ask(client: Client) -> JSON:
        there: JSON = (await client.query(clock_documents.INSTALL, {"force": force}))["installRun"]
        told = 0
        while True:
            if not as_json:
                told = _tell(there["runs"], told)
            if there["done"]:
                return there
            await asyncio.sleep(LOOK_SECONDS)
            there = (await client.query(clock_documents.INSTALLATION))["installation"]

    there = talk.talk(url, home, ask)
    runs = [words.plain_ids(run) for run in there["runs"]]
    errors = there.get("errors") or []
    if errors and not runs:
        raise NomaflowError(Code(errors[0]["code"]), errors[0]["message"])
    if as_json:
        talk.print_json({"runs": runs})
    else:
        _end(runs, there.get("remaining"), errors)
    if any(run["status"] != "SUCCEEDED" for run in runs):
        raise typer.Exit(FAILED)


def _end(runs: list[JSON], left: list[str] | None, errors: list[JSON]) -> None:
    if not runs:
        talk.note("Nothing is to be installed.")
    elif left:
        talk.note(f"Not begun: {', '.join(left)}.")
    elif errors:
        talk.note(errors[0]["message"])


def _tell(runs: list[JSON], told: int) -> int:
    """Print each run once, when it is over; answers how many were."""
    over = [run for run in runs if run["status"] not in {"QUEUED", "RUNNING"}]
    for run in over[told:]:
        status = run["status"].lower()
        reason = (run["reason"] or "").removeprefix(f"{status}: ")
        why = f": {reason}" if reason else ""
        print(f"{run['jobName']} {status}{why}  {words.run_id(run['id'])}")
    return len(over)


@blackout.command("list")
def list_blackouts(
    as_json: talk.Json = False, url: talk.Url = None, home: talk.Home = None
) -> None:
    """List the blackouts that are in force or to come."""

    async def ask(client: Client) -> list[JSON]:
        found: list[JSON] = (await client.query(clock_documents.BLACKOUTS))["blackouts"]
        return found

    found = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(found)
    elif found:
        from nomaflow.cli import clock_tables

        clock_tables.print_blackouts(found)
    else:
        talk.note("There is no blackout.")


@blackout.command("set")
def set_blackout(
    name: BlackoutName,
    until: Annotated[str, typer.Option("--until", help="Until a time, or for so long: 2h, 1d.")],
    begin: Annotated[
        str | None, typer.Option("--from", help="From a time, or in so long; default: now.")
    ] = None,
    job: Annotated[
        list[str] | None,
        typer.Option("--job", help="A job, or a pattern such as 'report-*'; may be repeated."),
    ] = None,
    connector: Annotated[
        list[str] | None,
        typer.Option("--connector", help="Jobs that use this connector; may be repeated."),
    ] = None,
    postpone: Annotated[
        bool, typer.Option("--postpone", help="Fire what was due once when it is over.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Save it; without this, only tell what it would do.")
    ] = False,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Tell what a blackout would do; with --apply it is saved, too."""
    wanted = {
        "name": name,
        "from": moments.shown(moments.ahead(begin or "1s", "--from")),
        "until": moments.shown(moments.ahead(until, "--until")),
        "jobs": job or None,
        "connectors": connector or None,
        "action": "postpone" if postpone else "skip",
    }

    async def ask(client: Client) -> JSON:
        variables = {"input": wanted, "apply": apply}
        return await client.mutate(clock_documents.BLACKOUT_SET, variables)

    payload = talk.talk(url, home, ask)
    if as_json:
        talk.print_json({"effect": payload["effect"], "applied": payload["applied"]})
        return
    from nomaflow.cli import clock_tables

    clock_tables.print_effect(payload["effect"])
    if payload["applied"]:
        print(f"Blackout {name} is saved.")
    else:
        talk.note("Nothing is saved yet; say --apply to save it.")


@blackout.command("delete")
def delete_blackout(
    name: BlackoutName,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """End a blackout; one of calendars.toml is changed there."""

    async def ask(client: Client) -> JSON:
        return await client.mutate(clock_documents.BLACKOUT_DELETE, {"name": name})

    deleted = talk.talk(url, home, ask)["deleted"]
    if as_json:
        talk.print_json({"deleted": deleted})
    else:
        print(f"Blackout {deleted} is deleted.")
