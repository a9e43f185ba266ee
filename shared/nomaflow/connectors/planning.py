"""What a database says of a statement without running it."""

from __future__ import annotations

import json
from typing import Any

from nomaflow.connectors import intent
from nomaflow.connectors.sql import Params, SqlConnector
from nomaflow.errors import StepError


async def estimate(connector: SqlConnector, sql: str, params: Params) -> int | None:
    """About how many rows a statement would meet; None when its database cannot say.

    The statement is checked on the way: StepError for one that could not be planned, as for a
    table that is not there.
    """
    if not intent.is_plannable(sql):
        return None
    match connector.dialect:
        case "postgresql":
            return _rows_of_plan(await connector.scalar(f"EXPLAIN (FORMAT JSON) {sql}", params))
        case "mysql":
            rows = await connector.all(f"EXPLAIN {sql}", params)
            counts = [int(row["rows"]) for row in rows if str(row.get("rows") or "").isdigit()]
            return max(counts, default=None)
        case "sqlite":
            await connector.all(f"EXPLAIN QUERY PLAN {sql}", params)
            return None
        case _:
            return None


def _rows_of_plan(plan: Any) -> int:
    found = json.loads(plan) if isinstance(plan, str) else plan
    if not isinstance(found, list) or not found:
        raise StepError("the server's plan has an unknown form")
    node = found[0]["Plan"]
    # A statement without RETURNING has 0 rows of its own: the plan below says how many it meets.
    while not node.get("Plan Rows") and node.get("Plans"):
        node = node["Plans"][0]
    return int(node.get("Plan Rows", 0))
