"""The three modes of a copy, each one ending in a single commit at the target."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from nomaflow.errors import StepError
from nomaflow.steps.copying.naming import listed
from nomaflow.steps.copying.orders import Changes, Limits, Outcome, Passed
from nomaflow.steps.copying.postgres import (
    apply,
    bare,
    catalog,
    columns,
    creation,
    guard,
    reading,
    sequences,
    stashes,
    streams,
    swap,
)
from nomaflow.steps.copying.postgres.apply import Stash
from nomaflow.steps.copying.postgres.catalog import Table
from nomaflow.steps.copying.postgres.load import Load
from nomaflow.steps.copying.postgres.passage import Into
from nomaflow.steps.copying.postgres.streams import Lane

_WORTH_ANALYZING = 0.1
_WRITERS_SECONDS = 600.0
_LANE_LOCK_MS = 10_000


@dataclass(frozen=True, slots=True)
class Work:
    """A copy that is about to run."""

    load: Load
    schema: str
    name: str
    mapping: Mapping[str, str]
    limits: Limits

    @property
    def shown(self) -> str:
        return f"{self.schema}.{self.name}"


async def append(work: Work, table: Table) -> Outcome:
    """Add the source's rows to the target's, all or none."""
    load = work.load
    wanted = await load.streams_for(stashed=False)
    async with (
        streams.lanes(load.ctx, load.origin, load.target, wanted) as lanes,
        load.target.transaction(),
        _together(lanes[1:]),
    ):
        passed = await load.fill(Into(table.schema, table.name, load.names), lanes)
        _check(work, passed)
        await _advance(load, table)
    path = "append" if len(lanes) == 1 else f"append in {len(lanes)} streams"
    return Outcome(passed, path, Changes(inserted=passed.written))


@asynccontextmanager
async def _together(lanes: Sequence[Lane]) -> AsyncIterator[None]:
    """A transaction on every further lane, each kept only once all rows have arrived."""
    async with AsyncExitStack() as stack:
        for lane in lanes:
            await stack.enter_async_context(lane.target.transaction())
            connection = await lane.target.raw()
            with lane.target.translated():
                # Two streams with one key would wait for each other for ever.
                await connection.execute(f"SET LOCAL lock_timeout = '{_LANE_LOCK_MS}ms'")
        yield
        for lane in lanes:
            connection = await lane.target.raw()
            with lane.target.translated():
                # What is checked at the commit is checked before the first of them.
                await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")


async def upsert(work: Work, table: Table) -> Outcome:
    """Insert or update by the target's primary key, all or none."""
    async with _stashed(work, table) as (stash, passed):
        load = work.load
        async with load.target.transaction():
            changes = await apply.upsert(load.target, table, stash)
            await _advance(load, table)
    return Outcome(passed, "upsert", changes)


async def overwrite(work: Work, table: Table) -> Outcome:
    """Let the target hold exactly the source's rows; readers see the old or the new, never less.

    In place unless a new table would lose nothing and most rows change.
    """
    load = work.load
    reason = await reason_to_stay(work, table)
    if reason is None:
        return await _renamed(work, table)
    load.ctx.log.debug(f"{work.shown} is changed in place: {reason}")
    async with _stashed(work, table) as (stash, passed):
        async with load.target.transaction():
            changes = await _in_place(work, table, stash)
        await _analyze(load, table, changes, stash)
    return Outcome(passed, "in_place", changes)


async def reason_to_stay(work: Work, table: Table) -> str | None:
    """A word for why an overwrite changes the target in place; None when it may be replaced."""
    load = work.load
    if work.limits.max_delete is not None:
        return "max_delete"
    if load.one_server:
        return "one server"
    with load.target.translated():
        return await bare.reason_to_stay(await load.target.raw(), table)


async def create(work: Work) -> Outcome:
    """Make the target in the source's likeness and fill it, visible only when it is whole."""
    load = work.load
    connection = await load.target.raw()
    async with load.target.transaction():
        with load.target.translated():
            await creation.create(connection, work.schema, work.name, load.reading, work.mapping)
            table = await catalog.table(connection, work.schema, work.name)
        if table is None:
            raise StepError(f"the table {work.shown} vanished while it was made")
        pairs = columns.match(load.reading.columns, table, work.mapping, load.reading.shown)
        load = await load.paired(pairs, same_database=load.one_server)
        frozen = not load.one_server
        passed = await load.fill(Into(table.schema, table.name, load.names, frozen=frozen))
        _check(work, passed)
        with load.target.translated():
            await connection.execute(f"ANALYZE {table.sql}")
    return Outcome(passed, "created", Changes(inserted=passed.written))


async def _renamed(work: Work, table: Table) -> Outcome:
    load = work.load
    connection = await load.target.raw()
    async with load.target.transaction():
        with load.target.translated():
            twin = await swap.make_twin(connection, table)
        passed = await load.fill(Into(table.schema, twin.name, load.names, frozen=True))
        _check(work, passed)
        stash = Stash(twin.sql, load.names, passed.written)
        with load.target.translated():
            same = await swap.is_mostly_the_same(connection, table, stash)
        if not same and await swap.take_place(load.target, table, twin):
            changes = Changes(inserted=passed.written)
            return Outcome(passed, "renamed", changes)
        changes = await _in_place(work, table, stash)
        with load.target.translated():
            await connection.execute(f"DROP TABLE {twin.sql}")
    return Outcome(passed, "in_place", changes)


@asynccontextmanager
async def _stashed(work: Work, table: Table) -> AsyncIterator[tuple[Stash, Passed]]:
    """The rows in a table of their own, beside the target."""
    wanted = await work.load.streams_for(stashed=True)
    if wanted > 1 and await stashes.may_share(work.load.target, table):
        async with stashes.shared(work.load, table, wanted) as (stash, passed):
            _check(work, passed)
            yield stash, passed
        return
    async with stashes.own(work.load, table) as (stash, passed):
        _check(work, passed)
        yield stash, passed


async def _in_place(work: Work, table: Table, stash: Stash) -> Changes:
    """Within the target's transaction: other writers wait, readers do not."""
    load = work.load
    connection = await load.target.raw()
    if not await guard.lock(
        load.target,
        table.sql,
        "SHARE ROW EXCLUSIVE",
        wait_ms=guard.WRITERS_WAIT_MS,
        seconds=_WRITERS_SECONDS,
    ):
        raise StepError(f"{work.shown} stayed locked by others for {_WRITERS_SECONDS:g} s")
    with load.target.translated():
        before = 0
        if work.limits.max_delete is not None:
            before = await connection.fetchval(f"SELECT count(*) FROM {table.sql}")
        if key := table.row_key(stash.columns):
            # All the join of both tables asks the planner; other columns cost time only.
            await connection.execute(f"ANALYZE {stash.sql} ({listed(key)})")
    changes = await apply.replace_content(load.target, table, stash)
    vanished = changes.deleted
    if not key:
        vanished = max(0, changes.deleted - changes.inserted)
    work.limits.check_deleted(vanished, before, work.shown)
    await _advance(load, table)
    if work.limits.check_rows:
        await _check_target(load, table, stash)
    return changes


async def _check_target(load: Load, table: Table, stash: Stash) -> None:
    rows = await reading.rows_of(load.target, table)
    if rows != stash.rows:
        raise StepError(
            f"{stash.rows} rows were copied and {table.shown} then held {rows}: a trigger, rule or "
            "policy of the target changed them; nothing was kept"
        )


def _check(work: Work, passed: Passed) -> None:
    work.limits.check_passed(passed, work.load.reading.shown, work.shown)
    if not passed.read:
        work.load.ctx.log.warning(f"the source ({work.load.reading.shown}) has no rows")


async def _advance(load: Load, table: Table) -> None:
    connection = await load.target.raw()
    with load.target.translated():
        await sequences.advance(connection, table, load.names, load.ctx.log)


async def _analyze(load: Load, table: Table, changes: Changes, stash: Stash) -> None:
    """The planner's statistics, when much has changed; autovacuum sees to the rest."""
    if changes.total > stash.rows * _WORTH_ANALYZING:
        connection = await load.target.raw()
        with load.target.translated():
            await connection.execute(f"ANALYZE {table.sql}")
