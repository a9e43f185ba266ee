"""Where the rows of a copy lie until they become the target's content."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.naming import listed, qualified, quoted
from nomaflow.steps.copying.orders import Passed
from nomaflow.steps.copying.postgres import streams
from nomaflow.steps.copying.postgres.apply import Stash
from nomaflow.steps.copying.postgres.catalog import Table
from nomaflow.steps.copying.postgres.load import Load
from nomaflow.steps.copying.postgres.passage import Into

_OWN = "nomaflow_stash"
_OWN_SQL = f"pg_temp.{quoted(_OWN)}"
_DROP_SECONDS = 10.0


@asynccontextmanager
async def own(load: Load, table: Table) -> AsyncIterator[tuple[Stash, Passed]]:
    """A temporary table of the connection, which no crash can leave behind."""
    connection = await load.target.raw()
    async with load.target.transaction():
        with load.target.translated():
            await connection.execute(f"DROP TABLE IF EXISTS {_OWN_SQL}")
            await connection.execute(
                f"CREATE TEMPORARY TABLE {quoted(_OWN)} AS "
                f"SELECT {listed(load.names)} FROM {table.sql} WITH NO DATA"
            )
        passed = await load.fill(Into("pg_temp", _OWN, load.names))
    yield Stash(_OWN_SQL, load.names, passed.written), passed
    with load.target.translated():
        await connection.execute(f"DROP TABLE {_OWN_SQL}")


async def may_share(target: PostgresConnector, table: Table) -> bool:
    """Whether our role may make a table in the target's schema: several streams need one."""
    connection = await target.raw()
    with target.translated():
        return bool(
            await connection.fetchval(
                "SELECT pg_catalog.has_schema_privilege($1::text, 'CREATE')", table.schema
            )
        )


@asynccontextmanager
async def shared(load: Load, table: Table, wanted: int) -> AsyncIterator[tuple[Stash, Passed]]:
    """An unlogged table that several connections fill at once.

    Its name follows from the target's: what a crash leaves is taken away by the next copy, which
    holds the target alone.
    """
    connection = await load.target.raw()
    digest = hashlib.blake2b(table.sql.encode(), digest_size=8).hexdigest()
    name = f"nomaflow_stash_{digest}"
    stash = qualified(table.schema, name)
    with load.target.translated():
        await connection.execute(f"DROP TABLE IF EXISTS {stash}")
        await connection.execute(
            f"CREATE UNLOGGED TABLE {stash} WITH (autovacuum_enabled = off) AS "
            f"SELECT {listed(load.names)} FROM {table.sql} WITH NO DATA"
        )
    try:
        async with streams.lanes(load.ctx, load.origin, load.target, wanted) as lanes:
            passed = await load.fill(Into(table.schema, name, load.names), lanes)
        yield Stash(stash, load.names, passed.written), passed
    except StepError:
        with suppress(StepError):
            await _drop(load.target, connection, f"IF EXISTS {stash}")
        raise
    await _drop(load.target, connection, stash)


async def _drop(target: PostgresConnector, connection: Any, stash: str) -> None:
    with target.translated():
        await connection.execute(f"DROP TABLE {stash}", timeout=_DROP_SECONDS)
