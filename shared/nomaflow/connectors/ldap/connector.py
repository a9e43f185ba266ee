"""Where a directory is and how to reach it, checked before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, Protocol

from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow.connectors.ldap.ber import Entry, Wanted
from nomaflow.connectors.ldap.url import Encryption, is_loopback, parts
from nomaflow.connectors.spec import LdapConnectorSpec
from nomaflow.errors import StepError

Scope = Literal["base", "one", "subtree"]


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """A rendered LDAP connector.

    Certificates are always verified; `ca_file` names authorities to trust as well. Seconds bound
    the connecting and each wait for an answer. `policy` says which addresses may be reached.
    """

    host: str
    port: int
    encryption: Encryption
    bind_dn: str | None
    bind_password: str | None = field(repr=False)
    ca_file: str | None
    connect_seconds: float
    receive_seconds: float
    policy: HttpPolicy = field(default_factory=HttpPolicy)

    @property
    def shown(self) -> str:
        """The address for people."""
        scheme = "ldaps" if self.encryption == "ldaps" else "ldap"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def is_exposed(self) -> bool:
        """Whether the password travels unencrypted to another machine."""
        return bool(self.bind_dn) and self.encryption == "none" and not is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class Search:
    """What to ask a directory: `page_size` entries at a time, to the end."""

    base: str
    filter: str
    scope: Scope
    attributes: tuple[str, ...]
    page_size: int = 1000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some entries of a search; `pages` and `references` count what came with them."""

    entries: list[Entry]
    pages: int
    references: int


class LdapSession(Protocol):
    """One bound connection; whoever opened it closes it."""

    @property
    def described(self) -> str: ...

    def search(self, search: Search, wanted: Wanted) -> AsyncGenerator[Chunk, None]:
        """Every entry, page by page; the end is reached only when the server says success.

        StepError for anything else: a limit, a referral, a connection that ends.
        """

    async def close(self) -> None: ...


def settings(spec: LdapConnectorSpec, policy: HttpPolicy | None = None) -> LdapSettings:
    """What a rendered connector means; StepError when it would be unsafe or cannot work."""
    try:
        host, port, encryption = parts(spec.url)
    except ValueError as error:
        raise StepError(str(error), retryable=False) from None
    if spec.start_tls and encryption == "none":
        encryption = "start_tls"
    if spec.bind_dn and not spec.bind_password:
        # A bind with a name and no password succeeds as anonymous (RFC 4513 section 5.1.2).
        raise StepError(f"`bind_dn` {spec.bind_dn!r} has no `bind_password`", retryable=False)
    if spec.bind_password and not spec.bind_dn:
        raise StepError("`bind_password` is given without `bind_dn`", retryable=False)
    made = LdapSettings(
        host,
        port,
        encryption,
        spec.bind_dn,
        spec.bind_password,
        spec.ca_file,
        float(spec.connect_timeout_seconds),
        float(spec.receive_timeout_seconds),
        policy or HttpPolicy(),
    )
    if made.is_exposed and not spec.allow_plaintext:
        raise StepError(
            f"the password would travel to {made.shown} unencrypted; use ldaps:// or `start_tls = "
            "true`, or say `allow_plaintext = true` on a network that you trust",
            retryable=False,
        )
    return made


async def open(settings: LdapSettings) -> LdapSession:  # noqa: A001  connectors.ldap.open says it best
    """Connect, encrypt and bind.

    StepError: of category `connection` or `timeout` when nobody answers, never retried when
    the credentials or the certificate are refused.
    """
    # ldap3 takes a fifth of a second to load, and most programs never need it.
    module: Any = import_module("nomaflow.connectors.ldap.session")
    session: LdapSession = await module.open_session(settings)
    return session
