"""Tables of jobs and of runs, for people; nothing is cut where a program reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from nomaflow.cli import tables, talk, words

JSON = dict[str, Any]


def print_jobs(found: list[JSON]) -> None:
    console = talk.console()
    now = datetime.now(UTC)
    table = tables.table("JOB", "SCHEDULE", "NEXT", "LAST RUN", "STEPS", "TAGS")
    for each in found:
        last = each["lastRun"]
        table.add_row(
            Text(each["name"], style="bold" if each["enabled"] else "dim"),
            _clocks(each),
            _when(each["nextFireAt"], now, relative=console.is_terminal),
            _status(last, now, relative=console.is_terminal) if last else "never",
            str(len(each["steps"])),
            " ".join(each["tags"]),
        )
    tables.show(console, table)


def print_runs(runs: list[JSON]) -> None:
    console = talk.console()
    now = datetime.now(UTC)
    table = tables.table("RUN", "STATUS", "QUEUED", "TOOK", "ROWS", "TRIGGERED BY", "REASON")
    for run in runs:
        rows = run["rowsAffected"]
        table.add_row(
            run["id"],
            Text(run["status"].lower(), style=words.STYLES[run["status"]]),
            _when(run["queuedAt"], now, relative=False),
            words.duration(run["durationSeconds"]),
            words.number(int(rows)) if rows is not None else "",
            run["triggeredBy"],
            _why(run),
        )
    tables.show(console, table)


def print_watermarks(marks: list[JSON]) -> None:
    console = talk.console()
    now = datetime.now(UTC)
    table = tables.table("WATERMARK", "VALUE", "MOVED", "BY")
    for mark in marks:
        moved = _when(mark["updatedAt"], now, relative=console.is_terminal)
        by = f"run {mark['run']['id']}" if mark["run"] else "hand"
        table.add_row(mark["name"], mark["value"], moved, by)
    tables.show(console, table)


def print_connectors(found: list[JSON]) -> None:
    console = talk.console()
    now = datetime.now(UTC)
    table = tables.table("CONNECTOR", "KIND", "FROM", "LAST TEST", "JOBS")
    for each in found:
        test = each["lastTest"]
        tested: Text | str = "never"
        if test:
            when = _when(test["at"], now, relative=console.is_terminal)
            tested = Text.assemble(_colour(test), f" {when}")
        origin = "connectors.toml" if each["origin"] == "FILE" else "the API"
        origin = "this installation" if each["name"] == "default" else origin
        table.add_row(each["name"], each["kind"], origin, tested, " ".join(each["jobs"]))
    tables.show(console, table)


def print_connector_tests(tests: list[JSON]) -> None:
    console = talk.console()
    table = tables.table("CONNECTOR", "TEST", "TOOK", "WHAT IT SAID")
    for test in tests:
        took = words.duration(test["milliseconds"] / 1000)
        table.add_row(test["name"], Text.assemble(_colour(test)), took, test["message"])
    tables.show(console, table)


def _colour(test: JSON) -> tuple[str, str]:
    return ("green", "green") if test["ok"] else ("red", "red")


def _why(run: JSON) -> str:
    """Say why a run is where it is, what it waits for, and how often a worker died under it."""
    if run["waitingFor"]:
        said = [f"waits for {run['waitingFor']}"]
    else:
        said = [run["reason"]] if run["reason"] else []
    if run["status"] == "RUNNING" and run["abortRequestedBy"]:
        said.append(f"{run['abortRequestedBy']} asked to abort it")
    if count := run["interruptions"]:
        said.append("interrupted once" if count == 1 else f"interrupted {count} times")
    if run["replayOf"]:
        said.append(f"again, after {run['replayOf']['id']}")
    return " · ".join(said)


def _clocks(job: JSON) -> str:
    """Say a job's clocks, or what keeps all of them from firing."""
    if not job["enabled"]:
        return "off"
    until = words.day_and_time(words.moment(job["pausedUntil"]))
    return f"paused until {until}" if until else _schedules(job["schedules"])


def _schedules(schedules: list[JSON]) -> str:
    def one(each: JSON) -> str:
        if each["cron"]:
            return f"{each['cron']} {each['timezone']}"
        return f"every {words.duration(each['everySeconds'])}"

    return ", ".join(one(each) for each in schedules if each["enabled"]) or "manual"


def _when(text: str | None, now: datetime, *, relative: bool) -> str:
    at = words.moment(text)
    if at is None:
        return ""
    return words.distance(at, now) if relative else words.day_and_time(at)


def _status(run: JSON, now: datetime, *, relative: bool) -> Text:
    when = _when(run["finishedAt"] or run["startedAt"] or run["queuedAt"], now, relative=relative)
    word = run["status"].lower()
    return Text.assemble((word, words.STYLES[run["status"]]), f" {when}")
