"""Which origin a source is; drivers are loaded when a copy first needs them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.orders import Orders
from nomaflow.steps.copying.origins.base import Origin, Wanted
from nomaflow.steps.copying.origins.postgres import PostgresOrigin
from nomaflow.steps.copying.origins.transformed import Transformed
from nomaflow.steps.copying.postgres import reading
from nomaflow.steps.copying.postgres.dressing import dressed

_OTHERS = ("mysql", "sqlite")


async def origin(orders: Orders, source: SqlConnector, wanted: Sequence[Wanted] | None) -> Origin:
    """The described source, with the function that rows pass through.

    `wanted` are the target's columns, None for a target that is not there yet.
    """
    found = await _bare(orders, source)
    if orders.transform is None:
        return found
    return await Transformed.opened(orders, found, wanted)


async def _bare(orders: Orders, source: SqlConnector) -> Origin:
    if isinstance(source, PostgresConnector):
        described = await reading.describe(source, orders.source)
        return PostgresOrigin(source, await dressed(source, described, orders.dress))
    if source.dialect not in _OTHERS:
        raise StepError(
            f"sql_copy reads PostgreSQL, MySQL, MariaDB and SQLite; {source.name!r} is a "
            f"{source.dialect} database",
            retryable=False,
        )
    room = import_module(f"nomaflow.steps.copying.origins.{source.dialect}")
    found = await room.describe(source, orders.source, orders.dress)
    if not isinstance(found, Origin):
        raise TypeError(f"{room.__name__}.describe must answer an Origin")
    return found
