"""Tables of fires ahead and of due times behind, for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.text import Text

from nomaflow.cli import tables, talk, words

JSON = dict[str, Any]

OUTCOMES = {
    "fired": "green",
    "caught_up": "green",
    "skipped": "yellow",
    "missed": "bold red",
    "waiting": "cyan",
    "postponed": "cyan",
}


def print_fires(found: list[JSON], now: datetime) -> None:
    """Print what is ahead: local time, the job's own, and what stands in the way."""
    console = talk.console()
    table = tables.table("HERE", "THERE", "JOB", "SCHEDULE", "NOTE")
    for fire in found:
        at, due_at = _at(fire["at"]), _at(fire["dueAt"])
        there = at.astimezone(ZoneInfo(fire["timezone"]))
        closed = fire["closed"]
        style = "dim" if closed else ""
        here = at.astimezone()
        table.add_row(
            Text(f"{here:%a %m-%d %H:%M:%S}", style=style),
            Text(_there(there, here, fire["timezone"]), style=style),
            Text(fire["job"], style=style or "bold"),
            Text(fire["schedule"], style=style),
            Text(closed or _note(fire, at, due_at), style="yellow" if not closed else "dim"),
        )
    tables.show(console, table)
    open_ones = [fire for fire in found if not fire["closed"]]
    count = "1 fire" if len(open_ones) == 1 else f"{len(open_ones)} fires"
    collide = sum(fire["collides"] for fire in found)
    first = f", the first {words.distance(_at(open_ones[0]['at']), now)}" if open_ones else ""
    closed_ones = len(found) - len(open_ones)
    closed = "1 is closed" if closed_ones == 1 else f"{closed_ones} are closed"
    talk.note(f"{count}{first}; {collide} collide{'s' if collide == 1 else ''}, {closed}.")


def _note(fire: JSON, at: datetime, due_at: datetime) -> str:
    said = []
    if fire["collides"]:
        said.append("collides")
    if at > due_at:
        said.append(f"due {due_at.astimezone():%H:%M:%S}, later by its jitter")
    return " · ".join(said)


def _there(there: datetime, here: datetime, zone: str) -> str:
    if there.utcoffset() == here.utcoffset():
        return zone
    return f"{there:%a %H:%M:%S} {zone}"


def print_slots(found: list[JSON]) -> None:
    """Print what became of due times: a line each, and why."""
    console = talk.console()
    table = tables.table("DUE", "JOB", "SCHEDULE", "OUTCOME", "RUN", "REASON")
    for slot in found:
        run = slot["run"]
        table.add_row(
            _due(slot),
            slot["job"],
            slot["schedule"],
            Text(slot["outcome"].replace("_", " "), style=OUTCOMES[slot["outcome"]]),
            f"{run['status'].lower()} {run['id']}" if run else "",
            _reason(slot),
        )
    tables.show(console, table)


def _due(slot: JSON) -> str:
    first = words.day_and_time(_at(slot["dueAt"]))
    if slot["until"] is None:
        return first
    last = words.day_and_time(_at(slot["until"]))
    return f"{first} to {last}, {words.number(slot['count'])} times"


def _reason(slot: JSON) -> str:
    said = [slot["reason"] or ""]
    if slot["lookAt"]:
        said.append(f"looked at again {words.day_and_time(_at(slot['lookAt']))}")
    if slot["waitsUntil"]:
        said.append(f"waits until {words.day_and_time(_at(slot['waitsUntil']))}")
    if slot["replay"]:
        said.append(f"replayed: {slot['replay']['status'].lower()} {slot['replay']['id']}")
    return " · ".join(part for part in said if part)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def print_blackouts(found: list[JSON]) -> None:
    """Print the blackouts, each with whom it stops."""
    table = tables.table("NAME", "FROM", "UNTIL", "STOPS", "ACTION", "BY")
    for one in found:
        stops = [*one["jobs"], *(f"users of {name}" for name in one["connectors"])]
        table.add_row(
            one["name"],
            words.day_and_time(_at(one["from"])),
            words.day_and_time(_at(one["until"])),
            " ".join(stops),
            one["action"],
            "calendars.toml" if one["origin"] == "file" else one["by"],
        )
    tables.show(talk.console(), table)


def print_effect(effect: JSON) -> None:
    """Print what a blackout would do: to whom, who else feels it, whose alert is at risk."""
    if effect["jobs"]:
        table = tables.table("JOB", "SCHEDULE", "SKIPPED", "POSTPONED", "FIRST", "FIRES AFTER")
        for one in effect["jobs"]:
            after = words.day_and_time(words.moment(one["firesAfter"]))
            table.add_row(
                one["job"],
                one["schedule"],
                words.number(one["skipped"]),
                words.number(one["postponed"]),
                words.day_and_time(_at(one["first"])),
                after or "never",
            )
        tables.show(talk.console(), table)
    for one in effect["dependants"]:
        print(f"{one['job']} depends on {', '.join(one['dependsOn'])}.")
    for one in effect["alertsAtRisk"]:
        print(f"{one['job']} would be stale: its alert allows {one['staleAfterHours']:g} hours.")
    at_least = "" if effect["exact"] else "at least "
    skipped, postponed = words.number(effect["skipped"]), words.number(effect["postponed"])
    print(f"{at_least}{skipped} due times would be skipped, {postponed} postponed.".capitalize())
