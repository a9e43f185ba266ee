"""What a copy into SQLite refuses before anything is written."""

from __future__ import annotations

from pathlib import Path

from nomaflow.connectors.sql import SqlConnector
from nomaflow.connectors.sqlite.connector import SqliteConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import Sheet
from nomaflow.steps.copying.orders import Orders
from nomaflow.steps.copying.sqlite import catalog
from nomaflow.steps.copying.sqlite.holding import Holder


def keyless(sheet: Sheet, holders: tuple[Holder, ...]) -> None:
    """StepError when an upsert could not know its rows."""
    if not sheet.primary_key:
        raise StepError(f"upsert needs a primary key, and {sheet.shown} has none", retryable=False)
    names = {holder.passage.target.name for holder in holders}
    if missing := [name for name in sheet.primary_key if name not in names]:
        raise StepError(
            f"upsert needs every column of the primary key of {sheet.shown}, and {missing[0]!r} is "
            "not copied",
            retryable=False,
        )


async def itself(
    orders: Orders, source: SqlConnector, target: SqliteConnector, sheet: Sheet | None
) -> None:
    """StepError when source and target are one table."""
    if sheet is None or orders.source.table is None or not isinstance(source, SqliteConnector):
        return
    if await file_of(source) != await file_of(target):
        return
    other = await catalog.table(source, orders.source.schema_name, orders.source.table)
    if other is not None and other.name == sheet.name:
        raise StepError(
            f"{sheet.shown} would be copied onto itself: source and target are one table",
            retryable=False,
        )


async def file_of(connector: SqlConnector) -> Path | None:
    """The file of a SQLite connector, None for other databases and for one in memory."""
    if not isinstance(connector, SqliteConnector):
        return None
    rows = await connector.all("PRAGMA database_list")
    file = next((row["file"] for row in rows if row["name"] == "main"), "")
    return Path(file).resolve() if file else None
