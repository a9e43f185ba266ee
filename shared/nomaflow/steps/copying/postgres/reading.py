"""The source of a copy: a table or a query, described first and then read in one snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from nomaflow.connectors import statement
from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.naming import qualified, quoted
from nomaflow.steps.copying.postgres import catalog
from nomaflow.steps.copying.postgres.catalog import Column, Table
from nomaflow.steps.copying.settings import Source

_READABLE = frozenset("rpvmf")
# Values cross as text; these make the text the same on every server. The order of day and month
# that a server reads stays its own.
TEXT_FORMS = (
    "SET datestyle = ISO; SET intervalstyle = postgres; SET bytea_output = hex; "
    "SET extra_float_digits = 1; SET statement_timeout = 0; "
    "SET idle_in_transaction_session_timeout = 0"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read: `tail` is the FROM clause, with `:name` parameters still in it."""

    shown: str
    tail: str
    columns: tuple[Column, ...]
    table: Table | None
    types: dict[str, str]
    params: dict[str, Any]
    key: tuple[str, ...] = ()

    @property
    def has_condition(self) -> bool:
        return "\nWHERE" in self.tail

    @property
    def estimated_rows(self) -> int | None:
        """How many rows the server believes a whole table has, or None when it cannot know."""
        whole = self.table is not None and not self.has_condition
        return (self.table.estimated_rows or None) if self.table and whole else None


async def describe(connector: PostgresConnector, source: Source) -> Reading:
    """Look at the source without reading rows; StepError when it is not there or not readable."""
    connection = await connector.raw()
    table: Table | None = None
    if source.table is not None:
        with connector.translated():
            table = await catalog.table(connection, source.schema_name, source.table)
        shown = f"{connector.name}: {table.shown if table else _asked(source)}"
        if table is None:
            raise StepError(f"the source table {_asked(source)} is not in {connector.name!r}")
        if table.kind not in _READABLE:
            raise StepError(f"the source {table.shown} is not a table or view")
    else:
        shown = f"{connector.name}: a query"
    tail = _tail(source)
    source.check_parameters("postgresql")
    names = statement.parse(tail).names
    types = await connector.parameter_types(f"SELECT {tail}") if names else {}
    columns = table.columns if table else ()
    if table is None:
        attributes = await connector.describe(f"SELECT * {tail}")
        with connector.translated():
            columns = await catalog.query_columns(connection, attributes)
    elif source.where:
        await connector.describe(f"SELECT {tail}")
    if not columns:
        raise StepError(f"the source ({shown}) has no columns")
    key = table.primary_key if table else ()
    return Reading(shown, tail, columns, table, types, dict(source.params), key)


@asynccontextmanager
async def snapshot(connector: PostgresConnector, reading: Reading) -> AsyncIterator[str]:
    """One read-only snapshot of the source; gives the FROM clause with its parameters filled in.

    COPY takes no bound parameters. Each value is therefore bound to a setting of the transaction,
    and the clause reads it from there: no value is ever part of the SQL text.
    """
    connection = await connector.raw()
    with connector.translated():
        block = connection.transaction(isolation="repeatable_read", readonly=True)
        await block.start()
    try:
        yield await filled(connector, reading)
    except BaseException:
        # A COPY that was stopped half-way leaves the driver waiting for an answer that may have
        # come already; the connection is not used again.
        connector.spoil()
        raise
    with connector.translated():
        await block.commit()


async def estimate(connector: PostgresConnector, reading: Reading, tail: str) -> int | None:
    """About how many rows will come: by the catalogue, else by the server's plan of the query."""
    if reading.estimated_rows is not None:
        return reading.estimated_rows
    connection = await connector.raw()
    with connector.translated():
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) SELECT {tail}\n")
    return int(plan[0]["Plan"]["Plan Rows"])


async def filled(connector: PostgresConnector, reading: Reading) -> str:
    """The FROM clause, its values put into settings of the current transaction."""
    texts: dict[str, str] = {}
    for number, (name, type_name) in enumerate(reading.types.items(), 1):
        value = reading.params[name]
        if value is None:
            texts[name] = f"CAST(NULL AS {type_name})"
            continue
        setting = f"nomaflow.p{number}"
        await connector.execute(
            f"SELECT set_config('{setting}', CAST(:value AS {type_name})::text, true)",
            {"value": value},
        )
        texts[name] = f"CAST(current_setting('{setting}') AS {type_name})"
    return statement.parse(reading.tail).spliced(texts)


async def count(connector: PostgresConnector, reading: Reading) -> int:
    """How many rows the source has now."""
    return int(await connector.scalar(f"SELECT count(*) {reading.tail}", reading.params))


async def rows_of(connector: PostgresConnector, table: Table) -> int:
    """How many rows a table has now."""
    return int(await connector.scalar(f"SELECT count(*) FROM {table.sql}"))


def _tail(source: Source) -> str:
    # Line breaks keep a comment at the end of the user's text from swallowing ours.
    if source.query is not None:
        return f"FROM (\n{source.query.strip().removesuffix(';')}\n) AS source"
    table = str(source.table)
    name = qualified(source.schema_name, table) if source.schema_name else quoted(table)
    return f"FROM {name}" + (f"\nWHERE (\n{source.where}\n)" if source.where else "")


def _asked(source: Source) -> str:
    return f"{source.schema_name}.{source.table}" if source.schema_name else str(source.table)
