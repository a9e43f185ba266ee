"""`nomaflow watermark` and `nomaflow job retry-failed`: how far syncs came, what they left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow.cli import documents, jobs, listings, logs, run_options, talk, words

if TYPE_CHECKING:
    from nomaflow.outside.api_client import Client

JSON = dict[str, Any]
ALL = 1_000

watermark = typer.Typer(
    name="watermark", help="Show, set and forget how far jobs have come.", no_args_is_help=True
)

Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's name.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The watermark's name.")]


def register(app: typer.Typer) -> None:
    """Add `nomaflow watermark ...` and `nomaflow job retry-failed`."""
    app.add_typer(watermark, rich_help_panel=jobs.PANEL)
    jobs.job.command("retry-failed")(retry_failed)


@watermark.command("list")
def list_watermarks(
    job: Job,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """List the watermarks of a job: what `${state.<name>}` reads in its next run."""

    async def ask(client: Client) -> list[JSON]:
        found = (await client.query(documents.WATERMARKS, {"name": job}))["job"]
        if found is None:
            raise await logs.no_such_job(client, job)
        marks: list[JSON] = found["watermarks"]
        return [_plain(mark) for mark in marks]

    found = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(found)
    elif found:
        listings.print_watermarks(found)
    else:
        talk.note(f"{job} has no watermark yet.")


@watermark.command("set")
def set_watermark(
    job: Job,
    name: Name,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="What the next run reads.")],
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Set a watermark by hand: the next run reads from there."""
    _change(job, name, value, as_json, url, home)


@watermark.command("reset")
def reset_watermark(
    job: Job,
    name: Name,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Forget a watermark: the next run reads its default, as the first one did."""
    _change(job, name, None, as_json, url, home)


def _change(job: str, name: str, value: str | None, as_json: bool, url: Any, home: Any) -> None:
    async def ask(client: Client) -> list[JSON]:
        asked = {"job": job, "name": name, "value": value}
        payload = await client.mutate(documents.WATERMARK_SET, asked)
        marks: list[JSON] = payload["job"]["watermarks"]
        return [_plain(mark) for mark in marks]

    found = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(found)
    elif value is None:
        print(f"{job} has no watermark {name} any more; its next run reads the default.")
    else:
        print(f"{name} of {job} is {value}.")


def retry_failed(
    target: Annotated[
        str,
        typer.Argument(metavar="RUN", help="The run's id, or a job's name for all of its runs."),
    ],
    step: Annotated[str | None, typer.Option("--step", help="Only batches of this step.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1000, help="So many batches at most.")
    ] = 10,
    everything: Annotated[
        bool, typer.Option("--all", help="Up to 1000 batches, instead of --limit.")
    ] = False,
    following: run_options.Follow = False,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Write batches again that a sync could not write.

    Runs of their own do it, one for each failed run, from the items that were kept. They ask the
    API for nothing but pages that could not be fetched.
    """
    asked: JSON = {
        ("run" if words.is_run_id(target) else "job"): target,
        "step": step,
        "limit": ALL if everything else limit,
    }

    async def ask(client: Client) -> bool:
        payload = await client.mutate(documents.RETRY_FAILED, asked)
        runs = [words.plain_ids(run) for run in payload["runs"]]
        if as_json and not (following and runs):
            first = runs[0] if runs else None
            talk.print_json({"run": first, "runs": runs, "retried": payload["retried"]})
        elif not as_json:
            _tell(runs, payload["retried"])
        if not following:
            return True
        from nomaflow.cli.follow import follow

        ends = [(await follow(client, run["id"], as_json=as_json)).status for run in runs]
        return all(status == "SUCCEEDED" for status in ends)

    if not talk.talk(url, home, ask):
        raise typer.Exit(jobs.FAILED)


def _tell(runs: list[JSON], count: int) -> None:
    what = "1 batch" if count == 1 else f"{count} batches"
    match runs:
        case []:
            print("There is nothing to retry.")
        case [run]:
            print(f"Run {run['id']} of {run['jobName']} retries {what}.")
        case _:
            print(f"{len(runs)} runs of {runs[0]['jobName']} retry {what}, one after the other:")
            for run in runs:
                print(f"  {run['id']}")


def _plain(mark: JSON) -> JSON:
    return mark | {"run": words.plain_ids(mark["run"]) if mark["run"] else None}
