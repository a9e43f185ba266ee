"""Where an HTTP request may go: an address is resolved, checked and connected to in one place."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import zip_longest
from typing import Any

import httpcore
import httpx

from nomaflow.connectors import racing, trust
from nomaflow.connectors.http import headers
from nomaflow.connectors.http.connector import HttpPolicy, HttpSettings
from nomaflow.errors import StepError

KEEP_ALIVE_SECONDS = 4.0
"""Idle connections are kept shorter than most servers keep theirs (5 s)."""
PATIENCE_SECONDS = 0.25
"""How long one address of a host may keep the next one waiting."""

Address = IPv4Address | IPv6Address

_LAST_PORT = 65_535

# Link-local holds the metadata services of AWS, Azure, Google and OpenStack; the others are
# those of Amazon and Google over IPv6, Alibaba, Oracle and Azure's host.
_METADATA = tuple(
    ip_network(network)
    for network in (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
        "100.100.100.200/32",
        "192.0.0.192/32",
        "168.63.129.16/32",
    )
)
_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata", "instance-data"})
# IPv4 addresses inside IPv6 ones: NAT64 (RFC 6052, RFC 8215) and the old compatible form.
_CARRIERS = tuple(ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/96", "::/96"))
# Where servers that speak no HTTP listen, and would take a request for their own commands:
# the ports that browsers refuse (WHATWG Fetch, port blocking), and our own databases' kind.
_NO_HTTP = frozenset(
    {
        0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95,
        101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179,
        389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601,
        636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6379,
        6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080, 11211,
    }
)  # fmt: skip


def check_url(url: httpx.URL, policy: HttpPolicy) -> None:
    """StepError when the URL's scheme or host is not allowed; its addresses are checked later."""
    if url.scheme not in {"http", "https"}:
        raise _refused(f"the scheme {url.scheme!r}; only http and https are sent")
    host = plain_host(url.host)
    if not host:
        raise _refused("a URL without a host")
    if host in _METADATA_NAMES:
        raise _refused(f"{host}: cloud metadata is never reached")
    if policy.only_hosts and not _listed(host, policy.only_hosts):
        raise _refused(f"{host}: it is not on the list of allowed hosts")
    if url.port is not None and url.port > _LAST_PORT:
        words = f"there is no port {url.port}; the last one is {_LAST_PORT}"
        raise StepError(words, retryable=False)
    if url.port in _NO_HTTP:
        raise _refused(f"port {url.port} of {host}: no HTTP is spoken there")


def check_literal(host: str, policy: HttpPolicy) -> None:
    """StepError when `host` is itself an address that may not be reached, in any of its forms."""
    plain = plain_host(host)
    try:
        address: Address = ip_address(plain.partition("%")[0])
    except ValueError:
        try:  # 2130706433, 0x7f000001 and 127.1 are addresses to the system's resolver
            address = IPv4Address(socket.inet_aton(plain))
        except (OSError, ValueError):
            if plain == "localhost" or plain.endswith(".localhost"):
                address = IPv4Address("127.0.0.1")
            else:
                return
    check_address(plain, address, policy)


def check_host(host: str) -> None:
    """StepError when a host of any protocol is a cloud's metadata service, by name or address."""
    if plain_host(host) in _METADATA_NAMES:
        raise _refused(f"{host}: cloud metadata is never reached")
    check_literal(host, HttpPolicy())


def check_address(host: str, address: Address, policy: HttpPolicy) -> None:
    """StepError when `address`, which `host` resolved to, may not be reached."""
    private_allowed = policy.allow_private or _listed(plain_host(host), policy.allow_hosts)
    for real in _unwrapped(address):
        if any(real in network for network in _METADATA if network.version == real.version):
            raise _refused(f"{host} ({address}): cloud metadata is never reached")
        if not private_allowed and (not real.is_global or real.is_multicast):
            raise _refused(f"{host} ({address}): private addresses are not allowed here")


def plain_host(host: str) -> str:
    """The host as names are compared: lower case, no trailing dot."""
    return host.lower().rstrip(".")


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over connections that only reach checked addresses.

    StepError when the connector's certificates or proxy cannot be used.
    """

    def __init__(self, settings: HttpSettings) -> None:
        context = trust.context(settings.ca_file)
        super().__init__(verify=context, trust_env=False)
        proxy = _proxy(settings.proxy)
        # A connector's proxy is vouched for by its being named; what it reaches is checked by name.
        policy = settings.policy if proxy is None else HttpPolicy()
        # httpx has no parameter for the network backend of its pool.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            network_backend=_Guard(policy),
            proxy=proxy,
            max_connections=None,  # turns are taken one floor above, where waiting is not a fault
            max_keepalive_connections=settings.max_connections,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            http1=True,
        )


def _proxy(url: str | None) -> httpcore.Proxy | None:
    if not url:
        return None
    try:
        given = httpx.URL(url)
        if given.scheme not in {"http", "https"} or not given.host:
            raise ValueError("it must be http://host:port")
        auth = (given.username, given.password) if given.userinfo else None
        return httpcore.Proxy(str(given.copy_with(userinfo=b"")), auth=auth)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        words = f"the connector's proxy cannot be used: {headers.without_quotes(error)}"
        raise StepError(words, retryable=False) from None


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
        try:
            async with asyncio.timeout(timeout):
                addresses = await _resolve(host, port)
        except TimeoutError:
            words = f"the name {host} was not resolved"
            raise httpcore.ConnectTimeout(words) from None
        for address in addresses:
            check_address(host, address, self._policy)
        if not addresses:
            raise httpcore.ConnectError(f"{host} has no address")
        ways = [
            partial(
                self._network.connect_tcp,
                str(address),
                port,
                timeout,
                local_address,
                socket_options,
            )
            for address in addresses
        ]
        if len(ways) == 1:
            return _Stream(await ways[0]())
        failures = (httpcore.ConnectError, httpcore.ConnectTimeout)
        return _Stream(await racing.first(ways, _closed, PATIENCE_SECONDS, failures))

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002  the base class names it
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        raise _refused(f"the socket {path}")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is closed when it does not become an encrypted one.

    httpcore's own stays open when the wait for the server's part of the handshake is cancelled.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._inner.aclose()
            raise

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


async def _closed(stream: httpcore.AsyncNetworkStream) -> None:
    await stream.aclose()


async def _resolve(host: str, port: int) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the name {host} cannot be resolved: {error}") from None
    distinct = dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
    return _alternating(list(distinct))


def _alternating(addresses: list[Address]) -> list[Address]:
    """IPv6 and IPv4 in turn (RFC 8305 section 4): where one family is dead, the other is next."""
    first = [one for one in addresses if one.version == addresses[0].version]
    other = [one for one in addresses if one.version != addresses[0].version]
    return [one for pair in zip_longest(first, other) for one in pair if one is not None]


def _unwrapped(address: Address) -> list[Address]:
    """The address, and the IPv4 address it carries when it is a mapped or translated one."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address.sixtofour:
        return [address, address.sixtofour]
    if int(address) > 1 and any(address in network for network in _CARRIERS):
        return [address, IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address]


def _listed(host: str, allowed: tuple[str, ...]) -> bool:
    for entry in map(plain_host, allowed):
        if entry == host or (entry.startswith("*.") and host.endswith(entry[1:])):
            return True
    return False


def _refused(what: str) -> StepError:
    return StepError(f"SSRF_BLOCKED: requests may not go to {what}", retryable=False)
