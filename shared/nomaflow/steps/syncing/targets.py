"""Finds the way to write to a target: its kind of table, or its named query."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.steps.syncing import plain_target, postgres_target, query_target
from nomaflow.steps.syncing.settings import Target
from nomaflow.steps.syncing.writing import Writer


async def open_writer(connector: SqlConnector, target: Target, mapped: Sequence[str]) -> Writer:
    """A writer for rows with the mapped columns; StepError when they do not fit the target."""
    if target.query is not None:
        return await query_target.open_query(connector, target.query, mapped)
    if isinstance(connector, PostgresConnector):
        return await postgres_target.open_table(connector, target, mapped)
    return await plain_target.open_table(connector, target, mapped)
