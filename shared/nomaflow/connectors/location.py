"""Where a SQL connector leads, read from its URL or its parts, and how it trusts the server."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.errors import StepError

ENCRYPTED = ("require", "verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class Location:
    """A server and a database on it, with the credentials; `options` is the URL's query."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False, default="")
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Where it leads, without its secret."""
        return f"{self.user or 'the default role'}@{self.host}:{self.port}/{self.database}"


def of(name: str, spec: SqlConnectorSpec, port: int) -> Location:
    """Read the URL or the parts; StepError for a URL that cannot be read."""
    if spec.url is None:
        return Location(
            host=spec.host or "localhost",
            port=int(spec.port or port),
            database=spec.database or "",
            user=spec.user or "",
            password=spec.password or "",
        )
    parts = split(spec.url)
    if parts is None:
        raise unreadable(name)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Location(
        host=parts.hostname or options.pop("host", "localhost"),
        port=parts.port or int(options.pop("port", port)),
        database=unquote(parts.path.removeprefix("/")),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        options=options,
    )


def split(url: str) -> SplitResult | None:
    """The URL's parts; None when a raw `/ # ? @` in the password has torn it apart."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    torn = any("@" in part for part in (parts.path, parts.query, parts.fragment)) or (
        parts.fragment and not parts.username
    )
    return None if torn else parts


def unreadable(name: str) -> StepError:
    """The sentence for a URL that makes no sense."""
    # The parser's own words would quote a part of the URL, perhaps of the password.
    return StepError(
        f"the URL of connector {name!r} cannot be read: a password that holds @ / # ? or % is "
        "written percent-encoded, or the connector by parts (host, user, password ...)",
        retryable=False,
    )


def trust(name: str, mode: str, ca_file: str | None) -> ssl.SSLContext:
    """How the server's certificate is looked at: not at all, by its signer, by its name too."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StepError(
            f"connector {name!r}: the certificates of `ca_file` cannot be read: {error.strerror}",
            retryable=False,
        ) from None
    context.check_hostname = mode == "verify-full"
    if mode not in {"verify-ca", "verify-full"}:
        context.verify_mode = ssl.CERT_NONE
    return context


def mode_of(spec: SqlConnectorSpec) -> str:
    """The `ssl_mode` in force: certificates to trust are there to be looked at."""
    return spec.ssl_mode or ("verify-full" if spec.ca_file else "prefer")
