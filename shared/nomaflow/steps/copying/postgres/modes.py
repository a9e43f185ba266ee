"""The three modes of a copy, each one ending in a single commit at the target."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from nomaflow.errors import StepError
from nomaflow.steps.copying.postgres import (
    apply,
    bare,
    catalog,
    columns,
    creation,
    guard,
    reading,
    sequences,
    swap,
)
from nomaflow.steps.copying.postgres.apply import Changes, Stash
from nomaflow.steps.copying.postgres.catalog import Table
from nomaflow.steps.copying.postgres.load import Load
from nomaflow.steps.copying.naming import listed, quoted
from nomaflow.steps.copying.postgres.passage import Into, Passed

_STASH = "nomaflow_stash"
_STASH_SQL = f"pg_temp.{quoted(_STASH)}"
_WORTH_ANALYZING = 0.1
_WRITERS_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold before a copy is kept."""

    min_rows: int
    max_delete: str | int | None
    check_rows: bool


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a copy did; `path` says how the rows became visible."""

    source_rows: int
    target_rows: int
    path: str
    changes: Changes


async def append(work: Work, table: Table) -> Outcome:
    """Add the source's rows to the target's, all or none."""
    load = work.load
    async with load.target.transaction():
        passed = await load.fill(Into(table.schema, table.name, load.names))
        _check(work, passed)
        await _advance(load, table)
    return Outcome(passed.read, passed.written, "append", Changes(inserted=passed.written))


async def upsert(work: Work, table: Table) -> Outcome:
    """Insert or update by the target's primary key, all or none."""
    async with _stashed(work, table) as (stash, passed):
        load = work.load
        async with load.target.transaction():
            changes = await apply.upsert(load.target, table, stash)
            await _advance(load, table)
    return Outcome(passed.read, passed.written, "upsert", changes)


async def overwrite(work: Work, table: Table) -> Outcome:
    """Let the target hold exactly the source's rows; readers see the old or the new, never less.

    In place unless a new table would lose nothing and most rows change.
    """
    load = work.load
    reason = "one server" if load.one_server else None
    if work.limits.max_delete is not None:
        reason = "max_delete"
    if reason is None:
        with load.target.translated():
            reason = await bare.reason_to_stay(await load.target.raw(), table)
    if reason is None:
        return await _renamed(work, table)
    load.ctx.log.debug(f"{work.shown} is changed in place: {reason}")
    async with _stashed(work, table) as (stash, passed):
        async with load.target.transaction():
            changes = await _in_place(work, table, stash)
        await _analyze(load, table, changes, stash)
    return Outcome(passed.read, stash.rows, "in_place", changes)


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
    return Outcome(passed.read, passed.written, "created", Changes(inserted=passed.written))


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
            return Outcome(passed.read, passed.written, "renamed", changes)
        changes = await _in_place(work, table, stash)
        with load.target.translated():
            await connection.execute(f"DROP TABLE {twin.sql}")
    return Outcome(passed.read, stash.rows, "in_place", changes)


@asynccontextmanager
async def _stashed(work: Work, table: Table) -> AsyncIterator[tuple[Stash, Passed]]:
    """The rows in a temporary table of the connection, which no crash can leave behind."""
    load = work.load
    connection = await load.target.raw()
    async with load.target.transaction():
        with load.target.translated():
            await connection.execute(f"DROP TABLE IF EXISTS {_STASH_SQL}")
            await connection.execute(
                f"CREATE TEMPORARY TABLE {quoted(_STASH)} AS "
                f"SELECT {listed(load.names)} FROM {table.sql} WITH NO DATA"
            )
        passed = await load.fill(Into("pg_temp", _STASH, load.names))
        _check(work, passed)
    yield Stash(_STASH_SQL, load.names, passed.written), passed
    with load.target.translated():
        await connection.execute(f"DROP TABLE {_STASH_SQL}")


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
        limit = await _deletable(connection, work, table)
        if key := table.row_key(stash.columns):
            # All the join of both tables asks the planner; other columns cost time only.
            await connection.execute(f"ANALYZE {stash.sql} ({listed(key)})")
    changes = await apply.replace_content(load.target, table, stash)
    vanished = changes.deleted
    if not key:
        vanished = max(0, changes.deleted - changes.inserted)
    if limit is not None and vanished > limit:
        raise StepError(
            f"{vanished} rows would vanish from {work.shown}, and max_delete = "
            f"{work.limits.max_delete} allows {limit}; nothing was changed"
        )
    await _advance(load, table)
    if work.limits.check_rows:
        await _check_target(load, table, stash)
    return changes


async def _deletable(connection: Any, work: Work, table: Table) -> int | None:
    limit = work.limits.max_delete
    if not isinstance(limit, str):
        return limit
    rows = await connection.fetchval(f"SELECT count(*) FROM {table.sql}")
    return int(rows * float(limit.removesuffix("%")) / 100)


async def _check_target(load: Load, table: Table, stash: Stash) -> None:
    rows = await reading.rows_of(load.target, table)
    if rows != stash.rows:
        raise StepError(
            f"{stash.rows} rows were copied and {table.shown} then held {rows}: a trigger, rule or "
            "policy of the target changed them; nothing was kept"
        )


def _check(work: Work, passed: Passed) -> None:
    limits = work.limits
    if passed.read < limits.min_rows:
        raise StepError(
            f"the source ({work.load.reading.shown}) has {passed.read} rows, fewer than min_rows = "
            f"{limits.min_rows}; nothing was changed"
        )
    if not passed.read:
        work.load.ctx.log.warning(f"the source ({work.load.reading.shown}) has no rows")
    if limits.check_rows and passed.read != passed.written:
        raise StepError(
            f"{passed.read} rows left the source and {passed.written} arrived in {work.shown}; "
            "nothing was kept"
        )


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
