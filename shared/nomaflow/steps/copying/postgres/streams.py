"""Several streams of one copy: ranges of the source's pages, read in one exported snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.base import StepRunContext
from nomaflow.steps.copying.postgres.reading import TEXT_FORMS, Reading, filled

Streams = Literal["auto", 1, 2, 4]

PAYS_FROM_BYTES = 512_000_000
"""A smaller table is over before a second stream has made up for its connections."""

WAIT_SECONDS = 2.0
"""How long a further connection is waited for before one stream has to do."""

_RANGES_BY_CTID = 14  # PostgreSQL 14 reads a range of ctid without reading the rest


@dataclass(frozen=True, slots=True)
class Lane:
    """One stream's two connections."""

    source: PostgresConnector
    target: PostgresConnector


async def wanted(
    asked: Streams, source: PostgresConnector, reading: Reading, *, stashed: bool
) -> int:
    """How many streams to use; `auto` takes two for a big table that goes into a stash."""
    if asked == 1 or reading.table is None or reading.table.kind != "r":
        return 1
    connection = await source.raw()
    if connection.get_server_version().major < _RANGES_BY_CTID:
        return 1
    if asked != "auto":
        return asked
    if not stashed:
        return 1
    with source.translated():
        size = await connection.fetchval("SELECT pg_relation_size($1::oid)", reading.table.oid)
    return 2 if size >= PAYS_FROM_BYTES else 1


@asynccontextmanager
async def lanes(
    ctx: StepRunContext, source: PostgresConnector, target: PostgresConnector, streams: int
) -> AsyncIterator[tuple[Lane, ...]]:
    """The connections of each stream; only the given ones where no others are to be had."""
    found = [Lane(source, target)]
    async with AsyncExitStack() as stack:
        for _ in range(streams - 1):
            more = [await _another(ctx, end.name, stack) for end in (source, target)]
            if more[0] is None or more[1] is None:
                ctx.log.info(f"no connection is free for another stream; {len(found)} will do")
                break
            found.append(Lane(more[0], more[1]))
        yield tuple(found)


async def _another(
    ctx: StepRunContext, name: str, stack: AsyncExitStack
) -> PostgresConnector | None:
    opened: SqlConnector = await ctx.sql(name)
    stack.push_async_callback(opened.close)
    if not isinstance(opened, PostgresConnector):
        return None
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            connection = await opened.raw()
    except (TimeoutError, StepError):
        return None
    with opened.translated():
        await connection.execute(TEXT_FORMS)
    return opened


@asynccontextmanager
async def another(ctx: StepRunContext, name: str) -> AsyncIterator[PostgresConnector | None]:
    """One more connection of a connector for a while; None where none is to be had."""
    async with AsyncExitStack() as stack:
        yield await _another(ctx, name, stack)


@asynccontextmanager
async def snapshots(lanes: Sequence[Lane], reading: Reading) -> AsyncIterator[tuple[str, ...]]:
    """One read-only snapshot, seen through every lane; gives each lane's FROM clause."""
    blocks: list[Any] = []
    try:
        name: str | None = None
        for lane in lanes:
            connection = await lane.source.raw()
            with lane.source.translated():
                block = connection.transaction(isolation="repeatable_read", readonly=True)
                await block.start()
                blocks.append(block)
                if name is not None:
                    await connection.execute(f"SET TRANSACTION SNAPSHOT '{name}'")
                elif len(lanes) > 1:
                    name = await connection.fetchval("SELECT pg_export_snapshot()")
        bounds = await _bounds(lanes, reading)
        yield tuple(
            [
                await filled(lane.source, reading) + bound
                for lane, bound in zip(lanes, bounds, strict=True)
            ]
        )
    except BaseException:
        # A COPY that was stopped half-way leaves the driver waiting for an answer that may have
        # come already; the connections are not used again.
        for lane in lanes:
            lane.source.spoil()
        raise
    for lane, block in zip(lanes, blocks, strict=True):
        with lane.source.translated():
            await block.commit()


async def _bounds(lanes: Sequence[Lane], reading: Reading) -> list[str]:
    """The condition that gives each lane its share of the table's pages."""
    if len(lanes) == 1 or reading.table is None:
        return [""]
    source = lanes[0].source
    connection = await source.raw()
    with source.translated():
        pages = await connection.fetchval(
            "SELECT pg_relation_size($1::oid) / current_setting('block_size')::bigint",
            reading.table.oid,
        )
    word = "AND" if reading.has_condition else "WHERE"
    cuts = [pages * number // len(lanes) for number in range(1, len(lanes))]
    starts = [None, *cuts]
    ends = [*cuts, None]
    found = []
    for start, end in zip(starts, ends, strict=True):
        low = [] if start is None else [f"ctid >= '({start},0)'::tid"]
        high = [] if end is None else [f"ctid < '({end},0)'::tid"]
        found.append(f"\n{word} " + " AND ".join([*low, *high]))
    return found
