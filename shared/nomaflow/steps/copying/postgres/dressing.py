"""A source of PostgreSQL with its values changed on the way: one SELECT around the other."""

from __future__ import annotations

from dataclasses import replace

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.steps.copying import dress
from nomaflow.steps.copying.kinds import Word
from nomaflow.steps.copying.naming import quoted
from nomaflow.steps.copying.orders import Dress
from nomaflow.steps.copying.postgres import catalog
from nomaflow.steps.copying.postgres.catalog import Column
from nomaflow.steps.copying.postgres.kinds import field_of
from nomaflow.steps.copying.postgres.reading import Reading


async def dressed(connector: PostgresConnector, reading: Reading, wear: Dress) -> Reading:
    """The reading of the dressed source; StepError for a column to strip that is not there."""
    if not wear:
        return reading
    bare = {column.name: column for column in reading.columns}
    fields = [field_of(column) for column in reading.columns]
    columns = dress.columns(fields, [quoted(name) for name in bare], wear, "postgresql")
    listed = ", ".join(f"{column.sql} AS {quoted(column.field.name)}" for column in columns)
    tail = f"FROM (\nSELECT {listed} {reading.tail}\n) AS dressed"
    attributes = await connector.describe(f"SELECT * {tail}")
    connection = await connector.raw()
    with connector.translated():
        described = await catalog.query_columns(connection, attributes)
    names = {column.source: column.field.name for column in columns}
    return replace(
        reading,
        tail=tail,
        table=None,
        columns=tuple(
            _measured(new, bare[column.source], column)
            for new, column in zip(described, columns, strict=True)
        ),
        key=tuple(names[name] for name in reading.key),
    )


def _measured(new: Column, old: Column, column: dress.Dressed) -> Column:
    """A query says nothing of lengths; what only became shorter has the old one's."""
    new = replace(new, not_null=column.field.not_null)
    kind = column.field.kind
    if kind.size is None or kind.word not in {Word.TEXT, Word.DECIMAL}:
        return new
    if old.type_name == new.type_name:
        return replace(new, typmod=old.typmod, full_type=old.full_type, declared=old.full_type)
    if kind.word is Word.TEXT and old.typmod >= 0:
        spelled = f"character varying({kind.size})"
        return replace(new, typmod=old.typmod, full_type=spelled, declared=spelled)
    return new
