"""What an HTTP request starts from: its connector's URL and credentials, and where it may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nomaflow.connectors.spec import AnyAuth, HttpConnectorSpec


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


def settings(spec: HttpConnectorSpec, policy: HttpPolicy) -> HttpSettings:
    """What requests through a rendered connector start from."""
    return HttpSettings(spec.url, spec.headers, spec.auth, policy)
