"""What an HTTP request starts from: its connector's URL and credentials, and where it may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from nomaflow.connectors.http import headers
from nomaflow.connectors.http.auth import AnyAuth
from nomaflow.connectors.spec import HttpConnectorSpec
from nomaflow.errors import StepError


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """Where requests may go.

    Cloud metadata addresses are never reached. `allow_private` lets private and loopback
    addresses be reached, as jobs declared in files may; hosts (or `*.domain`) of `allow_hosts`
    are reached wherever they are. `only_hosts`, when not empty, lists all that may be reached.
    """

    allow_private: bool = True
    allow_hosts: tuple[str, ...] = ()
    only_hosts: tuple[str, ...] = ()

    def vouching_for(self, host: str) -> HttpPolicy:
        """The same policy, with one more host that may be a private one."""
        return replace(self, allow_hosts=(*self.allow_hosts, host))

    def as_json(self) -> dict[str, Any]:
        """The policy for another process; `from_json` reads it."""
        return {
            "allow_private": self.allow_private,
            "allow_hosts": self.allow_hosts,
            "only_hosts": self.only_hosts,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HttpPolicy:
        """What `as_json` wrote."""
        return cls(value["allow_private"], tuple(value["allow_hosts"]), tuple(value["only_hosts"]))


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """A rendered HTTP connector, or the bare start of a step without one.

    `timeout_seconds` bounds one request from its first byte to its last, redirects included;
    `max_connections` the requests under way at once; `ca_file` is an absolute path.
    """

    base_url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: AnyAuth | None = field(default=None, repr=False)
    policy: HttpPolicy = field(default_factory=HttpPolicy)
    timeout_seconds: float | None = None
    max_connections: int = 100
    ca_file: str | None = None
    proxy: str | None = field(default=None, repr=False)


def settings(spec: HttpConnectorSpec, policy: HttpPolicy) -> HttpSettings:
    """What requests through a rendered connector start from.

    The connector's own host may be a private one: whoever declared it vouches for it.
    """
    return HttpSettings(
        base_url=spec.url,
        headers=spec.headers,
        auth=spec.auth,
        policy=policy.vouching_for(_host(spec.url)),
        timeout_seconds=float(spec.timeout_seconds) if spec.timeout_seconds else None,
        max_connections=int(spec.max_connections),
        ca_file=spec.ca_file,
        proxy=spec.proxy,
    )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError as error:
        words = f"the connector's URL cannot be read: {headers.without_quotes(error)}"
        raise StepError(words, retryable=False) from None
