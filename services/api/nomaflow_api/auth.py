"""Who is calling: a bearer token names a principal, and a principal has permissions."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["service", "user"]

_SCHEME = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_CLIENT = re.compile(r"cli/([A-Za-z0-9._@+-]{1,64})")
LONGEST_TOKEN: Final = 4_096


class Permission(StrEnum):
    """What a principal may do; `admin` is everything that concerns more than jobs and runs."""

    SEE = "see"
    RUN = "run"
    EDIT = "edit"
    ABORT = "abort"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a token stands for: a program (`service`) or a person (`user`)."""

    name: str
    kind: Kind
    permissions: frozenset[Permission]


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal and the program it calls with; `cli_user` is set when that is our CLI."""

    principal: Principal
    cli_user: str | None = None

    @property
    def trigger(self) -> str:
        """The kind of trigger of the runs this caller starts."""
        if self.cli_user is not None:
            return "cli"
        return "user" if self.principal.kind == "user" else "api"

    @property
    def word(self) -> str:
        """The exact word of history for what this caller does (T01)."""
        match self.trigger:
            case "cli":
                return f"cli:{self.cli_user}"
            case "user":
                return f"user:{self.principal.name}"
            case _:
                return "api"

    def may(self, permission: Permission) -> bool:
        """Tell whether the principal has that permission."""
        return permission in self.principal.permissions


class Doorkeeper:
    """Knows tokens by their hash alone and compares in constant time."""

    def __init__(self, admin_token: str) -> None:
        admin = Principal("admin", "service", frozenset(Permission))
        self._known = ((_digest(admin_token), admin),)

    def admit(self, token: str | None) -> Principal | None:
        """Return whose token it is; None when there is none or nobody's."""
        shown = _digest(token or "")
        found = None
        for digest, principal in self._known:
            if hmac.compare_digest(shown, digest):
                found = principal
        return found

    def caller(self, headers: Mapping[str, str]) -> Caller | None:
        """Return who sent a request with these headers; None when nobody we know."""
        principal = self.admit(bearer(headers.get("authorization")))
        if principal is None:
            return None
        return Caller(principal, cli_user(headers.get("nomaflow-client")))

    def caller_by_payload(
        self, payload: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Caller | None:
        """Return who opened a WebSocket, by its `connection_init` payload or its handshake."""
        words = {str(key).lower(): value for key, value in payload.items()}
        shown = words.get("authorization")
        token = bearer(shown) if isinstance(shown, str) else words.get("token")
        if token is None:
            token = bearer(headers.get("authorization"))
        principal = self.admit(token if isinstance(token, str) else None)
        if principal is None:
            return None
        client = words.get("nomaflow-client") or headers.get("nomaflow-client")
        return Caller(principal, cli_user(client if isinstance(client, str) else None))


def bearer(header: str | None) -> str | None:
    """Return the token of an `Authorization: Bearer` header (RFC 6750), or None."""
    if header is None or len(header) > LONGEST_TOKEN:
        return None
    match = _SCHEME.fullmatch(header)
    return match.group(1) if match else None


def cli_user(header: str | None) -> str | None:
    """Return the operating system's user of a `Nomaflow-Client: cli/<user>` header, or None."""
    match = _CLIENT.fullmatch(header) if header else None
    return match.group(1) if match else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
