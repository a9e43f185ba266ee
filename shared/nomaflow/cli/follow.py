"""Follows a run until it is over: a moving picture on a terminal, lines or NDJSON elsewhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live

from nomaflow.cli import documents, talk, timeline_view, words
from nomaflow.cli.timeline import Timeline
from nomaflow.errors import Code, NomaflowError
from nomaflow.outside.api_client import Client

SECONDS_BETWEEN_PICTURES = 0.1

JSON = dict[str, Any]


async def follow(client: Client, run: str, *, as_json: bool) -> Timeline:
    """Show the run from its first event to its last; gives what is then known of it."""
    console = talk.console()
    moving = console.is_terminal and not as_json and os.environ.get("TERM") != "dumb"
    stamp = words.clock if console.is_terminal else words.instant
    known = (await client.query(documents.RUN, {"run": run}))["run"]
    if known is None:
        raise NomaflowError(Code.NOT_FOUND, f"there is no run {run}")
    timeline = Timeline.of(known, stamp=stamp)
    async with aclosing(client.subscribe(documents.EVENTS, {"run": run})) as results:
        events = (data["runEvents"] async for data in results)
        if moving:
            await _picture(console, timeline, events)
        elif as_json:
            async for event in events:
                timeline.hear(event)
                talk.print_json(flat(event), line=True)
        else:
            async for event in events:
                for line in timeline.hear(event):
                    print(line, flush=True)
    return timeline


def flat(event: JSON) -> JSON:
    """Give an event as NDJSON has it: `type` first, plain run ids, one word for status."""
    named = {"type": event["__typename"]}
    for name, value in event.items():
        match name:
            case "__typename":
                pass
            case "runId":
                named["runId"] = words.run_id(value)
            case "stepStatus":
                named["status"] = value
            case _:
                named[name] = value
    return named


async def _picture(console: Console, timeline: Timeline, events: AsyncIterator[JSON]) -> None:
    def now() -> datetime:
        return datetime.now(UTC)

    async def paint(live: Live) -> None:
        while True:
            live.update(timeline_view.draw(timeline, now(), height=console.height), refresh=True)
            await asyncio.sleep(SECONDS_BETWEEN_PICTURES)

    with Live(console=console, auto_refresh=False) as live:
        painter = asyncio.create_task(paint(live))
        try:
            async for event in events:
                timeline.hear(event)
        finally:
            painter.cancel()
            live.update(timeline_view.draw(timeline, now()), refresh=True)
    console.print(timeline_view.verdict(timeline), soft_wrap=True)
