"""Where an HTTP request may go: an address is resolved, checked and connected to in one place."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import certifi
import httpcore
import httpx

from nomaflow.connectors.http import HttpPolicy
from nomaflow.errors import StepError

Address = IPv4Address | IPv6Address

# Link-local holds the metadata services of AWS, Azure, Google and OpenStack; the others are
# those of Amazon over IPv6, Alibaba, Oracle and Azure's host.
_METADATA = tuple(
    ip_network(network)
    for network in (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::/32",
        "100.100.100.200/32",
        "192.0.0.192/32",
        "168.63.129.16/32",
    )
)
_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata", "instance-data"})
_NAT64 = ip_network("64:ff9b::/96")


def check_url(url: httpx.URL, policy: HttpPolicy) -> None:
    """StepError when the URL's scheme or host is not allowed; its addresses are checked later."""
    if url.scheme not in {"http", "https"}:
        raise _refused(f"the scheme {url.scheme!r}; only http and https are sent")
    host = plain_host(url.host)
    if not host:
        raise _refused("a URL without a host")
    if host in _METADATA_NAMES:
        raise _refused(f"{host}: cloud metadata is never reached")
    if policy.allow_hosts and not _listed(host, policy.allow_hosts):
        raise _refused(f"{host}: it is not on the list of allowed hosts")


def check_address(host: str, address: Address, policy: HttpPolicy) -> None:
    """StepError when `address`, which `host` resolved to, may not be reached."""
    for real in _unwrapped(address):
        if any(real in network for network in _METADATA if network.version == real.version):
            raise _refused(f"{host} ({address}): cloud metadata is never reached")
        if not policy.allow_private and (not real.is_global or real.is_multicast):
            raise _refused(f"{host} ({address}): private addresses are not allowed here")


def plain_host(host: str) -> str:
    """The host as names are compared: lower case, no trailing dot."""
    return host.lower().rstrip(".")


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over connections that only reach checked addresses."""

    def __init__(self, policy: HttpPolicy) -> None:
        super().__init__(verify=tls(), trust_env=False)
        # httpx has no parameter for the network backend of its pool.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls(), network_backend=_Guard(policy), max_connections=20, http1=True
        )


@cache
def tls() -> ssl.SSLContext:
    """TLS 1.2 or newer, the system's certificates and Mozilla's."""
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=certifi.where())
    return context


class _Guard(httpcore.AsyncNetworkBackend):
    """Resolves a name once and connects to the very address it has checked."""

    def __init__(self, policy: HttpPolicy) -> None:
        self._policy = policy
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolve(host, port)
        for address in addresses:
            check_address(host, address, self._policy)
        last: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002  the base class names it
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        raise _refused(f"the socket {path}")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the name {host} cannot be resolved: {error}") from None
    return list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


def _unwrapped(address: Address) -> list[Address]:
    """The address, and the IPv4 address it carries when it is a mapped or translated one."""
    if isinstance(address, IPv4Address):
        return [address]
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is None:
        return [address]
    return [inner] if address.ipv4_mapped else [address, inner]


def _listed(host: str, allowed: tuple[str, ...]) -> bool:
    for entry in map(plain_host, allowed):
        if entry == host or (entry.startswith("*.") and host.endswith(entry[1:])):
            return True
    return False


def _refused(what: str) -> StepError:
    return StepError(f"SSRF_BLOCKED: requests may not go to {what}", retryable=False)
