"""Whether a URL as it is written could ever be sent, said before anything runs."""

from __future__ import annotations

import httpx

from nomaflow.connectors.http.headers import without_quotes

_LAST_PORT = 65_535


def wrong(url: str, *, relative: bool) -> str | None:
    """Say why no request could go to this URL; None when one might.

    `relative` allows one that goes under a connector's. With `${...}` in it nothing is known yet.
    """
    if "${" in url:
        return None
    try:
        return _unsendable(httpx.URL(url), relative=relative)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        return f"the URL cannot be read: {without_quotes(error)}"


def _unsendable(found: httpx.URL, *, relative: bool) -> str | None:
    if not found.scheme:
        absent = "the URL is not absolute; begin it with https:// or name a connector"
        return None if relative else absent
    if found.scheme not in {"http", "https"}:
        return f"the scheme {found.scheme[:20]!r} is never sent; begin the URL with https://"
    if not found.host or "%" in found.host:
        return "the URL names no host; write https://host/path"
    if found.port is not None and not 0 < found.port <= _LAST_PORT:
        return f"the URL's port {found.port} is not from 1 to {_LAST_PORT}"
    return None
