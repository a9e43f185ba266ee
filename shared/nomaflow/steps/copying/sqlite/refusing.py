"""Which row SQLite meant, when it told the constraint only."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from nomaflow.connectors.sqlite.connector import SqliteConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import telling
from nomaflow.steps.copying.naming import listed
from nomaflow.steps.copying.sqlite.apply import STASH, Stash

_UNIQUE = "UNIQUE constraint failed: "


async def insert(
    connector: SqliteConnector, statement: str, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert rows, within the current transaction; StepError with the first that is refused."""
    database = await connector.raw()

    async def tried(low: int, high: int, *, undo: bool) -> None:
        async with connector.transaction():
            with connector.translated():
                await database.executemany(statement, rows[low:high])
            if undo:
                raise telling.OnlyTriedError

    async def refuses(low: int, high: int) -> bool:
        try:
            await tried(low, high, undo=True)
        except StepError as error:
            return not isinstance(error, telling.OnlyTriedError)
        return False

    try:
        await tried(0, len(rows), undo=False)
    except StepError as error:
        if not isinstance(error.__cause__, sqlite3.IntegrityError):
            raise
        place = await telling.first_refused(len(rows), refuses)
        if place is None:
            raise
        raise _with(error, names, rows[place]) from error.__cause__


async def of_stash(stash: Stash, error: StepError) -> StepError:
    """The error with the first row of the stash that the target refuses; what is tried is undone.

    Only while nothing is begun.
    """
    if not isinstance(error.__cause__, sqlite3.IntegrityError):
        return error
    if _UNIQUE in error.message:
        return await _twice(stash, error)
    connector, names = stash.connector, listed(stash.names)

    async def refuses(low: int, high: int) -> bool:
        try:
            async with connector.transaction():
                await connector.execute("PRAGMA defer_foreign_keys = ON")
                await connector.execute(
                    f"INSERT OR REPLACE INTO {stash.sheet.sql} ({names}) SELECT {names} "
                    f"FROM {STASH} WHERE rowid > {low} AND rowid <= {high}"
                )
                raise telling.OnlyTriedError
        except telling.OnlyTriedError:
            return False
        except StepError as refusal:
            return refusal.message == error.message

    rows = int(await connector.scalar(f"SELECT count(*) FROM {STASH}"))
    place = await telling.first_refused(rows, refuses)
    if place is None:
        return error
    row = await connector.first(f"SELECT {names} FROM {STASH} WHERE rowid = {place + 1}")
    return error if row is None else _with(error, stash.names, tuple(row.values()))


async def _twice(stash: Stash, error: StepError) -> StepError:
    """The values that two rows of the stash have in columns that let them be there once only."""
    told = error.message.partition(_UNIQUE)[2].partition(" (")[0].split(", ")
    columns = [part.removeprefix(f"{stash.sheet.name}.") for part in told]
    if not set(columns) <= set(stash.names):
        return error
    row = await stash.connector.first(
        f"SELECT {listed(columns)} FROM {STASH} GROUP BY {listed(columns)} "
        "HAVING count(*) > 1 LIMIT 1"
    )
    return error if row is None else _with(error, columns, tuple(row.values()))


def _with(error: StepError, names: Sequence[str], row: Sequence[Any]) -> StepError:
    told = next((name for name in names if f".{name} " in error.message), None)
    return error.reworded(f"{error.message}; in the row {telling.row(names, row, told)}")
