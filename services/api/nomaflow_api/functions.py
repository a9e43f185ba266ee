"""Functions of the plugins that a `python` step can name, for whoever writes one."""

from __future__ import annotations

import asyncio

import strawberry

from nomaflow.plugins import discovery
from nomaflow_api.auth import Permission
from nomaflow_api.context import Asked
from nomaflow_api.graph.scalars import Json


@strawberry.type
class Callable:
    callable: str = strawberry.field(description="`module.path:function`, as a step writes it")
    summary: str = strawberry.field(description="The first line of its docstring")
    is_async: bool
    parameters: Json = strawberry.field(
        description=(
            "What a step may give it, in order: name, annotation, required, default (its source "
            "text where it is no JSON value)"
        )
    )


async def _callables(info: Asked) -> list[Callable]:
    info.context.need(Permission.SEE)
    found = await asyncio.to_thread(discovery.callables, info.context.backing.project.plugins)
    return [
        Callable(
            callable=function.callable,
            summary=function.summary,
            is_async=function.is_async,
            parameters=Json([p.as_json() for p in function.parameters]),
        )
        for function in found
    ]


@strawberry.type
class CallableQueries:
    callables: list[Callable] = strawberry.field(
        resolver=_callables,
        description=(
            "Functions in files of plugins/ whose names do not begin with `_`; nothing is "
            "imported, and a file that cannot be parsed is left out"
        ),
    )
