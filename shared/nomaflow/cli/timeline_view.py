"""Draws a run for a terminal: its steps with state, time and counts, its log's tail below."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nomaflow.cli import words
from nomaflow.cli.timeline import LogLine, Step, Timeline

BAR_WIDTH = 20
LONGEST_NAME = 40
SPINS_PER_SECOND = 10
TAIL = 8
ROOM_FOR_THE_REST = 6  # the head, the edges of the window, the empty lines


def draw(timeline: Timeline, now: datetime, *, height: int | None = None) -> RenderableType:
    """Draw the run as it is at `now`; `height` lines are there (None: all that is wanted)."""
    steps = list(timeline.steps.values())
    tail = list(timeline.tail)[-TAIL:] if height is not None else []
    before = after = 0
    if height is not None:
        room = max(height - ROOM_FOR_THE_REST - len(tail), 3)
        before, after = _window(steps, room)
    shown = steps[before : len(steps) - after]
    parts: list[RenderableType] = [_head(timeline, now), Text()]
    if before:
        parts.append(Text(f"  … {before} earlier steps", style="dim"))
    parts.append(_steps(shown, now))
    if after:
        parts.append(Text(f"  … {after} more steps", style="dim"))
    if tail:
        parts += [Text(), *(_log_line(line) for line in tail)]
    return Group(*parts)


def verdict(timeline: Timeline) -> Text:
    """Say how the run ended, with the whole error where there is one."""
    word = Text(timeline.status.lower(), style=words.STYLES[timeline.status])
    took = timeline.seconds(timeline.finished_at) if timeline.finished_at else None
    text = Text.assemble(
        f"{timeline.job} ", word, f" after {words.duration(took)}" if took is not None else ""
    )
    step = timeline.failed_step
    if step is not None and step.error:
        return text.append(f"\n{step.name}: {step.error}")
    if timeline.status != "SUCCEEDED" and (why := timeline.error or timeline.reason):
        said = why.removeprefix(f"{timeline.status.lower()}: ")
        text.append(f" · {said}")
    return text


def _head(timeline: Timeline, now: datetime) -> Text:
    status = timeline.status
    facts = [timeline.triggered_by, timeline.run]
    if timeline.dry_run:
        facts.insert(0, "dry run")
    elapsed = timeline.seconds(now)
    return Text.assemble(
        (timeline.job, "bold"),
        "  ",
        (_mark(status, now), words.STYLES[status]),
        " ",
        (status.lower(), words.STYLES[status]),
        f"  {words.duration(elapsed)}" if elapsed is not None else "",
        ("  " + " · ".join(facts), "dim"),
        overflow="fold",
    )


def _steps(steps: list[Step], now: datetime) -> Table:
    def widest(texts: list[str]) -> int:
        return min(max(map(len, texts), default=0), LONGEST_NAME)

    # Fixed widths: a long account takes nothing from the names before it.
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=3, justify="right", no_wrap=True)
    table.add_column(width=widest([step.name for step in steps]), no_wrap=True)
    table.add_column(width=widest([step.type for step in steps]), no_wrap=True, style="dim")
    table.add_column(width=9, justify="right", no_wrap=True)
    table.add_column(ratio=1, no_wrap=True)
    for step in steps:
        style = words.STYLES[step.status]
        table.add_row(
            Text(_mark(step.status, now), style=style),
            Text(step.name, style="dim" if step.status in {"PENDING", "SKIPPED"} else ""),
            step.type,
            words.duration(step.seconds(now)),
            _detail(step),
        )
    return table


def _detail(step: Step) -> RenderableType:
    attempt = f"attempt {step.attempt} · " if step.attempt > 1 else ""
    if step.status == "RUNNING" and step.progress is not None:
        sentence = Text(attempt + step.progress.sentence(), overflow="ellipsis", no_wrap=True)
        if step.progress.total is None:
            return sentence
        row = Table.grid(padding=(0, 1, 0, 0))
        done = min(step.progress.done, step.progress.total)
        row.add_row(ProgressBar(step.progress.total, done, BAR_WIDTH), sentence)
        return row
    first_line = step.account().partition("\n")[0]
    if step.status in {"PENDING", "RUNNING", "SUCCEEDED"}:
        return Text(attempt + first_line)
    word = step.status.lower()
    said = first_line if first_line.startswith(word) else f"{word}: {first_line}"
    return Text(attempt + (said if first_line else word), style=words.STYLES[step.status])


def _mark(status: str, now: datetime) -> str:
    if status == "RUNNING":
        return words.SPINNER[int(now.timestamp() * SPINS_PER_SECOND) % len(words.SPINNER)]
    return words.MARKS[status]


def _log_line(line: LogLine) -> Text:
    return Text.assemble(
        (f"  {words.clock(line.at)} ", "dim"),
        (f"{line.level:<7}", words.STYLES[line.level]),
        (f" {line.step}: " if line.step else " ", "dim"),
        line.message.partition("\n")[0],
        no_wrap=True,
        overflow="ellipsis",
    )


def _window(steps: list[Step], room: int) -> tuple[int, int]:
    """Choose how many steps to leave out above and below, so that the running one is in sight."""
    if len(steps) <= room:
        return 0, 0
    current = next((i for i, step in enumerate(steps) if not step.is_over), len(steps) - 1)
    start = min(max(current - room // 2, 0), len(steps) - room)
    return start, len(steps) - room - start
