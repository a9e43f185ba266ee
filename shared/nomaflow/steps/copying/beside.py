"""A target whose rows lie in a temporary table beside it first: MySQL's and SQLite's way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import Sheet
from nomaflow.steps.copying.orders import Changes, Mode, Orders, Passed, Plan
from nomaflow.steps.copying.origins.base import Origin

PATHS: dict[Mode, str] = {"overwrite": "in_place", "append": "append", "upsert": "upsert"}

Met = Callable[[Sheet, tuple[str, ...]], Awaitable[tuple[int, int]]]
"""Of the columns of a key: how many rows the source has, and how many of them the target has."""


class Stash(Protocol):
    """The loaded rows, and what can be done with them within one transaction."""

    @property
    def sheet(self) -> Sheet: ...
    @property
    def key(self) -> tuple[str, ...]: ...
    async def add(self) -> int:
        """Insert every row."""

    async def merge(self) -> Changes:
        """Insert the rows, or update those whose key is there."""

    async def replace_content(self) -> Changes:
        """Let the target hold exactly these rows."""


def key_of(mode: Mode, sheet: Sheet, names: Sequence[str]) -> tuple[str, ...]:
    """The columns that name a row for a mode; none for rows that are only added."""
    match mode:
        case "upsert":
            return sheet.primary_key
        case "append":
            return ()
        case _:
            return sheet.row_key(names)


async def rows_of(connector: SqlConnector, sheet: Sheet) -> int:
    """How many rows a table has now."""
    return int(await connector.scalar(f"SELECT count(*) AS rows_now FROM {sheet.sql}"))


async def become(stash: Stash, target: SqlConnector, orders: Orders, passed: Passed) -> Changes:
    """Make the stash the target's content, as the mode says; StepError where a limit is broken."""
    sheet, limits = stash.sheet, orders.limits
    before = await rows_of(target, sheet)
    match orders.mode:
        case "append":
            return Changes(inserted=await stash.add())
        case "upsert":
            return await stash.merge()
        case _:
            changes = await stash.replace_content()
            gone = changes.deleted if stash.key else max(0, changes.deleted - changes.inserted)
            limits.check_deleted(gone, before, sheet.shown)
            rows = await rows_of(target, sheet)
            if limits.check_rows and rows != passed.written:
                raise StepError(
                    f"{passed.written} rows were copied and {sheet.shown} then held {rows}: a "
                    "trigger of the target changed them; nothing was kept"
                )
            return changes


async def plan(
    orders: Orders,
    origin: Origin,
    target: SqlConnector,
    sheet: Sheet | None,
    shown: str,
    names: Sequence[str],
    met: Met,
) -> Plan:
    """Count both sides and compare the keys; only a temporary table is written."""
    rows = await origin.count()
    if sheet is None:
        return Plan(shown, "created", "the target is not there yet", rows, 0, is_new=True)
    before = await rows_of(target, sheet)
    changes = None
    if key := key_of(orders.mode, sheet, names):
        read, kept = await met(sheet, key)
        gone = before - kept if orders.mode == "overwrite" else 0
        changes = Changes(read - kept, kept, gone)
    why = "the rows go into a temporary table first, then into the target in one transaction"
    return Plan(shown, PATHS[orders.mode], why, rows, before, changes)
