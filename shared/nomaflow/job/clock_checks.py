"""What is wrong with a job's clocks, and with the jobs it depends on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nomaflow.clock import dependencies, schedule
from nomaflow.errors import Code, NomaflowError
from nomaflow.job import circles
from nomaflow.job.problems import Path, Problem, did_you_mean
from nomaflow.job.tables import shown, tables, token_problems

_JOB_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


def of_clocks(job: Mapping[str, Any]) -> Iterator[Problem]:
    """Look at every clock, those of presets included."""
    yield from _zone(job.get("timezone"), ("timezone",))
    for at, clock in tables(job, "schedules"):
        path = ("schedules", str(at))
        if clock.get("timezone") != job.get("timezone"):
            yield from _zone(clock.get("timezone"), (*path, "timezone"))
        cron = clock.get("cron")
        if (cron is None) == (clock.get("every_seconds") is None):
            name = clock.get("name", at + 1)
            yield Problem(path, f"schedule `{name}` needs either `cron` or `every`")
        elif isinstance(cron, str):
            yield from _cron(cron, (*path, "cron"))
        yield from token_problems(clock.get("params"), (*path, "params"), "")
        yield from _preset_of(clock, job, path)
    yield from _preset_clocks(job)


def _preset_of(clock: Mapping[str, Any], job: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    named = clock.get("preset")
    known = [part.get("name") for _, part in tables(job, "presets")]
    if isinstance(named, str) and named not in known:
        hint = did_you_mean(named, filter(None, known))
        whose = f"schedule `{clock.get('name')}`"
        yield Problem((*path, "preset"), f"{whose}: there is no preset {shown(named)}{hint}")


def _preset_clocks(job: Mapping[str, Any]) -> Iterator[Problem]:
    """A preset with a cron is a clock of that name, so it may not have another one's."""
    taken = [clock.get("name") for _, clock in tables(job, "schedules")]
    for at, preset in tables(job, "presets"):
        path, cron, name = ("presets", str(at)), preset.get("schedule"), preset.get("name")
        yield from _zone(preset.get("timezone"), (*path, "timezone"))
        if not isinstance(cron, str):
            continue
        yield from _cron(cron, (*path, "schedule"))
        if name in taken:
            yield Problem(
                (*path, "name"),
                f"preset `{name}` has a schedule, and there is a schedule of the same name; rename "
                "one of them",
            )


def _cron(text: str, path: Path) -> Iterator[Problem]:
    try:
        schedule.parse(text)
    except NomaflowError as error:
        yield Problem(path, error.message)


def of_dependencies(job: Mapping[str, Any]) -> Iterator[Problem]:
    """Look at `depends_on`; whether the jobs are there is the catalogue's business."""
    seen: set[str] = set()
    for at, one in tables(job, "depends_on"):
        path, other = ("depends_on", str(at)), one.get("job")
        if isinstance(other, str):
            if other == job.get("name"):
                circle = circles.in_words((other, other))
                message = f"a job may not depend on itself: {circle}"
                yield Problem((*path, "job"), message, Code.CYCLE)
            elif not _JOB_NAME.fullmatch(other):
                message = f"`job` {shown(other)} must be 1 to 128 letters, digits, `-` or `_`"
                yield Problem((*path, "job"), message)
            elif other in seen:
                yield Problem((*path, "job"), f"`{other}` is named twice; keep one")
            seen.add(other)
        for key, read in (("since", dependencies.read_since), ("by", dependencies.read_by)):
            if isinstance(one.get(key), str):
                try:
                    read(one[key])
                except NomaflowError as error:
                    yield Problem((*path, key), error.message)


def _zone(name: Any, path: Path) -> Iterator[Problem]:
    if isinstance(name, str):
        try:
            schedule.zone(name)
        except NomaflowError as error:
            yield Problem(path, error.message)
