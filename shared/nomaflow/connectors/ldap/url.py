"""The URL of a directory: a host and a port, and whether the connection is encrypted."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

Encryption = Literal["ldaps", "start_tls", "none"]


def parts(url: str) -> tuple[str, int, Encryption]:
    """Host, port and encryption of `ldap://host:port`; ValueError with a sentence otherwise."""
    example = "write ldaps://host or ldap://host, with :port when it is not 636 or 389"
    try:
        split = urlsplit(url.strip())
        port = split.port
    except ValueError:
        raise ValueError(f"the directory's URL cannot be read; {example}") from None
    if split.scheme not in {"ldap", "ldaps"}:
        raise ValueError(f"a directory has no scheme {split.scheme[:20]!r}; {example}")
    if "@" in split.netloc:
        raise ValueError("the directory's URL holds a user; use `bind_dn` and `bind_password`")
    if not split.hostname:
        raise ValueError(f"the directory's URL names no host; {example}")
    if split.path.strip("/") or split.query or split.fragment:
        raise ValueError(
            "the directory's URL holds more than host and port; where to search is the step's "
            "`search_base`"
        )
    is_tls = split.scheme == "ldaps"
    return split.hostname, port or (636 if is_tls else 389), "ldaps" if is_tls else "none"


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
