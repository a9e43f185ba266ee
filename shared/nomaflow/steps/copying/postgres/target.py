"""A copy into PostgreSQL: both ends looked at, the path chosen, the rows moved or only counted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import origins, refusals
from nomaflow.steps.copying.orders import Orders, Outcome, Plan
from nomaflow.steps.copying.origins import opening
from nomaflow.steps.copying.postgres import (
    arriving,
    catalog,
    columns,
    diagnosis,
    guard,
    modes,
    planning,
    reading,
)
from nomaflow.steps.copying.postgres.catalog import Column, Table
from nomaflow.steps.copying.postgres.dressing import dressed
from nomaflow.steps.copying.postgres.load import Load
from nomaflow.steps.copying.postgres.modes import Work
from nomaflow.steps.copying.postgres.reading import TEXT_FORMS, Reading


async def copy(orders: Orders, source: SqlConnector, target: PostgresConnector) -> Outcome:
    """Copy; the target changes in one commit or not at all."""
    schema, _ = await _place(orders, target)
    turn = guard.Turn(target, schema, orders.target.table, shared=orders.mode == "append")
    if not await turn.taken():
        if orders.transform is None:
            # What is wrong already is said before the wait.
            await (await _prepared(orders, source, target)).close()
        await turn.wait(orders.ctx.log)
    ready = await _prepared(orders, source, target)
    try:
        return await _carried_out(orders, ready)
    except StepError as error:
        if ready.table is None:
            raise
        raise await diagnosis.constrained(target, ready.table, error) from error.__cause__
    finally:
        await ready.close()


async def rehearse(orders: Orders, source: SqlConnector, target: PostgresConnector) -> Plan:
    """What `copy` would do; nothing that anybody else could see is changed."""
    ready = await _prepared(orders, source, target)
    try:
        return await planning.plan(orders.mode, ready.work, ready.table, ready.origin)
    finally:
        await ready.close()


async def open_text_forms(connector: SqlConnector) -> None:
    """Make the text of values the same on every server; nothing for other databases."""
    if isinstance(connector, PostgresConnector):
        connection = await connector.raw()
        with connector.translated():
            await connection.execute(TEXT_FORMS)


@dataclass(frozen=True, slots=True)
class _Ready:
    work: Work
    table: Table | None
    origin: origins.base.Origin | None

    async def close(self) -> None:
        if self.origin is not None:
            await self.origin.close()


async def _prepared(orders: Orders, source: SqlConnector, target: PostgresConnector) -> _Ready:
    """Look at both ends; StepError for whatever can be known before rows move."""
    schema, table = await _place(orders, target)
    if isinstance(source, PostgresConnector) and orders.transform is None:
        origin = None
        load, same = await _straight(orders, source, target, table)
    else:
        origin = await opening.origin(orders, source, _wanted(table))
        load, same = await _by_arrivals(orders, source, target, table, origin), True
    try:
        work = Work(load, schema, orders.target.table, orders.columns, orders.limits)
        if table is None:
            if orders.mode != "overwrite":
                raise StepError(
                    f"the target table {work.shown} is not in {target.name!r}; {orders.mode} "
                    "needs one"
                )
            return _Ready(work, None, origin)
        _refuse(orders, table, target.name)
        described = load.reading
        pairs = columns.match(described.columns, table, orders.columns, described.shown)
        work = replace(work, load=await load.paired(pairs, same_database=same))
        if orders.mode == "upsert":
            refusals.keyless(table.shown, table.primary_key, work.load.names)
    except BaseException:
        if origin is not None:
            await origin.close()
        raise
    return _Ready(work, table, origin)


async def _place(orders: Orders, target: PostgresConnector) -> tuple[str, Table | None]:
    """The schema of the target, and the target where it is there."""
    connection = await target.raw()
    end = orders.target
    with target.translated():
        table = await catalog.table(connection, end.schema_name, end.table)
        if table is not None:
            return table.schema, table
        schema = end.schema_name or await connection.fetchval("SELECT current_schema()")
    if schema is None:
        raise StepError(f"connector {target.name!r} has no schema to create tables in")
    return str(schema), None


async def _straight(
    orders: Orders, source: PostgresConnector, target: PostgresConnector, table: Table | None
) -> tuple[Load, bool]:
    """PostgreSQL to PostgreSQL, rows untouched."""
    described = await reading.describe(source, orders.source)
    with source.translated():
        here = await catalog.database(await source.raw())
    with target.translated():
        there = await catalog.database(await target.raw())
    same = here.identity == there.identity
    if same and table and described.table and described.table.oid == table.oid:
        raise refusals.itself(table.shown)
    described = await dressed(source, described, orders.dress)
    one_server = same and here.role == there.role
    load = Load(
        orders.ctx, source, target, described, one_server, orders.batch_size, orders.streams
    )
    return load, same


async def _by_arrivals(
    orders: Orders,
    source: SqlConnector,
    target: PostgresConnector,
    table: Table | None,
    origin: origins.base.Origin,
) -> Load:
    """From another database, or by way of a function."""
    wanted = arriving.sources_of(origin, table, dict(orders.columns))
    described: Reading = await arriving.likeness(target, origin, wanted)
    return Load(
        orders.ctx,
        source,
        target,
        described,
        one_server=False,
        batch_size=orders.batch_size,
        arrivals=arriving.Sent(origin),
    )


def _wanted(table: Table | None) -> tuple[Column, ...] | None:
    return table.columns if table else None


async def _carried_out(orders: Orders, ready: _Ready) -> Outcome:
    if ready.table is None:
        return await modes.create(ready.work)
    match orders.mode:
        case "append":
            return await modes.append(ready.work, ready.table)
        case "upsert":
            return await modes.upsert(ready.work, ready.table)
        case _:
            return await modes.overwrite(ready.work, ready.table)


def _refuse(orders: Orders, table: Table, connector: str) -> None:
    allowed = "rpf" if orders.mode == "append" else "rp"
    if table.kind not in allowed:
        kind = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
        what = kind.get(table.kind, "no table")
        raise StepError(
            f"the target {table.shown} of {connector!r} is {what}; {orders.mode} needs a table"
        )
