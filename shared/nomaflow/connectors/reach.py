"""Which hosts and files a connector leads to, and what of that its secrets are bound to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nomaflow.connectors.http.auth import OAuth2Auth
from nomaflow.connectors.spec import (
    ConnectorSpec,
    HttpConnectorSpec,
    LdapConnectorSpec,
    SqlConnectorSpec,
)

_PLACES = ("kind", "driver", "host", "port", "proxy")
_FILE_OPTIONS = ("ssl_ca", "sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")


def hosts(spec: ConnectorSpec) -> Iterator[str]:
    """Yield the hosts that a rendered connector names."""
    match spec:
        case SqlConnectorSpec():
            yield from filter(None, (spec.host, *_url_hosts(spec.url)))
        case HttpConnectorSpec():
            yield from (*_url_hosts(spec.url), *_url_hosts(spec.proxy))
            if isinstance(spec.auth, OAuth2Auth):
                yield from _url_hosts(spec.auth.token_url)
        case LdapConnectorSpec():
            yield from _url_hosts(spec.url)


def files(spec: ConnectorSpec) -> Iterator[str]:
    """Yield the files that it reads or writes."""
    ca_file = getattr(spec, "ca_file", None)
    if ca_file:
        yield ca_file
    if isinstance(spec, SqlConnectorSpec):
        if spec.driver in {"sqlite", "sqlite3"} and spec.database:
            yield spec.database
        if spec.url:
            options = parse_qs(urlsplit(spec.url).query)
            yield from (value for name in _FILE_OPTIONS for value in options.get(name, ()))


def destination(definition: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Where a connector sends its secrets, as it was written: they are bound to that place."""
    found = {(name, str(definition[name])) for name in _PLACES if definition.get(name)}
    auth = definition.get("auth")
    urls = {"url": definition.get("url")}
    if isinstance(auth, Mapping):
        urls["token_url"] = auth.get("token_url")
    for name, url in urls.items():
        if isinstance(url, str):
            head, _, rest = url.partition("://")
            netloc = (rest or head).partition("/")[0].partition("?")[0]
            found.add((name, f"{head if rest else ''}://{netloc.rpartition('@')[2]}"))
    return frozenset(found)


def _url_hosts(url: str | None) -> Iterator[str]:
    """Yield the hosts of a URL; PostgreSQL's may name several, and one in its query."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
    except ValueError:
        return
    netloc = parts.netloc.rpartition("@")[2]
    for place in (*netloc.split(","), *query.get("host", ())):
        if place.startswith("["):
            yield place[1:].partition("]")[0]
        elif host := place.partition(":")[0]:
            yield host
