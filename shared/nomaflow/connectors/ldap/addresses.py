"""Where a directory's host leads, and whether we may go there."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import httpx

from nomaflow.connectors import outbound
from nomaflow.connectors.ldap.connector import LdapSettings
from nomaflow.errors import StepError


async def of(settings: LdapSettings) -> list[str]:
    """The addresses of the host, each checked: the one that is checked is the one connected to."""
    host, policy = settings.host, settings.policy
    # The list of allowed hosts and the names of metadata services are those of HTTP.
    outbound.check_url(httpx.URL(scheme="https", host=host), policy)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        words = f"the name {host} cannot be resolved: {why}"
        raise StepError(words, category="connection") from None
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    for address in addresses:
        outbound.check_address(host, ip_address(address), policy)
    return addresses
