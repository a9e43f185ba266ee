"""Credentials put on a request just before it is sent, once its address and headers are final."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import httpx

from nomaflow.connectors.http import headers, signing
from nomaflow.connectors.http.auth import (
    AnyAuth,
    ApiKeyAuth,
    AwsSigV4Auth,
    BasicAuth,
    BearerAuth,
    OAuth2Auth,
)
from nomaflow.connectors.http.oauth2 import Post, Tokens
from nomaflow.errors import StepError

AUTHORIZATION = "authorization"


class Credentials:
    """What one client knows of who it is; a header that a request gives itself is left alone."""

    def __init__(self, post: Post, on_secret: Callable[[str], None]) -> None:
        self._tokens = Tokens(post, on_secret)

    async def apply(
        self, draft: httpx.Request, auth: AnyAuth | None, url: httpx.URL, given: Mapping[str, str]
    ) -> str | None:
        """Put `auth` on `draft`, or the user of `url` without one; the token used, if it is one."""
        own = {name.lower() for name in given}
        if isinstance(auth, ApiKeyAuth):
            if auth.place == "header" and auth.name.lower() not in own:
                _put(draft, auth.key, name=auth.name)
            auth = None
        if AUTHORIZATION in own:
            return None
        match auth:
            case None if url.userinfo:
                user, _, password = url.userinfo.decode("ascii").partition(":")
                _put(draft, _basic(unquote(user), unquote(password)))
            case BearerAuth():
                _put(draft, f"Bearer {auth.token}")
            case BasicAuth():
                _put(draft, _basic(auth.username, auth.password))
            case OAuth2Auth():
                token = await self._tokens.get(auth)
                _put(draft, f"Bearer {token}")
                return token
            case AwsSigV4Auth():
                signing.sign(draft, auth)
        return None

    def refuse(self, auth: AnyAuth | None, token: str) -> None:
        """Forget a token that a server has refused."""
        if isinstance(auth, OAuth2Auth):
            self._tokens.refuse(auth, token)


def in_query(auth: AnyAuth | None) -> dict[str, str]:
    """The query parameter that carries a key, if that is its place."""
    return {auth.name: auth.key} if isinstance(auth, ApiKeyAuth) and auth.place == "query" else {}


def _put(draft: httpx.Request, value: str, name: str = AUTHORIZATION) -> None:
    try:
        headers.checked({name: value})
    except ValueError:
        words = "the credentials hold a line break or control character, which no header can carry"
        raise StepError(words, retryable=False) from None
    draft.headers[name] = value.strip(" \t")


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
