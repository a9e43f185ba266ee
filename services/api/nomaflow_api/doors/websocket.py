"""GraphQL over WebSocket: the protocol graphql-transport-ws, strictly, and nothing before it.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError
from pydantic_core import from_json, to_json
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http.exceptions import NonJsonMessageReceived
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)

from nomaflow.errors import NomaflowError
from nomaflow_api.context import Context
from nomaflow_api.doors import body
from nomaflow_api.doors.failures import ApiCode, refusal

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from nomaflow_api.auth import Caller, Doorkeeper
    from nomaflow_api.backing import Backing
    from nomaflow_api.schema import Schema

INIT_SECONDS = 5
SUBSCRIPTIONS = 20
UNAUTHORIZED, BAD_REQUEST, TRY_AGAIN = 4401, 4400, 1013


class _Handler(BaseGraphQLTransportWSHandler[Any, None]):
    """Strawberry's handler, made strict about what a client may send."""

    view: GraphqlOverWebSocket

    async def handle_message(self, message: Any) -> None:
        """Close with 4400 what is not a message, instead of falling over it."""
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            await self.handle_invalid_message("A message must be a JSON object with a type")
            return
        await super().handle_message(message)  # type: ignore[arg-type]

    async def handle_connection_init(self, message: Any) -> None:
        """Let in whoever shows a token; the protocol takes care of the rest."""
        payload = message.get("payload") or {}
        if isinstance(payload, dict) and not self.connection_init_received:
            caller = self.view.admit(payload, self.context)
            if caller is None:
                await self.websocket.close(UNAUTHORIZED, "Unauthorized")
                return
            try:
                self.context = Context(self.view.backing, caller)
            except NomaflowError:
                await self.websocket.close(TRY_AGAIN, "The database cannot be reached just now")
                return
        message["payload"] = payload  # absent and null are the same
        await super().handle_connection_init(message)

    async def handle_subscribe(self, message: Any) -> None:
        """Check the shape of an operation before the protocol takes it."""
        wrong = _wrong(message)
        if wrong is not None:
            await self.handle_invalid_message(wrong)
            return
        if self.connection_acknowledged and message["id"] not in self.operations:
            unusable = body.unusable(message["payload"])
            if unusable is not None:
                await self._refuse(message["id"], refusal(ApiCode.BAD_USER_INPUT, unusable))
                return
            if len(self.operations) >= SUBSCRIPTIONS:
                words = f"At most {SUBSCRIPTIONS} operations may run on one connection."
                await self._refuse(message["id"], refusal(ApiCode.RATE_LIMITED, words))
                return
        await super().handle_subscribe(message)

    async def _refuse(self, operation: str, error: GraphQLError) -> None:
        await self.send_message({"id": operation, "type": "error", "payload": [error.formatted]})


def _wrong(message: dict[str, Any]) -> str | None:
    payload = message.get("payload")
    if not isinstance(message.get("id"), str) or not message["id"]:
        return "A subscribe message needs an id"
    if not isinstance(payload, dict) or not isinstance(payload.get("query"), str):
        return "A subscribe message needs a payload with the text of a query"
    if not isinstance(payload.get("variables"), dict | None):
        return "Variables must be an object"
    if not isinstance(payload.get("operationName"), str | None):
        return "The operation name must be text"
    return None


class GraphqlOverWebSocket(GraphQL[Any, None]):
    """The endpoint; strawberry refuses a page of another origin before we hear of it."""

    graphql_transport_ws_handler_class = _Handler

    def __init__(self, schema: Schema, backing: Backing, doorkeeper: Doorkeeper) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=INIT_SECONDS),
            max_subscriptions_per_connection=SUBSCRIPTIONS,
        )
        self.backing = backing
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        await super().__call__(scope, receive, send)

    async def get_context(self, request: Any, response: Any) -> Any:
        """Keep the handshake until `connection_init` says who it is."""
        return request if isinstance(request, WebSocket) else response

    def admit(self, payload: dict[str, Any], handshake: WebSocket) -> Caller | None:
        """Return who opens the connection, or None."""
        return self._doorkeeper.caller_by_payload(payload, handshake.headers)

    def decode_json(self, data: str | bytes) -> object:
        """Read a message; what Python's own reader falls over is refused as not JSON."""
        try:
            return from_json(data, allow_inf_nan=False)
        except ValueError as error:
            raise NonJsonMessageReceived from error

    def encode_json(self, data: object) -> str:
        """Write a message as text: bytes would leave as a binary frame."""
        return to_json(data).decode()
