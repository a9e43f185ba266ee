"""Which file a connector has, and whether both ends of a copy are one table of it."""

from __future__ import annotations

from pathlib import Path

from nomaflow.connectors.sql import SqlConnector
from nomaflow.connectors.sqlite.connector import SqliteConnector
from nomaflow.steps.copying.kinds import Sheet
from nomaflow.steps.copying.orders import Orders
from nomaflow.steps.copying.sqlite import catalog


async def are_one_table(
    orders: Orders, source: SqlConnector, target: SqliteConnector, sheet: Sheet
) -> bool:
    """Whether the source is the target."""
    if orders.source.table is None or not isinstance(source, SqliteConnector):
        return False
    if await of(source) != await of(target):
        return False
    other = await catalog.table(source, orders.source.schema_name, orders.source.table)
    return other is not None and other.name == sheet.name


async def of(connector: SqlConnector) -> Path | None:
    """The file of a SQLite connector, None for other databases and for one in memory."""
    if not isinstance(connector, SqliteConnector):
        return None
    rows = await connector.all("PRAGMA database_list")
    file = next((row["file"] for row in rows if row["name"] == "main"), "")
    return Path(file).resolve() if file else None
