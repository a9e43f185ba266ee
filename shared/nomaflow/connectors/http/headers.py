"""Which request headers a person may set, and how an address is shown without its secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")  # RFC 9110 section 5.5
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te"})
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_TOKEN_LIKE = re.compile(r"(?=[^/]*\d)[A-Za-z0-9_\-=.:~]{20,}")


def checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The same headers; ValueError for a name or value that HTTP or we do not allow."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r:.60} is not the name of a header")
        if name.lower() in _OURS:
            raise ValueError(f"the header {name} is set by the request itself and cannot be given")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the header {name} holds a line break or control character")
    return headers


def without_quotes(error: Exception) -> str:
    """What is wrong with a URL, in the parser's words, without what it quotes: part of a secret."""
    return _QUOTED.sub("...", str(error))


def shown(url: httpx.URL) -> str:
    """The URL for a message: no user, no query values, no path segment that looks like a token."""
    path = "/".join(
        "***" if _TOKEN_LIKE.fullmatch(segment) else segment for segment in url.path.split("/")
    )
    names = [name for name, _ in url.params.multi_items()]
    query = "?" + "&".join(f"{name}=..." for name in names) if names else ""
    port = f":{url.port}" if url.port else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}{port}{path}{query}"
