"""A copy into SQLite: one commit, and readers of the file see the old rows until then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from nomaflow.connectors.sql import SqlConnector
from nomaflow.connectors.sqlite.connector import SqliteConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import beside, cells, matching, refusals
from nomaflow.steps.copying.flow import through
from nomaflow.steps.copying.kinds import Field, Passage, Sheet
from nomaflow.steps.copying.naming import listed, qualified, quoted
from nomaflow.steps.copying.orders import Changes, Orders, Outcome, Passed, Plan
from nomaflow.steps.copying.origins import opening
from nomaflow.steps.copying.origins.base import Origin, Rows
from nomaflow.steps.copying.progress import Progress
from nomaflow.steps.copying.sqlite import catalog, files, holding, refusing
from nomaflow.steps.copying.sqlite.apply import STASH, Stash
from nomaflow.steps.copying.sqlite.holding import Holder


class _MadeMeanwhileError(StepError):
    """The target was not there, and is when its turn comes: another copy has made it."""


async def copy(orders: Orders, source: SqlConnector, target: SqliteConnector) -> Outcome:
    """Copy; the target changes in one commit or not at all."""
    try:
        return await _copied(orders, source, target)
    except _MadeMeanwhileError:
        return await _copied(orders, source, target)


async def _copied(orders: Orders, source: SqlConnector, target: SqliteConnector) -> Outcome:
    ready = await _prepared(orders, source, target)
    try:
        one_file = await files.of(source) == await files.of(target)
        if ready.sheet is None:
            return await _created(ready, beside=one_file)
        if orders.mode == "append" and not one_file:
            return await _appended(ready, ready.sheet)
        return await _by_stash(ready, ready.sheet)
    finally:
        await ready.origin.close()


async def rehearse(orders: Orders, source: SqlConnector, target: SqliteConnector) -> Plan:
    """What `copy` would do; only a temporary table of this connection is written."""
    ready = await _prepared(orders, source, target)

    async def met(sheet: Sheet, key: tuple[str, ...]) -> tuple[int, int]:
        async with _stashed(ready.only(key), sheet) as passed:
            return passed.written, await Stash(target, sheet, key, key).met()

    try:
        return await beside.plan(
            orders, ready.origin, target, ready.sheet, ready.name, ready.names, met
        )
    finally:
        await ready.origin.close()


@dataclass(frozen=True, slots=True)
class _Ready:
    orders: Orders
    target: SqliteConnector
    origin: Origin
    sheet: Sheet | None
    holders: tuple[Holder, ...]

    @property
    def name(self) -> str:
        return self.orders.target.table

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(holder.passage.target.name for holder in self.holders)

    def only(self, names: tuple[str, ...]) -> _Ready:
        kept = tuple(h for h in self.holders if h.passage.target.name in names)
        return _Ready(self.orders, self.target, self.origin, self.sheet, kept)

    async def fill(self, table: str) -> Passed:
        """Write every row of the origin into a table, within the current transaction."""
        heard = Progress(self.orders.ctx, await self.origin.estimate(), self.orders.batch_size)
        sources = [holder.passage.source.name for holder in self.holders]
        marks = ", ".join("?" * len(self.holders))
        insert = f"INSERT INTO {table} ({listed(self.names)}) VALUES ({marks})"
        database = await self.target.raw()
        converts = any(holder.convert is not None for holder in self.holders)

        async def read(put: Any) -> int:
            count = 0
            async with aclosing(self.origin.rows(sources)) as batches:
                async for rows in batches:
                    count += len(rows)
                    await put(rows)
            return count + self.origin.dropped

        async def write(batches: AsyncIterator[Rows]) -> int:
            written = 0
            async for rows in batches:
                kept = self._held(rows, written + 1) if converts else rows
                if table == STASH:  # it refuses nothing
                    with self.target.translated():
                        await database.executemany(insert, kept)
                else:
                    await refusing.insert(self.target, insert, self.names, kept)
                written += len(rows)
                heard(written)
            return written

        count, written = await through(read, write)
        heard.finish(written)
        passed = Passed(count, written, self.origin.dropped)
        self.orders.limits.check_passed(passed, self.origin.shown, self.name)
        if not count:
            self.orders.ctx.log.warning(f"the source ({self.origin.shown}) has no rows")
        return passed

    def _held(self, rows: Rows, first_row: int) -> list[tuple[Any, ...]]:
        columns = cells.transposed(rows, len(self.holders))
        kept = [
            holder.held(column, first_row)
            for holder, column in zip(self.holders, columns, strict=True)
        ]
        return list(zip(*kept, strict=True))


async def _prepared(orders: Orders, source: SqlConnector, target: SqliteConnector) -> _Ready:
    end = orders.target
    sheet = await catalog.table(target, end.schema_name, end.table)
    if sheet is not None and await files.are_one_table(orders, source, target, sheet):
        raise refusals.itself(sheet.shown)
    if sheet is not None and sheet.is_view:
        raise StepError(
            f"the target {sheet.shown} of {target.name!r} is a view; {orders.mode} needs a table"
        )
    if sheet is None and orders.mode != "overwrite":
        raise StepError(
            f"the target table {end.table} is not in {target.name!r}; {orders.mode} needs one"
        )
    origin = await opening.origin(orders, source, sheet.fields if sheet else None)
    try:
        fields = sheet.fields if sheet else _likeness(orders, origin)
        pairs = matching.match(
            origin.fields, fields, orders.columns, where=origin.shown, shown=end.table
        )
        holders = tuple(holding.holder(Passage(*pair)) for pair in pairs)
        if sheet is not None and orders.mode == "upsert":
            names = [holder.passage.target.name for holder in holders]
            refusals.keyless(sheet.shown, sheet.primary_key, names)
    except BaseException:
        await origin.close()
        raise
    return _Ready(orders, target, origin, sheet, holders)


def _likeness(orders: Orders, origin: Origin) -> tuple[Field, ...]:
    """The columns of a target that is to be made."""
    new_names = {old: new for new, old in orders.columns.items()}
    return tuple(
        holding.field(field, new_names.get(field.name, field.name))
        for field in origin.fields
        if not orders.columns or field.name in new_names
    )


async def _created(ready: _Ready, *, beside: bool) -> Outcome:
    """A new table, of which nobody knows before the commit."""
    target = ready.target
    end = ready.orders.target
    table = qualified(end.schema_name, end.table) if end.schema_name else quoted(end.table)
    lines = [
        f"{quoted(h.passage.target.name)} {h.passage.target.declared}"
        + (" NOT NULL" if h.passage.target.not_null else "")
        for h in ready.holders
    ]
    names = {h.passage.source.name: h.passage.target.name for h in ready.holders}
    key = ready.origin.key
    if key and all(name in names for name in key):
        lines.append(f"PRIMARY KEY ({listed(names[name] for name in key)})")
    create = f"({', '.join(lines)})"
    if not beside:
        async with target.transaction():
            await _make(ready, f"CREATE TABLE {table} {create}")
            passed = await ready.fill(table)
        return Outcome(passed, "created", Changes(inserted=passed.written))
    await target.execute(f"DROP TABLE IF EXISTS {STASH}")
    await target.execute(f"CREATE TEMP TABLE nomaflow_stash {create}")
    passed = await ready.fill(STASH)
    async with target.transaction():
        await _make(ready, f"CREATE TABLE {table} {create}")
        await target.execute(f"INSERT INTO {table} SELECT * FROM {STASH}")
    return Outcome(passed, "created", Changes(inserted=passed.written))


async def _make(ready: _Ready, create: str) -> None:
    """Make the target, now that nobody else can."""
    end = ready.orders.target
    if await catalog.table(ready.target, end.schema_name, end.table) is not None:
        raise _MadeMeanwhileError(
            f"another has made the table {end.table} of {ready.target.name!r}"
        )
    await ready.target.execute(create)


async def _appended(ready: _Ready, sheet: Sheet) -> Outcome:
    async with ready.target.transaction():
        passed = await ready.fill(sheet.sql)
    return Outcome(passed, "append", Changes(inserted=passed.written))


async def _by_stash(ready: _Ready, sheet: Sheet) -> Outcome:
    orders, target = ready.orders, ready.target
    key = beside.key_of(orders.mode, sheet, ready.names)
    async with _stashed(ready, sheet) as passed:
        stash = Stash(target, sheet, ready.names, key)
        await stash.index()
        try:
            async with target.transaction():
                await target.execute("PRAGMA defer_foreign_keys = ON")
                changes = await beside.become(stash, target, orders, passed)
        except StepError as error:
            raise await refusing.of_stash(stash, error) from error.__cause__
    return Outcome(passed, beside.PATHS[orders.mode], changes)


@asynccontextmanager
async def _stashed(ready: _Ready, sheet: Sheet) -> AsyncIterator[Passed]:
    """The rows in a temporary table of the connection: the file is not locked meanwhile."""
    target = ready.target
    await target.execute(f"DROP TABLE IF EXISTS {STASH}")
    await target.execute(
        f"CREATE TEMP TABLE nomaflow_stash AS SELECT {listed(ready.names)} FROM {sheet.sql} LIMIT 0"
    )
    database = await target.raw()
    with target.translated():
        await database.execute("BEGIN")  # not IMMEDIATE: others may write into the file
    try:
        passed = await ready.fill(STASH)
    except StepError:
        with target.translated():
            await database.execute("ROLLBACK")
        raise
    with target.translated():
        await database.execute("COMMIT")
    yield passed
    await target.execute(f"DROP TABLE {STASH}")
