"""Any object by its opaque id."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import strawberry

from nomaflow_api import connectors
from nomaflow_api.auth import Permission
from nomaflow_api.context import Asked, Context
from nomaflow_api.doors.failures import bad_input
from nomaflow_api.graph.base import Node, parts_of


@strawberry.type
class NodeQueries:
    @strawberry.field
    async def node(self, info: Asked, id: strawberry.ID) -> Node | None:
        info.context.need(Permission.SEE)
        kind, rest = parts_of(id)
        try:
            return cast("Node | None", await _found(info.context, kind, rest))
        except ValueError:
            raise bad_input("This id is not one that this API gave out.") from None


async def _found(context: Context, kind: str, rest: str) -> Any:
    match kind:
        case "Job":
            return await context.load.jobs.find(UUID(rest))
        case "Run":
            return await context.load.runs.find(UUID(rest))
        case "StepRun":
            run_id, _, position = rest.partition(":")
            return await context.load.step.find((UUID(run_id), _small(position)))
        case "Connector":
            return await connectors.row(context, rest)
        case _:
            raise ValueError(kind)


def _small(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**31:
        raise ValueError(text)
    return number
