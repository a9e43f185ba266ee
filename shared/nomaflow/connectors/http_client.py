"""Sending one HTTP request: credentials, redirects, limits, and the answer decoded."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from nomaflow.connectors import decoding, headers, outbound
from nomaflow.connectors.http import HttpSettings
from nomaflow.connectors.spec import AnyAuth, ApiKeyAuth, BasicAuth, BearerAuth
from nomaflow.errors import StepError

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 300.0
REDIRECTS_AT_MOST = 5
_AGENT = "nomaflow"
_SAFE_ACROSS_HOSTS = {"accept", "accept-encoding", "accept-language", "user-agent"}


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

    @property
    def retry_after(self) -> float | None:
        """Seconds the server asks to wait (RFC 9110 section 10.2.3), or None."""
        return retry_after(self.headers.get("retry-after"), datetime.now(UTC))


async def send(settings: HttpSettings, request: Request) -> Reply:
    """Send `request` and read the whole answer, whatever its status.

    StepError: category connection when no answer came, `retryable=False` when the address is
    not allowed or the answer too big.
    """
    url = address(settings, request)
    started = time.monotonic()
    content, extra = _content(request.body)
    sent = _headers(settings, request, extra)
    transport = outbound.GuardedTransport(settings.policy)
    limits = httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS, write=SILENCE_SECONDS)
    async with httpx.AsyncClient(transport=transport, timeout=limits, trust_env=False) as client:
        draft = httpx.Request(request.method, url, headers=sent, content=content)
        for _ in range(REDIRECTS_AT_MOST + 1):
            outbound.check_url(draft.url, settings.policy)
            answer = await _exchange(client, draft, request, started)
            if isinstance(answer, Reply):
                return answer
            draft = answer
    raise StepError(
        f"{request.method} {headers.shown(url)} was redirected more than {REDIRECTS_AT_MOST} times"
    )


def address(settings: HttpSettings, request: Request) -> httpx.URL:
    """The request's whole URL; StepError when it is not one, or leaves its connector's host."""
    try:
        url = httpx.URL(request.url)
        if settings.base_url is not None:
            base = httpx.URL(settings.base_url)
            url = _joined(base, url) if request.url else base
        url = _with_query(url, {**_key_in_query(request.auth or settings.auth), **request.query})
    except (httpx.InvalidURL, UnicodeError, TypeError, ValueError) as error:
        raise StepError(f"the URL cannot be read: {error}", retryable=False) from None
    if not url.scheme:
        raise StepError(
            f"the URL {request.url[:60]!r} is not absolute; begin it with https:// or name a "
            "connector",
            retryable=False,
        )
    return url


def shown_address(settings: HttpSettings, request: Request) -> str:
    """Where the request would go, for people; checked as if it were sent."""
    url = address(settings, request)
    outbound.check_url(url, settings.policy)
    return headers.shown(url)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds of a Retry-After header, given as a number or as a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())


async def _exchange(
    client: httpx.AsyncClient, draft: httpx.Request, request: Request, started: float
) -> Reply | httpx.Request:
    """One hop: the reply, or the next request when a redirect is to be followed."""
    where = f"{draft.method} {headers.shown(draft.url)}"
    try:
        response = await client.send(draft, stream=True)
        try:
            if request.follow_redirects and response.has_redirect_location:
                return _redirected(draft, response)
            data = await decoding.body(response, request.max_bytes)
        finally:
            await response.aclose()
    except StepError as error:
        raise StepError(
            f"{where}: {error.message}", category=error.category, retryable=error.retryable
        ) from None
    except httpx.TimeoutException as error:
        what = "no connection" if isinstance(error, httpx.ConnectTimeout) else "no answer"
        raise StepError(f"{where}: {what} in time", category="connection") from None
    except httpx.HTTPError as error:
        words = str(error) or type(error).__name__
        raise StepError(f"{where}: {words}", category="connection") from None
    return Reply(
        status=response.status_code,
        reason=response.reason_phrase,
        headers=response.headers,
        body=_decoded(response, data),
        elapsed_ms=round((time.monotonic() - started) * 1000),
        url=headers.shown(draft.url),
    )


def _redirected(draft: httpx.Request, response: httpx.Response) -> httpx.Request:
    """The next request: credentials stay behind when the host changes (RFC 9110 section 15.4)."""
    target = draft.url.join(response.headers["location"])
    same = _origin(target) == _origin(draft.url)
    keeps_method = response.status_code in {307, 308} or draft.method in {"GET", "HEAD"}
    method = draft.method if keeps_method else "GET"
    content = draft.content if keeps_method else b""
    if content and not same:
        raise StepError(
            f"redirected to {headers.shown(target)}, another host; the body is not sent there",
            retryable=False,
        )
    kept = {
        name: value
        for name, value in draft.headers.items()
        if name.lower() not in {"host", "content-length", "transfer-encoding"}
        and (same or name.lower() in _SAFE_ACROSS_HOSTS)
        and (content or name.lower() != "content-type")
    }
    target = target.copy_with(userinfo=b"")
    return httpx.Request(method, target, headers=kept, content=content or None)


def _headers(settings: HttpSettings, request: Request, extra: Mapping[str, str]) -> dict[str, str]:
    merged = httpx.Headers({"User-Agent": _AGENT, "Accept": "*/*", **extra})
    merged.update(settings.headers)
    merged.update(_credentials(request.auth or settings.auth))
    merged.update(request.headers)
    merged["Accept-Encoding"] = decoding.ACCEPTED
    out = dict(merged.items())
    try:
        headers.checked(out)
    except ValueError as error:
        raise StepError(str(error), retryable=False) from None
    return out


def _credentials(auth: AnyAuth | None) -> dict[str, str]:
    match auth:
        case BearerAuth():
            return {"Authorization": f"Bearer {auth.token}"}
        case BasicAuth():
            pair = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        case ApiKeyAuth(place="header"):
            return {auth.name: auth.key}
        case _:
            return {}


def _key_in_query(auth: AnyAuth | None) -> dict[str, str]:
    return {auth.name: auth.key} if isinstance(auth, ApiKeyAuth) and auth.place == "query" else {}


def _content(body: Any) -> tuple[bytes | None, dict[str, str]]:
    """The bytes of a body, and the content type that goes with them unless one is given."""
    match body:
        case None:
            return None, {}
        case bytes():
            return body, {}
        case str():
            return body.encode(), {}
        case _:
            try:
                text = json.dumps(body, ensure_ascii=False, allow_nan=False, default=str)
            except (TypeError, ValueError) as error:
                raise StepError(f"the body has no JSON form: {error}", retryable=False) from None
            return text.encode(), {"Content-Type": "application/json"}


def _joined(base: httpx.URL, url: httpx.URL) -> httpx.URL:
    """`url` under the connector's: an absolute one must lead to the same host."""
    if url.is_relative_url:
        path = base.raw_path.partition(b"?")[0].rstrip(b"/") + b"/" + url.raw_path.lstrip(b"/")
        return base.copy_with(raw_path=path)
    if _origin(url) != _origin(base):
        raise StepError(
            f"{headers.shown(url)} is not under the connector's {headers.shown(base)}; its "
            "credentials are only sent there",
            retryable=False,
        )
    return url


def _with_query(url: httpx.URL, query: Mapping[str, Any]) -> httpx.URL:
    given = {name: value for name, value in query.items() if value is not None}
    return url.copy_merge_params(given) if given else url


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, outbound.plain_host(url.host), port


def _decoded(response: httpx.Response, data: bytes) -> Any:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not data:
        return None if kind != "text/plain" else ""
    if kind in {"", "application/json"} or kind.endswith("+json"):
        try:
            return json.loads(data, parse_constant=_not_json)
        except (ValueError, RecursionError):
            pass  # it says JSON and is none: handed on as the text it is
    try:
        return data.decode(response.charset_encoding or "utf-8")
    except (UnicodeDecodeError, LookupError):
        return data


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
