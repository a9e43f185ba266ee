"""What an HTTP request starts from: a connector's base URL, headers and credentials, and where requests may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nomaflow.connectors.spec import ApiKeyAuth, AwsSigV4Auth, BasicAuth, BearerAuth, OAuth2Auth

AnyAuth = BearerAuth | BasicAuth | ApiKeyAuth | OAuth2Auth | AwsSigV4Auth


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """Where requests may go.

    Cloud metadata addresses are never reached. `allow_private` lets private and loopback
    addresses be reached, as jobs declared in files may. `allow_hosts`, when not empty, lists
    the only hosts (or `*.domain`) that may be reached.
    """

    allow_private: bool = True
    allow_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """A rendered HTTP connector, or the bare start of a step without one."""

    base_url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: AnyAuth | None = field(default=None, repr=False)
    policy: HttpPolicy = field(default_factory=HttpPolicy)
