"""After rows came with their own numbers: sequences go on behind the highest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from nomaflow.steps.base import StepLog
from nomaflow.steps.copying.naming import quoted
from nomaflow.steps.copying.postgres.catalog import Table


async def advance(connection: Any, table: Table, copied: Sequence[str], log: StepLog) -> None:
    """Move the sequences of copied columns past the highest value in the table, never back.

    A sequence that our role may not move is said in the log: the next insert that asks it for a
    number would meet a taken one.
    """
    for name in copied:
        sequence = await connection.fetchval(
            "SELECT pg_catalog.pg_get_serial_sequence($1, $2)", table.sql, name
        )
        if sequence is None:
            continue
        try:
            async with connection.transaction():
                await connection.execute(
                    f"SELECT pg_catalog.setval('{_literal(sequence)}', highest) "
                    f"FROM (SELECT max({quoted(name)})::bigint AS highest FROM {table.sql}) AS t "
                    f"WHERE highest >= (SELECT last_value FROM {sequence})"
                )
        except asyncpg.exceptions.InsufficientPrivilegeError as error:
            log.warning(f"the sequence {sequence} of {table.shown}.{name} stays behind: {error}")


def _literal(text: str) -> str:
    return text.replace("'", "''")
