"""Which value of which row a server meant, when it said only that one was wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import telling
from nomaflow.steps.copying.naming import quoted
from nomaflow.steps.copying.postgres.catalog import Table
from nomaflow.steps.copying.postgres.columns import Crossing

ARRIVALS = "nomaflow_arrivals"
SECONDS = 60.0
"""How long a row is looked for at most; the column alone is told then."""

_VALUE_LETTERS = 200
_TWIN = re.compile(r"\bnomaflow_[0-9a-f]{16}\b")
_COLUMNS = """
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
    FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
    WHERE c.conrelid = $1 AND c.conname = $2
"""


async def find(
    connector: PostgresConnector,
    tail: str,
    crossings: Sequence[Crossing],
    key: Sequence[str],
    error: StepError,
) -> StepError | None:
    """Convert each column of the read rows alone, then ever fewer rows, until one is left.

    `tail` is the FROM clause of the rows; `connector` is in a transaction. None where every value
    can be converted, or fails for another reason than `error`'s.
    """
    connection = await connector.raw()
    state = getattr(error.__cause__, "sqlstate", None)
    for crossing in crossings:
        search = _Search(connection, tail, _tried(crossing), state)
        if not await search.refuses(0, None):
            continue
        old = crossing.pair.source
        if await _Search(connection, tail, quoted(old.name), state).refuses(0, None):
            return None  # the query itself cannot make this value
        words = f"does not become the target column {crossing.pair.target.name!r}"
        words += f" ({crossing.pair.target.declared}): {error.message}"
        where = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                where = await search.shown(old.name, key)
        return StepError(f"the source column {old.name!r}{where} {words}")
    return None


class _Search:
    """For the first row whose value an expression cannot convert."""

    def __init__(self, connection: Any, tail: str, tried: str, state: str | None) -> None:
        self._connection = connection
        self._tail = tail
        self._tried = tried
        self._state = state

    async def refuses(self, low: int, high: int | None) -> bool:
        """Whether one of these rows is refused for the reason that is looked for."""
        limit = "" if high is None else f" LIMIT {high - low}"
        try:
            async with self._connection.transaction():
                await self._connection.fetchval(
                    f"SELECT count({self._tried}) FROM (SELECT * {self._tail}\nOFFSET {low}{limit})"
                    " AS looked_at"
                )
        except asyncpg.PostgresError as error:
            return bool(error.sqlstate == self._state)
        return False

    async def shown(self, column: str, key: Sequence[str]) -> str:
        """The value and its row, in words; empty where the rows come in another order each time."""
        rows = 1
        while not await self.refuses(0, rows):
            rows *= 8
        place = await telling.first_refused(rows, self.refuses)
        if place is None:
            return ""
        names = list(dict.fromkeys([*key, column]))
        cells = ", ".join(f"left({quoted(name)}::text, {_VALUE_LETTERS})" for name in names)
        row = await self._connection.fetchrow(
            f"SELECT {cells} FROM (SELECT * {self._tail}\nOFFSET {place} LIMIT 1) AS looked_at"
        )
        if row is None:
            return ""
        beside = f" {telling.row(key, row[: len(key)])}" if key else ""
        value = row[names.index(column)]
        return f" holds {value!r} in row {place + 1}{beside}, and it"


def _tried(crossing: Crossing) -> str:
    """The value as the target's own type, its length included where PostgreSQL has it."""
    target = crossing.pair.target
    return f"({crossing.typed})::{target.full_type}" if target.is_builtin else crossing.typed


async def constrained(target: PostgresConnector, table: Table, error: StepError) -> StepError:
    """The same error with the columns of the constraint that a row breaks."""
    cause = error.__cause__
    if not isinstance(cause, asyncpg.exceptions.CheckViolationError) or not cause.constraint_name:
        return error
    connection = await target.raw()
    columns = None
    if not connection.is_closed() and not connection.is_in_transaction():
        with suppress(StepError), target.translated():
            columns = await connection.fetchval(_COLUMNS, table.oid, cause.constraint_name)
    words = _TWIN.sub(lambda _: table.name, error.message)
    of = f"; the constraint is on {columns} of {table.shown}" if columns else ""
    return error.reworded(words + of)
