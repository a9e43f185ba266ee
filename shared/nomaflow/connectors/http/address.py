"""The whole address of a request: a relative URL under its connector's, and query parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import httpx

from nomaflow.connectors import outbound
from nomaflow.connectors.http import headers
from nomaflow.errors import StepError

DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST = 65_536


def whole(base_url: str | None, url: str, query: Mapping[str, Any]) -> httpx.URL:
    """`url`, under `base_url` where there is one, with `query` added.

    StepError when it is no URL, is not absolute without a base, or leaves the base: another
    host, or a path above the base's.
    """
    try:
        found = httpx.URL(url)
        if base_url is not None:
            base = httpx.URL(base_url)
            has_path = url[:1] not in {"", "?", "#"}
            found = _joined(base, found, has_path=has_path)
        given = {name: _plain(value) for name, value in query.items() if value is not None}
        found = found.copy_merge_params(given) if given else found
    except (httpx.InvalidURL, UnicodeError, TypeError, ValueError) as error:
        words = f"the URL cannot be read: {headers.without_quotes(error)}"
        raise StepError(words, retryable=False) from None
    if not found.scheme or len(found.raw_path) > _LONGEST:
        what = "is too long" if found.scheme else "is not absolute; begin it with https://"
        raise StepError(
            f"the URL {headers.shown(found)[:60]!r} {what}"
            + ("" if found.scheme else " or name a connector"),
            retryable=False,
        )
    return found.copy_with(fragment=None) if found.fragment else found


def _plain(value: Any) -> Any:
    """A table in a query travels as JSON; a list repeats its name."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else value


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: what credentials belong to (RFC 6454)."""
    port = url.port or DEFAULT_PORTS.get(url.scheme)
    return url.scheme, outbound.plain_host(url.host), port


def _joined(base: httpx.URL, url: httpx.URL, *, has_path: bool) -> httpx.URL:
    if url.is_absolute_url:
        if origin(url) != origin(base):
            raise StepError(
                f"{headers.shown(url)} is not under the connector's {headers.shown(base)}; its "
                "credentials are only sent there",
                retryable=False,
            )
        return url if url.userinfo else url.copy_with(userinfo=base.userinfo)
    if url.scheme or url.host:
        raise StepError(
            f"the URL {headers.shown(url)[:60]!r} is neither absolute nor a path under the "
            f"connector's {headers.shown(base)}; begin a path with /",
            retryable=False,
        )
    if any(unquote(part) in {".", ".."} for part in url.path.split("/")):
        raise StepError(
            f"the path {url.path[:60]!r} climbs above the connector's {headers.shown(base)}",
            retryable=False,
        )
    path, _, query = base.raw_path.partition(b"?")
    below, _, own_query = url.raw_path.partition(b"?")
    if has_path:
        path = path.rstrip(b"/") + b"/" + below.lstrip(b"/")
    queries = b"&".join(filter(None, (query, own_query)))
    return base.copy_with(raw_path=path + (b"?" + queries if queries else b""))
