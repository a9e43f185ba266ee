"""The application: every route, what each needs, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route, WebSocketRoute

from nomaflow_api.auth import Doorkeeper
from nomaflow_api.doors import failures
from nomaflow_api.doors.health import Health
from nomaflow_api.doors.http import GraphqlOverHttp
from nomaflow_api.doors.pages import Pages
from nomaflow_api.doors.responses import answer
from nomaflow_api.doors.rest import RestDoor
from nomaflow_api.doors.websocket import GraphqlOverWebSocket
from nomaflow_api.schema import Schema

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from nomaflow_api.backing import Backing

SMALLER = Middleware(GZipMiddleware, compresslevel=6)
"""For our own pages alone: an answer that holds secrets tells of them by its compressed size."""


def make(backing: Backing) -> Starlette:
    """Put the application together; its lifespan opens and closes the backing."""
    schema = Schema()
    doorkeeper = Doorkeeper(backing.options.admin_token)
    health, rest, pages = Health(backing), RestDoor(backing, doorkeeper), Pages()
    routes: list[BaseRoute] = [
        Route("/graphql", GraphqlOverHttp(schema, backing, doorkeeper)),
        WebSocketRoute("/graphql", GraphqlOverWebSocket(schema, backing, doorkeeper)),
        Route("/admin/jobs/{name}/run", rest.run, methods=["POST"]),
        Route("/health", health.health),
        Route("/ready", health.ready),
    ]
    if backing.options.graphiql:
        routes += [
            Route("/", pages.home),
            Route("/runs/{run:uuid}", pages.run),
            Route("/graphiql", pages.graphiql, middleware=[SMALLER]),
            Route("/assets/{path:path}", pages.asset, middleware=[SMALLER]),
        ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(backing.run(), name="backing")
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: _refused, Exception: _fault},
    )


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = "NOT_FOUND" if error.status_code == 404 else "INVALID"  # noqa: PLR2004
    return answer({"code": code, "message": error.detail}, error.status_code, error.headers)


async def _fault(_request: Request, error: Exception) -> Response:
    return answer(failures.internal(error), 500)
