"""GraphQL over HTTP (graphql.github.io/graphql-over-http): POST, GET for queries, SSE streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from strawberry.exceptions import MissingQueryError
from strawberry.http.streaming import SSETransport, merge_stream_with_heartbeat
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from nomaflow.errors import NomaflowError
from nomaflow_api.context import Context
from nomaflow_api.doors import body, failures, negotiation
from nomaflow_api.doors.body import Refused
from nomaflow_api.doors.documents import is_storable
from nomaflow_api.doors.failures import ApiCode
from nomaflow_api.doors.negotiation import Media

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send
    from strawberry.types import ExecutionResult

    from nomaflow_api.auth import Doorkeeper
    from nomaflow_api.backing import Backing
    from nomaflow_api.schema import Schema

UNAUTHENTICATED = "Send `Authorization: Bearer <token>` with a token that this API knows."
STATUS = {ApiCode.INTERNAL: 500, ApiCode.UNAVAILABLE: 503, ApiCode.TIMEOUT: 504}
"""Of answers in the strict form when it was not the caller's mistake."""
CODES = {401: ApiCode.UNAUTHENTICATED, 503: ApiCode.UNAVAILABLE}
READS = {OperationType.QUERY}
ALL = {OperationType.QUERY, OperationType.MUTATION}
_SSE = SSETransport()


@dataclass(frozen=True, slots=True)
class Asked:
    """One operation as it came in."""

    query: str
    operation_name: str | None
    variables: Mapping[str, Any] | None


class GraphqlOverHttp:
    """The endpoint; nothing is read of a request before its sender is known."""

    def __init__(self, schema: Schema, backing: Backing, doorkeeper: Doorkeeper) -> None:
        self._schema = schema
        self._backing = backing
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        media = negotiation.choose(request.headers.get("accept"))
        try:
            response = await self._answer(request, media)
        except Refused as refused:
            response = _refusal(refused, media or Media.JSON)
        except NomaflowError as error:
            response = _refusal(Refused(503, error.message), media or Media.JSON)
        except ClientDisconnect:
            return
        response.headers["Vary"] = "Accept"
        await response(scope, receive, send)

    async def _answer(self, request: Request, media: Media | None) -> Response:
        if request.method not in {"GET", "POST"}:
            raise Refused(
                405, "GraphQL is asked by POST, or GET for queries.", {"Allow": "GET, POST"}
            )
        caller = self._doorkeeper.caller(request.headers)
        if caller is None:
            raise Refused(401, UNAUTHENTICATED, {"WWW-Authenticate": "Bearer"})
        if media is None:
            raise Refused(406, f"This API answers as {', '.join(Media)}.")
        asked = _asked(await _parameters(request))
        context = Context(self._backing, caller)
        allowed = READS if request.method == "GET" else ALL
        if media is Media.EVENTS:
            return await self._stream(asked, context, allowed)
        try:
            result = await self._schema.execute(
                asked.query,
                variable_values=dict(asked.variables or {}),
                context_value=context,
                operation_name=asked.operation_name,
                allowed_operation_types=allowed,
            )
        except InvalidOperationTypeError as error:
            raise _not_this_way(error.operation_type) from None
        except CannotGetOperationTypeError as error:
            raise Refused(400, error.as_http_error_reason()) from None
        except MissingQueryError:
            raise Refused(400, "There is no GraphQL document to run.") from None
        return _response(result, media)

    async def _stream(
        self, asked: Asked, context: Context, allowed: set[OperationType]
    ) -> Response:
        results = await self._schema.stream(
            asked.query,
            variable_values=dict(asked.variables or {}),
            context_value=context,
            operation_name=asked.operation_name,
            allowed_operation_types=allowed | {OperationType.SUBSCRIPTION},
        )

        async def events() -> AsyncIterator[str]:
            async for result in results:
                yield _SSE.encode_event(
                    "next", to_json(_shape(cast("ExecutionResult", result))).decode()
                )
            yield _SSE.encode_complete()

        stream = merge_stream_with_heartbeat(
            events,  # type: ignore[arg-type]
            lambda: _SSE.encode_comment("still here"),
            _SSE.heartbeat_interval,
            send_initial_heartbeat=False,
        )
        return StreamingResponse(stream(), headers=dict(_SSE.headers))


async def _parameters(request: Request) -> Mapping[str, Any]:
    if request.method == "GET":
        found: dict[str, Any] = dict(request.query_params)
        for name in ("variables", "extensions"):
            if found.get(name):
                found[name] = body.parsed(found[name])
        return found
    body.needs_json(request)
    value = body.parsed(await body.read(request))
    if not isinstance(value, dict):
        raise Refused(400, "The body must be one JSON object; batches are not taken.")
    return value


def _asked(found: Mapping[str, Any]) -> Asked:
    query, name, variables = (found.get(k) for k in ("query", "operationName", "variables"))
    if not isinstance(query, str) or not query.strip():
        raise Refused(400, "`query` must be the text of a GraphQL document.")
    if not isinstance(name, str | None):
        raise Refused(400, "`operationName` must be text.")
    for part in ("variables", "extensions"):
        if not isinstance(found.get(part), dict | None):
            raise Refused(400, f"`{part}` must be an object.")
    if not is_storable(query):
        raise Refused(400, "The document holds NUL or half a surrogate pair.")
    return Asked(query, name or None, variables)


def _not_this_way(kind: OperationType) -> Refused:
    if kind is OperationType.SUBSCRIPTION:
        return Refused(
            406,
            "A subscription needs a WebSocket (graphql-transport-ws) or "
            "`Accept: text/event-stream`.",
        )
    return Refused(405, "A mutation is sent by POST.", {"Allow": "POST"})


def _shape(result: ExecutionResult) -> dict[str, Any]:
    if not result.errors:
        return {"data": result.data}
    # A fault outside of every field gets here without having been looked at.
    errors = [error.formatted for error in failures.shown(result.errors)]
    if _never_ran(result):
        return {"errors": errors}
    return {"errors": errors, "data": result.data}


def _never_ran(result: ExecutionResult) -> bool:
    """Tell a request error, which has no `data` entry, from errors of single fields."""
    if isinstance(result, PreExecutionError):
        return True
    return result.data is None and all(e.path is None for e in result.errors or ())


def _response(result: ExecutionResult, media: Media) -> Response:
    shape = _shape(result)
    status = 200
    if "data" not in shape and media is Media.GRAPHQL:
        status = STATUS.get(shape["errors"][0]["extensions"]["code"], 400)
    return _json(shape, status, media)


def _refusal(refused: Refused, media: Media) -> Response:
    code = CODES.get(refused.status, ApiCode.BAD_USER_INPUT)
    error = {"message": refused.message, "extensions": {"code": code.value}}
    form = Media.JSON if media is Media.EVENTS else media
    response = _json({"errors": [error]}, refused.status, form)
    response.headers.update(refused.headers)
    return response


def _json(value: Mapping[str, Any], status: int, media: Media) -> Response:
    return Response(to_json(value), status, media_type=f"{media.value}; charset=utf-8")
