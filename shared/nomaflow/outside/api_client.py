"""A small client of the API: queries over HTTP, subscriptions that outlive a lost connection.

    async with Client.connect() as api:
        data = await api.query("{ jobs { nodes { name } } }")

Without arguments it finds a running `nomaflow up` and its token by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from nomaflow.errors import Code
from nomaflow.outside import address, refusals
from nomaflow.outside.address import Address
from nomaflow.outside.refusals import ClientError

PROTOCOL = Subprotocol("graphql-transport-ws")
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
UNAUTHENTICATED_CLOSE_CODES = frozenset({4401, 4403})
MISUSE_CLOSE_CODES = frozenset({4400, 4406, 4409, 4429})
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 3.0

PASSING = frozenset({"SLOW_CONSUMER", "UNAVAILABLE", "TIMEOUT"})

JSON = dict[str, Any]


class _Lost(Exception):
    """The connection went away in a way that a new one may mend."""


class Client:
    """Talks to one API with one token.

    `name` tells the API who calls (`Nomaflow-Client`): `cli/<os user>` for the command line.
    `timeout` bounds one query; `patience` how long a subscription looks for a lost API. Seconds.
    """

    def __init__(
        self, place: Address, name: str = "python", *, timeout: float = 30, patience: float = 60
    ) -> None:
        self.place = place
        self.patience = patience
        self._headers = {"Nomaflow-Client": name}
        if place.token:
            self._headers["Authorization"] = f"Bearer {place.token}"
        self._http = httpx.AsyncClient(
            headers=self._headers | {"Accept": "application/graphql-response+json"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5)),
            trust_env=not place.is_loopback,  # a proxy has no business between us and ourselves
        )

    @classmethod
    def connect(cls, url: str | None = None, name: str = "python") -> Self:
        """Find the address and the token as `address.find` does."""
        return cls(address.find(url), name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def query(self, document: str, variables: Mapping[str, Any] | None = None) -> JSON:
        """Run a query or mutation; gives `data`, or raises ClientError with the API's sentence."""
        request = {"query": document, "variables": dict(variables or {})}
        try:
            response = await self._http.post(self.place.graphql, json=request)
        except httpx.TimeoutException:
            raise refusals.unreachable(self.place, "did not answer in time") from None
        except httpx.TransportError as error:
            raise refusals.unreachable(self.place, f"does not answer ({_words(error)})") from None
        return refusals.data_of(self.place, response)

    async def mutate(self, document: str, variables: Mapping[str, Any] | None = None) -> JSON:
        """Run a mutation of one field; gives its payload, or raises ClientError of its `errors`."""
        data = await self.query(document, variables)
        payload: JSON = next(iter(data.values()))
        problems = payload.get("errors") or []
        if problems:
            first = problems[0]
            raise ClientError(
                Code(first["code"]),
                "\n".join(refusals.located(problem) for problem in problems),
                tuple(first.get("path") or ()),
                reported=first["code"],
            )
        return payload

    async def subscribe(
        self, document: str, variables: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[JSON, None]:
        """Yield each result's `data` until the API completes the subscription.

        A document that takes `$after` and asks for `cursor` goes on where it was after a lost
        connection, with no gap and no repeat; any other ends with ClientError (UNAVAILABLE).
        """
        resumable = "$after" in document
        now = dict(variables or {})
        clock = asyncio.get_running_loop().time
        wait, lost_at = FIRST_WAIT_SECONDS, None
        while True:
            try:
                async with aclosing(self._results(document, now)) as results:
                    async for data in results:
                        wait, lost_at = FIRST_WAIT_SECONDS, None
                        if resumable and (cursor := _cursor(data)) is not None:
                            now["after"] = cursor
                        yield data
                return
            except _Lost as loss:
                lost_at = lost_at or clock()
                if not resumable or clock() - lost_at + wait > self.patience:
                    raise refusals.unreachable(self.place, f"does not answer ({loss})") from None
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    async def _results(
        self, document: str, variables: Mapping[str, Any]
    ) -> AsyncGenerator[JSON, None]:
        """Run one subscription on one socket of its own."""
        async with self._socket() as socket:
            payload = {"query": document, "variables": dict(variables)}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
            async for message in _messages(socket):
                match message["type"]:
                    case "next" if message["payload"].get("errors"):
                        raise self._ended(message["payload"]["errors"])
                    case "next":
                        yield message["payload"]["data"]
                    case "error":
                        raise self._ended(message["payload"])
                    case "complete":
                        return

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[ClientConnection]:
        """Open a socket and sign in on it; _Lost for what another try may mend."""
        try:
            async with connect_socket(
                self.place.socket,
                subprotocols=[PROTOCOL],
                additional_headers=self._headers,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=5,
                close_timeout=1,
                proxy=None if self.place.is_loopback else True,
            ) as socket:
                token = {"authorization": self._headers.get("Authorization", "")}
                await socket.send(json.dumps({"type": "connection_init", "payload": token}))
                async for message in _messages(socket):
                    if message["type"] == "connection_ack":
                        break
                yield socket
        except ConnectionClosed as error:
            raise self._closed(error) from None
        except InvalidStatus as error:
            status = error.response.status_code
            if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
                raise refusals.of_token(self.place) from None
            raise _Lost(f"it answered {status}") from None
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise _Lost(_words(error)) from None

    def _closed(self, error: ConnectionClosed) -> Exception:
        code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")
        if code in UNAUTHENTICATED_CLOSE_CODES:
            return refusals.of_token(self.place, reason)
        if code in MISUSE_CLOSE_CODES:
            return ClientError(Code.INVALID, f"The API ended the subscription: {code} {reason}.")
        return _Lost(f"the connection ended with {code} {reason}".rstrip())

    def _ended(self, errors: list[JSON]) -> Exception:
        error = refusals.reported(self.place, errors)
        return _Lost(error.message) if error.reported in PASSING else error


async def _messages(socket: ClientConnection) -> AsyncIterator[JSON]:
    """Read what the API says, answering its pings."""
    while True:
        message: JSON = json.loads(await socket.recv())
        if message["type"] == "ping":
            await socket.send(json.dumps({"type": "pong"}))
            continue
        yield message


def _cursor(data: JSON) -> str | None:
    """Find the cursor in the subscription's one field."""
    value = next(iter(data.values()), None)
    return value.get("cursor") if isinstance(value, dict) else None


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
