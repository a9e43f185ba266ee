"""Which value of which column a server meant, when it said only that one was wrong."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.naming import qualified, quoted
from nomaflow.steps.copying.postgres.columns import Crossing

ARRIVALS = "nomaflow_arrivals"
_KNOWS_INPUT = 16  # pg_input_is_valid came with PostgreSQL 16


async def explain(target: PostgresConnector, crossings: Sequence[Crossing]) -> None:
    """Convert each column of the arrived rows alone; StepError naming the one that cannot be."""
    for crossing in crossings:
        if crossing.typed == quoted(crossing.pair.source.name):
            continue
        try:
            async with target.transaction():
                await target.scalar(
                    f"SELECT count({crossing.typed}) AS n FROM {qualified('pg_temp', ARRIVALS)}"
                )
        except StepError as error:
            raise await _named(target, crossing, error) from None


async def _named(target: PostgresConnector, crossing: Crossing, error: StepError) -> StepError:
    old, new = crossing.pair.source, crossing.pair.target
    connection = await target.raw()
    where = ""
    if connection.get_server_version().major >= _KNOWS_INPUT and old.type_name == "text":
        found = await target.first(
            f"SELECT place, value FROM (SELECT row_number() OVER (ORDER BY ctid) AS place, "
            f"{quoted(old.name)} AS value FROM {qualified('pg_temp', ARRIVALS)}) AS arrived "
            "WHERE NOT pg_catalog.pg_input_is_valid(value, :type) ORDER BY place LIMIT 1",
            {"type": new.full_type},
        )
        if found is not None:
            where = f" holds {found['value']!r:.200} in row {found['place']}, and it"
    return StepError(
        f"the source column {old.name!r}{where} does not become the target column {new.name!r} "
        f"({new.declared}): {error.message}"
    )
