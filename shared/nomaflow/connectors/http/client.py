"""Sending HTTP requests: connections, credentials, redirects, limits, and the answer decoded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx

from nomaflow.connectors import outbound
from nomaflow.connectors.http import address as http_address
from nomaflow.connectors.http import body as http_body
from nomaflow.connectors.http import credentials as http_auth
from nomaflow.connectors.http import decoding, headers
from nomaflow.connectors.http.auth import AnyAuth
from nomaflow.connectors.http.connector import HttpSettings
from nomaflow.connectors.http.hops import Hop
from nomaflow.errors import StepError

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 300.0
REDIRECTS_AT_MOST = 5
LONGEST_RETRY_AFTER = 31_536_000.0
"""A year: what a server may say about its return, in seconds; more is the same as never."""
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that mean the same when sent twice (RFC 9110 section 9.2.2)."""

_TIMES = httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS, write=SILENCE_SECONDS).as_dict()
_UNAUTHORIZED = 401
_TOKEN_BYTES = 1_000_000
_BODILESS = frozenset({204, 304})
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


@dataclass(frozen=True, slots=True)
class Request:
    """What to send; `url` may be relative to the connector's."""

    method: str
    url: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    auth: AnyAuth | None = None
    max_bytes: int = 10_000_000
    follow_redirects: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: its body as JSON when it is JSON, as text when it is text, else as bytes."""

    status: int
    reason: str
    headers: httpx.Headers
    body: Any
    elapsed_ms: int
    url: str
    broken: str | None = None
    """Why a body that says it is JSON is none."""

    @property
    def retry_after(self) -> float | None:
        """Seconds the server asks to wait (RFC 9110 section 10.2.3), or None."""
        return retry_after(self.headers.get("retry-after"), datetime.now(UTC))


class NoAnswerError(StepError):
    """No whole answer came; `maybe_received` when the server may have acted on the request."""

    def __init__(self, message: str, *, maybe_received: bool, timeout: bool = False) -> None:
        super().__init__(message, category="timeout" if timeout else "connection")
        self.maybe_received = maybe_received


class HttpClient:
    """Requests of one connector that share its connections, its tokens and its bounds.

    Belongs to one event loop. `on_secret` hears of every token fetched, so that it can be masked.
    """

    def __init__(
        self, settings: HttpSettings, on_secret: Callable[[str], None] = lambda _: None
    ) -> None:
        self.settings = settings
        self._transport: outbound.GuardedTransport | None = None
        self._turns = asyncio.Semaphore(settings.max_connections)
        self._credentials = http_auth.Credentials(self._post, on_secret)

    async def send(self, request: Request) -> Reply:
        """Send `request` and read the whole answer, whatever its status.

        NoAnswerError when there is none; StepError with `retryable=False` when the address is
        not allowed or the answer too big.
        """
        url = self.address(request)
        async with self._turns:
            limit = asyncio.timeout(self.settings.timeout_seconds)
            try:
                async with limit:
                    return await self._followed(url, request)
            except TimeoutError:
                if not limit.expired():
                    raise
                words = f"no whole answer within {self.settings.timeout_seconds:g} s"
                raise NoAnswerError(
                    f"{request.method} {headers.shown(url)}: {words}",
                    maybe_received=True,
                    timeout=True,
                ) from None

    def address(self, request: Request) -> httpx.URL:
        """The request's whole URL; StepError when it is not one, or leaves its connector's host."""
        key = http_auth.in_query(request.auth or self.settings.auth)
        return http_address.whole(self.settings.base_url, request.url, {**key, **request.query})

    def shown_address(self, request: Request) -> str:
        """Where the request would go, for people; checked as if it were sent."""
        url = self.address(request)
        self._check(url)
        return headers.shown(url)

    async def close(self) -> None:
        """Close every connection; a request under way fails."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _followed(self, url: httpx.URL, request: Request) -> Reply:
        """The answer at the end of every redirect that is to be followed."""
        started = time.monotonic()
        layers = (self.settings.headers, request.headers)
        given = {name.lower(): value for layer in layers for name, value in layer.items()}
        content, kind = http_body.content(request.body, given.get("content-type"))
        hop = Hop(request.method, url, content, kind)
        for _ in range(REDIRECTS_AT_MOST + 1):
            answer = await self._answer(hop, request, started)
            if isinstance(answer, Reply):
                return answer
            hop = answer
        raise StepError(
            f"{request.method} {headers.shown(url)} was redirected more than "
            f"{REDIRECTS_AT_MOST} times",
            retryable=False,
        )

    async def _answer(self, hop: Hop, request: Request, started: float) -> Reply | Hop:
        """What one hop answers: a reply, or the next hop."""
        self._check(hop.url)
        where = headers.shown(hop.url)
        with _told(f"{hop.method} {where}"):
            response = await self._authorized(hop, request)
            try:
                if request.follow_redirects and response.has_redirect_location:
                    return hop.onward(response)
                data = await _body(hop, response, request.max_bytes)
            finally:
                await response.aclose()
        body, broken = http_body.decoded(response.headers, data)
        return Reply(
            status=response.status_code,
            reason=response.reason_phrase,
            headers=response.headers,
            body=body,
            elapsed_ms=round((time.monotonic() - started) * 1000),
            url=where,
            broken=broken,
        )

    async def _authorized(self, hop: Hop, request: Request) -> httpx.Response:
        """The head of the answer to one hop; a token that is refused is renewed, once."""
        auth = request.auth or self.settings.auth
        for renewed in (False, True):
            draft = hop.draft(self.settings.headers, request.headers)
            if not hop.own:
                break
            token = await self._credentials.apply(draft, auth, hop.url, request.headers)
            if token is None or renewed:
                break
            response = await self._sent(draft)
            if response.status_code != _UNAUTHORIZED:
                return response
            await response.aclose()
            self._credentials.refuse(auth, token)
        return await self._sent(draft)

    async def _sent(self, draft: httpx.Request) -> httpx.Response:
        """The head of an answer; a kept connection that the server has just closed is no fault."""
        if self._transport is None:
            self._transport = outbound.GuardedTransport(self.settings)
        fresh = False

        async def trace(event: str, _info: Mapping[str, Any]) -> None:
            nonlocal fresh
            fresh = fresh or event == "connection.connect_tcp.started"

        draft.extensions.update(timeout=_TIMES, trace=trace)
        try:
            return await self._transport.handle_async_request(draft)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if fresh or draft.method not in IDEMPOTENT:
                raise
            return await self._transport.handle_async_request(draft)

    async def _post(self, draft: httpx.Request) -> tuple[int, bytes]:
        """A token request: through the same door as every other."""
        self._check(draft.url)
        try:
            with _told(f"POST {headers.shown(draft.url)}"):
                response = await self._sent(draft)
                try:
                    return response.status_code, await decoding.body(response, _TOKEN_BYTES)
                finally:
                    await response.aclose()
        except NoAnswerError as error:  # nothing of what the token is for has been sent
            raise StepError(error.message, category=error.category) from None

    def _check(self, url: httpx.URL) -> None:
        outbound.check_url(url, self.settings.policy)
        if self.settings.proxy:  # the proxy resolves names; addresses can still be told
            outbound.check_literal(url.host, self.settings.policy)


async def _body(hop: Hop, response: httpx.Response, max_bytes: int) -> bytes:
    if hop.method == "HEAD" or response.status_code in _BODILESS:
        return await response.aread()
    try:
        return await decoding.body(response, max_bytes)
    except StepError as error:
        if not error.retryable:
            raise
        words = f"{hop.method} {headers.shown(hop.url)}: {error.message}"
        raise NoAnswerError(words, maybe_received=True) from None


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn what the wire says into a sentence that begins with where it was said."""
    try:
        yield
    except NoAnswerError:
        raise
    except StepError as error:
        raise StepError(
            f"{where}: {error.message}", category=error.category, retryable=error.retryable
        ) from None
    except httpx.LocalProtocolError:  # its words quote what could not be sent
        words = f"{where}: the request is not one that HTTP can carry"
        raise StepError(words, retryable=False) from None
    except httpx.TimeoutException as error:
        sent = not isinstance(error, _NOT_SENT)
        what = "no answer" if sent else "no connection"
        raise NoAnswerError(f"{where}: {what} in time", maybe_received=sent) from None
    except httpx.HTTPError as error:
        sent = not isinstance(error, _NOT_SENT)
        raise NoAnswerError(f"{where}: {_why(error)}", maybe_received=sent) from None


def _why(error: BaseException) -> str:
    """What went wrong, in the words of the first that has any; httpx's own are often empty."""
    below: BaseException | None = error
    while below is not None:
        if words := str(below):
            return words
        below = below.__cause__ or below.__context__
    return "the connection failed"


async def send(through: HttpSettings | HttpClient, request: Request) -> Reply:
    """Send one request, over connections of its own unless a client is given."""
    if isinstance(through, HttpClient):
        return await through.send(request)
    async with HttpClient(through) as client:
        return await client.send(request)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds of a Retry-After header, given as a number or as a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max(0.0, (when - now).total_seconds()), LONGEST_RETRY_AFTER)
