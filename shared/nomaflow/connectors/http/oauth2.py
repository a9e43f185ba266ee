"""OAuth2 client credentials: tokens fetched once, kept until they expire, renewed when refused."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx

from nomaflow.connectors.http import headers
from nomaflow.connectors.http.auth import OAuth2Auth
from nomaflow.errors import StepError

FETCH_SECONDS = 30.0
UNTOLD_SECONDS = 300.0
"""How long a token is used whose server does not say how long it lasts (RFC 6749 section 5.1)."""
LONGEST_SECONDS = 86_400.0
EARLY_SECONDS = 30.0
"""A token is renewed so long before its end, so that it does not end on its way."""
MOST_TOKENS = 100
_OK = 200
_TOO_MANY = 429
_SERVER_ERROR = 500

Post = Callable[[httpx.Request], Awaitable[tuple[int, bytes]]]


@dataclass(slots=True)
class _Kept:
    token: str | None = None
    until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tokens:
    """The access tokens of one client, in memory only.

    `post` sends a token request and answers status and body; `on_secret` hears of each token, so
    that it can be masked wherever it appears.
    """

    def __init__(self, post: Post, on_secret: Callable[[str], None]) -> None:
        self._post = post
        self._on_secret = on_secret
        self._kept: dict[str, _Kept] = {}

    async def get(self, auth: OAuth2Auth) -> str:
        """The token to use now; whoever asks while it is being fetched waits for the same one."""
        kept = self._of(auth)
        async with kept.lock:
            if kept.token is None or time.monotonic() >= kept.until:
                kept.token, lasts = await self._fetched(auth)
                kept.until = time.monotonic() + lasts
            return kept.token

    def refuse(self, auth: OAuth2Auth, token: str) -> None:
        """Forget `token`, which a server has refused, unless it has been renewed since."""
        kept = self._of(auth)
        if kept.token == token:
            kept.token = None

    def _of(self, auth: OAuth2Auth) -> _Kept:
        key = auth.model_dump_json()
        kept = self._kept.pop(key, None) or _Kept()
        self._kept[key] = kept  # last in the order, which is that of use
        if len(self._kept) > MOST_TOKENS:
            del self._kept[next(iter(self._kept))]
        return kept

    async def _fetched(self, auth: OAuth2Auth) -> tuple[str, float]:
        request = token_request(auth)
        where = f"the token endpoint {request.url.scheme}://{request.url.netloc.decode()}"
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                status, data = await self._post(request)
        except TimeoutError:
            words = f"{where} did not answer within {FETCH_SECONDS:g} s"
            raise StepError(words, category="timeout") from None
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if status != _OK:
            again = status >= _SERVER_ERROR or status == _TOO_MANY
            words = f"{where} answered {status}{_reason(answer, auth)}"
            raise StepError(words, retryable=again)
        return self._token(answer, where)

    def _token(self, answer: Any, where: str) -> tuple[str, float]:
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token:
            raise StepError(f"{where} answered without an `access_token`", retryable=False)
        kind = answer.get("token_type", "Bearer")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise StepError(f"{where} gives {kind!r:.40} tokens, not Bearer ones", retryable=False)
        self._on_secret(token)
        return token, lifetime(answer.get("expires_in"))


def token_request(auth: OAuth2Auth) -> httpx.Request:
    """The request of RFC 6749 section 4.4.2; StepError when the token URL is none."""
    scope = auth.scope if isinstance(auth.scope, str) else " ".join(auth.scope)
    fields = {"grant_type": "client_credentials", **auth.params}
    if scope:
        fields["scope"] = scope
    if auth.audience:
        fields["audience"] = auth.audience
    sent = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    if auth.client_auth == "body":
        fields |= {"client_id": auth.client_id, "client_secret": auth.client_secret}
    else:  # both parts are encoded first (RFC 6749 section 2.3.1)
        pair = f"{quote_plus(auth.client_id)}:{quote_plus(auth.client_secret)}"
        sent["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    try:
        return httpx.Request(
            "POST", auth.token_url, headers=sent, content=urlencode(fields).encode()
        )
    except (httpx.InvalidURL, UnicodeError) as error:
        words = f"the token URL cannot be read: {headers.without_quotes(error)}"
        raise StepError(words, retryable=False) from None


def lifetime(expires_in: Any) -> float:
    """Seconds a token is used: its own time, less a little, never more than a day."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError):
        return UNTOLD_SECONDS
    if not 0 <= seconds <= LONGEST_SECONDS:
        return LONGEST_SECONDS if seconds > 0 else UNTOLD_SECONDS
    return max(seconds - EARLY_SECONDS, seconds / 2)


def _reason(answer: Any, auth: OAuth2Auth) -> str:
    """The server's own words (RFC 6749 section 5.2), in case it repeats them without the secret."""
    if not isinstance(answer, dict):
        return ""
    said = [answer.get(name) for name in ("error", "error_description")]
    words = ": ".join(" ".join(word.split())[:200] for word in said if isinstance(word, str))
    return f": {words.replace(auth.client_secret, '***')}" if words else ""
