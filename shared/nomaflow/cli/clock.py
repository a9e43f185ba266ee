"""`nomaflow schedule` and `nomaflow slots`: what is ahead of all jobs, and what became of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow.cli import clock_documents, moments, talk, words

if TYPE_CHECKING:
    from nomaflow.outside.api_client import Client

JSON = dict[str, Any]
PANEL = "Time"
LONGEST_DAYS = 92

schedule = typer.Typer(name="schedule", invoke_without_command=True)

Jobs = Annotated[
    list[str] | None,
    typer.Option("--job", metavar="NAME", help="Only this job; may be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(schedule, rich_help_panel=PANEL)
    app.command("slots", rich_help_panel=PANEL)(slots)


@schedule.callback()
def ahead(
    context: typer.Context,
    days: Annotated[
        int, typer.Option("--days", min=1, max=LONGEST_DAYS, help="So many days ahead.")
    ] = 1,
    job: Jobs = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Show the coming day of all jobs: what fires when, what collides, what is closed and why."""
    if context.invoked_subcommand is not None:
        return
    now = datetime.now(UTC)
    until = now + timedelta(days=days)
    wanted = {"since": moments.shown(now), "until": moments.shown(until), "jobs": job}

    from nomaflow.cli import pages

    async def ask(client: Client) -> list[JSON]:
        fires = await pages.read(client, clock_documents.CALENDAR, "calendar", wanted, longest=500)
        await _need_jobs(client, job, fires)
        return fires

    found = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(found)
    elif found:
        from nomaflow.cli import clock_tables

        clock_tables.print_fires(found, now)
    else:
        talk.note("Nothing fires in that time.")


@schedule.command("preview")
def preview(
    cron: Annotated[
        str, typer.Argument(metavar="CRON", help='An expression such as "0 2 * * *", or 90m.')
    ],
    timezone: Annotated[str, typer.Option("--timezone", "-z", help="Its IANA zone.")] = "UTC",
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="So many fires.")] = 5,
    as_json: talk.Json = False,
) -> None:
    """Show when an expression would fire, and what it says; asks no API."""
    from nomaflow.clock import schedule as clocks

    start = datetime.now(UTC)
    if (seconds := _interval(cron)) is not None:
        said = clocks.describe_interval(seconds)
        fires = [start + timedelta(seconds=seconds) * n for n in range(1, count + 1)]
        remarks: list[str] = []
    else:
        parsed = clocks.parse(cron)
        said = parsed.describe()
        fires = clocks.upcoming(cron, timezone, start, count)
        remarks = [note for at in fires if (note := parsed.remark(at, timezone))]
    if as_json:
        facts = {"description": said, "fires": [words.instant(at) for at in fires]}
        talk.print_json({**facts, "remarks": remarks})
        return
    print(said)
    for at in fires:
        local = at.astimezone(clocks.zone(timezone))
        print(f"  {local:%a %Y-%m-%d %H:%M:%S} {local:%Z}  {words.instant(at)}")
    for remark in remarks:
        talk.note(f"Note: {remark}.")


@schedule.command("enable")
def enable(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's name.")],
    name: Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its schedule's name.")],
    reset_count: Annotated[
        bool,
        typer.Option("--reset-count", help="Count fires from 0 again; fire_on_start fires."),
    ] = False,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Switch one schedule of a job on; it goes on from now."""
    _switch(job, name, True, reset_count, as_json, url, home)


@schedule.command("disable")
def disable(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's name.")],
    name: Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its schedule's name.")],
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Switch one schedule of a job off; its others go on."""
    _switch(job, name, False, False, as_json, url, home)


def slots(
    job: Jobs = None,
    since: Annotated[
        str, typer.Option("--since", help="Since a time, or so long ago: 24h, 7d.")
    ] = "24h",
    until: Annotated[
        str | None, typer.Option("--until", help="Until a time, or so long ago; default: now.")
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            "--outcome",
            help="Only fired, caught_up, skipped, missed, waiting or postponed; may be repeated.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")
    ] = 1000,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Show what became of each due time, and why something did not run."""
    end = moments.before(until, "--until") if until else datetime.now(UTC)
    wanted = {
        "since": moments.shown(moments.before(since, "--since")),
        "until": moments.shown(end),
        "jobs": job,
        "outcomes": outcome,
    }

    from nomaflow.cli import pages

    async def ask(client: Client) -> tuple[list[JSON], bool]:
        rows, more = await pages.read_last(client, clock_documents.SLOTS, "slots", wanted, limit)
        await _need_jobs(client, job, rows)
        return rows, more

    found, more = talk.talk(url, home, ask)
    for run in (slot[name] for slot in found for name in ("run", "replay") if slot[name]):
        run["id"] = words.run_id(run["id"])
    if as_json:
        talk.print_json(found)
    elif found:
        from nomaflow.cli import clock_tables

        clock_tables.print_slots(found)
    else:
        talk.note("Nothing was due in that time.")
    if more:
        talk.note(
            f"Earlier ones are left out; these are the newest {len(found)}. "
            "--limit shows more, --job or --outcome fewer."
        )


async def _need_jobs(client: Client, names: list[str] | None, found: list[JSON]) -> None:
    """Refuse names of no job: nothing found must not read as nothing due."""
    from nomaflow.cli import logs

    seen = {each["job"] for each in found}
    for name in names or ():
        if name not in seen:
            await logs.need_job(client, name)


def _switch(
    job: str,
    name: str,
    enabled: bool,
    reset_count: bool,
    as_json: bool,
    url: talk.Url,
    home: talk.Home,
) -> None:
    wanted = {"job": job, "schedule": name, "enabled": enabled, "resetCount": reset_count}

    async def ask(client: Client) -> JSON:
        payload = await client.mutate(clock_documents.SWITCH, wanted)
        clocks: list[JSON] = payload["job"]["schedules"]
        return next(clock for clock in clocks if clock["name"] == name)

    clock = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(clock)
    elif not clock["enabled"]:
        print(f"Schedule {name} of {job} is off.")
    else:
        at = words.day_and_time(words.moment(clock["nextFireAt"]))
        told = f"it fires next {at}" if at else "it does not fire now"
        print(f"Schedule {name} of {job} is on; {told}.")


def _interval(text: str) -> float | None:
    from nomaflow.clock import schedule as clocks

    return clocks.every_seconds(text) if clocks.is_interval(text) else None
