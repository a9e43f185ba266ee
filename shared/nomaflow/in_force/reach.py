"""Which connectors the job of a clock reaches for, kept by revision: reading a definition costs."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from nomaflow.in_force import definitions
from nomaflow.job import uses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from nomaflow.job.spec import JobSpec
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.job_pages import Outline
    from nomaflow.store.schedules import ScheduleRow

KEPT = 20_000
"""Clocks whose connectors are kept: a few names each, where a definition is thousands of words."""
TOGETHER = 100
"""Definitions read in one go."""

Key = tuple[Any, ...]
_known: OrderedDict[Key, tuple[str, ...]] = OrderedDict()


def of(spec: JobSpec, row: ScheduleRow) -> tuple[str, ...]:
    """Name the connectors that a definition reaches for when this clock fires it."""
    preset = spec.preset(row.preset) if row.preset else None
    return uses.connectors(spec, {**(preset.params if preset else {}), **row.params})


async def of_clocks(
    db: Connection | Database, clocks: Sequence[tuple[Outline, ScheduleRow]]
) -> dict[UUID, tuple[str, ...]]:
    """Name the connectors of many clocks, by the clock; nothing for what cannot be read."""
    found: dict[UUID, tuple[str, ...]] = {}
    unknown: list[tuple[Key, Outline, ScheduleRow]] = []
    for job, row in clocks:
        key = (job.id, job.revision, row.preset, to_json(row.params, fallback=str))
        if key in _known:
            _known.move_to_end(key)
            found[row.id] = _known[key]
        else:
            unknown.append((key, job, row))
    for some in _parts(unknown):
        keys = [(job.id, job.revision) for _, job, _ in some]
        specs = await definitions.of_revisions(db, keys)
        await asyncio.sleep(0)  # definitions were read; others wait for this thread
        for key, job, row in some:
            spec = specs[job.id, job.revision]
            if not isinstance(spec, Exception):
                found[row.id] = _known[key] = of(spec, row)
    while len(_known) > KEPT:
        _known.popitem(last=False)
    return found


def _parts(
    clocks: list[tuple[Key, Outline, ScheduleRow]],
) -> Iterator[list[tuple[Key, Outline, ScheduleRow]]]:
    left = iter(clocks)
    while some := list(islice(left, TOGETHER)):
        yield some
