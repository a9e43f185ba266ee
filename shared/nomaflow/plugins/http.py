"""`ctx.http`: requests that answer the decoded body, or fail in a sentence without secrets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from nomaflow.connectors.http.client import HttpClient, Reply, Request
from nomaflow.connectors.http.connector import HttpSettings
from nomaflow.errors import StepError

_EXCERPT = 2000
_BODIES = ("json", "data", "content", "body")


@dataclass(frozen=True, slots=True)
class _Kept:
    client: HttpClient
    holder: AsyncGenerator[None]


async def _held(client: HttpClient) -> AsyncGenerator[None]:
    """Close `client` with its loop, which ends every generator begun in it (PEP 525)."""
    try:
        yield
    finally:
        await client.close()


class StepHttp:
    """Requests of a function; `settings` are those of an HTTP connector, or the plain ones.

    The same door as the `http` step's: one guard, one set of credentials, connections kept. A
    function that runs loops of its own has a client in each.
    """

    def __init__(self, settings: HttpSettings | None = None) -> None:
        self._settings = settings or HttpSettings()
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = WeakKeyDictionary()

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Any = None,
        headers: Any = None,
        timeout: float = 60.0,
        follow_redirects: bool = False,
        max_bytes: int = 10_000_000,
        **body: Any,
    ) -> Any:
        """Send one request and answer its body; see `nomaflow.step_context.Http`."""
        request = Request(
            method=method.upper(),
            url=url,
            query=dict(params or {}),
            headers=dict(headers or {}),
            body=_body(body),
            max_bytes=max_bytes,
            follow_redirects=follow_redirects,
        )
        client = await self._client()
        try:
            async with asyncio.timeout(timeout):
                reply = await client.send(request)
        except TimeoutError:
            where = client.shown_address(request)
            raise StepError(
                f"{request.method} {where}: no answer within {timeout:g} s", category="timeout"
            ) from None
        if not 200 <= reply.status < 300:  # noqa: PLR2004  RFC 9110 section 15.3
            raise _refused(request.method, reply)
        return reply.body

    async def _client(self) -> HttpClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            client = HttpClient(self._settings)
            holder = _held(client)
            self._clients[loop] = _Kept(client, holder)
            await anext(holder)
        return self._clients[loop].client

    async def get(self, url: str, **options: Any) -> Any:
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> Any:
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> Any:
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Any) -> Any:
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Any) -> Any:
        return await self.request("DELETE", url, **options)


def _body(given: dict[str, Any]) -> Any:
    """The one body among httpx's words for it and ours; a TypeError as Python's own otherwise."""
    strangers = [name for name in given if name not in _BODIES]
    if strangers:
        raise TypeError(f"ctx.http does not take {', '.join(map(repr, strangers))}")
    if len(given) > 1:
        raise TypeError(f"one body, not {' and '.join(given)}")
    return next(iter(given.values()), None)


def _refused(method: str, reply: Reply) -> StepError:
    excerpt = str(reply.body)[:_EXCERPT] if reply.body else ""
    words = f"{method} {reply.url} answered {reply.status} {reply.reason}".rstrip()
    return StepError(
        f"{words}: {excerpt}" if excerpt else words,
        retry_after=reply.retry_after,
        output={"status": reply.status, "body": excerpt},
        http_status=reply.status,
    )
