"""Where requests may go: names, addresses in every spelling, redirects, proxies (SEC-N)."""

import asyncio
import socket
import ssl
import time
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from loopback import Loopback
from step_context import RealContext

from nomaflow.connectors import outbound, spec
from nomaflow.connectors.http import connector as http
from nomaflow.connectors.http.client import HttpClient, Request
from nomaflow.connectors.http.connector import HttpPolicy, HttpSettings
from nomaflow.errors import StepError
from nomaflow.plugins.http import StepHttp
from nomaflow.steps.http import HttpStep

CLOSED = HttpPolicy(allow_private=False)
PUBLIC = "93.184.216.34"


@pytest.fixture
def names(monkeypatch):
    """The world's name servers: each name answers its lists of addresses in turn."""
    told: dict[str, list[list[str]]] = {}
    asked: list[str] = []
    real = asyncio.BaseEventLoop.getaddrinfo

    async def getaddrinfo(self, host, port, **options):
        if host not in told:
            return await real(self, host, port, **options)
        asked.append(host)
        answers = told[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    told["asked"] = asked  # type: ignore[assignment]
    return told


async def refused(settings, url, **more):
    async with HttpClient(settings) as client:
        with pytest.raises(StepError) as caught:
            await client.send(Request("GET", url, **more))
    assert not caught.value.retryable
    return caught.value.message


async def test_the_address_that_was_checked_is_the_one_connected_to(server, names):
    """A name that is public when asked first and private when asked again is asked once."""
    connected = []
    settings = HttpSettings(policy=CLOSED)
    names["rebind.test"] = [[PUBLIC], ["127.0.0.1"]]
    async with HttpClient(settings) as client:
        client._transport = transport = outbound.GuardedTransport(settings)
        network = transport._pool._network_backend._network

        async def connect_tcp(host, port, *_rest):
            connected.append(host)
            raise ConnectionRefusedError("nobody there")

        network.connect_tcp = connect_tcp
        with pytest.raises(OSError, match="nobody there"):
            await client.send(Request("GET", f"http://rebind.test:{server.port}/"))
    assert connected == [PUBLIC]
    assert names["asked"] == ["rebind.test"]
    assert server.received == []
    assert "private addresses" in await refused(settings, f"http://rebind.test:{server.port}/")


@pytest.mark.parametrize("hidden", ["127.0.0.1", "10.1.2.3", "169.254.169.254"])
async def test_one_bad_address_among_good_ones_is_enough(names, hidden):
    names["both.test"] = [[PUBLIC, hidden]]
    assert "SSRF_BLOCKED" in await refused(HttpSettings(policy=CLOSED), "http://both.test/")


async def test_a_dead_address_does_not_keep_the_next_one_waiting(server, names, monkeypatch):
    """203.0.113.1 is nobody's (RFC 5737): no answer comes, or none at all can be expected."""
    names["half-dead.test"] = [["203.0.113.1", "127.0.0.1"]]
    monkeypatch.setattr(outbound, "PATIENCE_SECONDS", 0.01)
    started = time.monotonic()
    async with HttpClient(HttpSettings()) as client:
        reply = await client.send(Request("GET", f"http://half-dead.test:{server.port}/"))
    assert reply.status == 200
    assert time.monotonic() - started < 5


def test_families_take_turns():
    given = [ip_address(text) for text in ("::1", "::2", "::3", "10.0.0.1", "10.0.0.2")]
    assert [str(one) for one in outbound._alternating(given)] == [
        "::1",
        "10.0.0.1",
        "::2",
        "10.0.0.2",
        "::3",
    ]


async def test_metadata_is_not_reached_under_any_name_even_where_private_is_allowed(names):
    names["innocent.test"] = [["169.254.169.254"]]
    for policy in (HttpPolicy(), CLOSED, HttpPolicy(allow_hosts=("innocent.test",))):
        message = await refused(HttpSettings(policy=policy), "http://innocent.test/")
        assert "metadata" in message


async def test_a_connector_vouches_for_its_own_host_and_no_other(server):
    told = spec.parse({"kind": "http", "url": server.url})
    context = RealContext({"api": told}, policy=CLOSED)
    assert (await context.run(_step("x", connector="api"))).output["status"] == 200
    with pytest.raises(StepError, match="private addresses"):
        await RealContext(policy=CLOSED).run(_step(server.url))
    server.replies((302, {"Location": f"http://localhost:{server.port}/"}, b""))
    again = RealContext({"api": told}, policy=CLOSED)
    with pytest.raises(StepError, match=r"localhost.*private addresses"):
        await again.run(_step("x", connector="api", follow_redirects=True))


async def test_the_operator_may_list_hosts_that_are_always_reached(server):
    policy = HttpPolicy(allow_private=False, allow_hosts=("127.0.0.1",))
    await RealContext(policy=policy).run(_step(server.url))
    with pytest.raises(StepError, match="private addresses"):
        await RealContext(policy=policy).run(_step(f"http://localhost:{server.port}"))
    outbound.check_url(httpx.URL("https://api.example.com/"), policy)  # others are still reached


async def test_a_function_of_a_plugin_goes_through_the_same_door(server):
    closed = StepHttp(HttpSettings(policy=CLOSED))
    with pytest.raises(StepError, match="SSRF_BLOCKED"):
        await closed.get(server.url)
    with pytest.raises(StepError, match="metadata"):
        await StepHttp().get("http://169.254.169.254/latest/meta-data/")
    assert server.received == []


async def test_a_port_there_cannot_be_is_told_as_such():
    message = await refused(HttpSettings(), "http://127.0.0.1:99999/")
    assert message == "there is no port 99999; the last one is 65535"


@pytest.mark.parametrize("port", [22, 25, 6379, 11211, 0])
async def test_ports_where_no_http_is_spoken_are_refused(port):
    message = await refused(HttpSettings(), f"http://127.0.0.1:{port}/")
    assert "no HTTP is spoken there" in message


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://169.254.169.254/latest", "metadata"),
        ("//169.254.169.254/latest", "metadata"),
        ("http://[fd00:ec2::254]/", "metadata"),
        ("http://[fd20:ce::254]/", "metadata"),
        ("file:///etc/passwd", "scheme"),
        ("http://127.0.0.1:6379/", "no HTTP"),
        ("http://[::1", "cannot be read"),
    ],
)
async def test_every_redirect_is_checked_like_the_first_address(server, location, words):
    server.replies((302, {"Location": location}, b""))
    message = await refused(HttpSettings(), server.url, follow_redirects=True)
    assert words in message, message


async def test_a_redirect_that_names_a_user_does_not_make_us_one(server):
    other = Loopback()
    await other.start()
    where = f"http://admin:admin@127.0.0.1:{other.port}/"
    server.replies((302, {"Location": where}, b""))
    async with HttpClient(HttpSettings()) as client:
        await client.send(Request("GET", server.url, follow_redirects=True))
    await other.stop()
    assert other.received[0].header("authorization") is None


async def test_credentials_do_not_come_back_from_a_round_trip_over_another_host(server):
    other = Loopback()
    await other.start()
    other.replies((302, {"Location": f"{server.url}/back"}, b""))
    server.replies((302, {"Location": other.url}, b""), (200, {}, b""))
    auth = spec.parse(
        {"kind": "http", "url": server.url, "auth": {"type": "bearer", "token": "sesame"}}
    )
    async with HttpClient(http.settings(auth, HttpPolicy())) as client:
        await client.send(Request("GET", "out", follow_redirects=True))
    await other.stop()
    first, back = server.received
    assert first.header("authorization") == "Bearer sesame"
    assert back.header("authorization") is None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com@127.0.0.1/",
        "http://127.0.0.1#@example.com/",
        "http://127.0.0.1\\@example.com/",
        "http://①②⑦.⓪.⓪.①/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://[::]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
    ],
)
async def test_no_spelling_of_an_address_hides_it(url):
    async with HttpClient(HttpSettings(policy=CLOSED)) as client:
        with pytest.raises(StepError) as caught:
            await client.send(Request("GET", url))
    said = caught.value.message
    assert "SSRF_BLOCKED" in said or "cannot be read" in said or "cannot be resolved" in said, said


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("64:ff9b::5db8:d822", True),  # NAT64 of a public address
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("::ffff:10.0.0.1", False),
        ("100.64.0.1", False),
        ("198.18.0.1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
    ],
)
def test_addresses_that_are_not_public_are_private(address, allowed):
    if allowed:
        outbound.check_address("h", ip_address(address), CLOSED)
    else:
        with pytest.raises(StepError, match="SSRF_BLOCKED"):
            outbound.check_address("h", ip_address(address), CLOSED)


async def test_a_proxy_is_used_only_where_the_connector_names_one(server, monkeypatch):
    """The proxy is asked for the whole address; its user and password go to it alone."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    proxy = server.url.replace("//", "//me:sesame@")
    told = spec.parse({"kind": "http", "url": "http://api.example.com/v1", "proxy": proxy})
    result = await RealContext({"api": told}, policy=CLOSED).run(_step("items", connector="api"))
    assert result.output["status"] == 200
    (request,) = server.received
    assert request.target == "http://api.example.com/v1/items"
    assert request.header("host") == "api.example.com"
    assert request.header("proxy-authorization") == "Basic bWU6c2VzYW1l"
    assert "sesame" not in repr(told)


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://2130706433/", "http://localhost/"])
async def test_a_proxy_is_no_way_around(server, url):
    """The proxy resolves names, so names are its matter; addresses are still checked."""
    settings = HttpSettings(policy=CLOSED, proxy=server.url)
    assert "private addresses" in await refused(settings, url)
    assert "metadata" in await refused(
        HttpSettings(proxy=server.url), "http://169.254.169.254/latest"
    )
    assert server.received == []


async def test_through_a_proxy_certificates_are_still_those_of_the_server(server):
    """The proxy carries bytes; it hears the target's name, and no header meant for it."""
    pem = Path(__file__).with_name("self_signed.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    await server.stop()
    await server.start(ssl=tls)
    heard = []

    async def pump(reader, writer):
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def carry(reader, writer):
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        there, away = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(pump(reader, away), pump(there, writer), return_exceptions=True)

    proxy = await asyncio.start_server(carry, "127.0.0.1", 0)
    told = {
        "kind": "http",
        "url": server.url,
        "auth": {"type": "bearer", "token": "for-the-server"},
        "proxy": f"http://me:for-the-proxy@127.0.0.1:{proxy.sockets[0].getsockname()[1]}",
    }
    trusting = spec.parse({**told, "ca_file": str(pem)})
    assert (await RealContext({"api": trusting}).run(_step("x", connector="api"))).output["status"]
    assert heard[0].startswith(f"CONNECT 127.0.0.1:{server.port} ")
    assert "for-the-server" not in heard[0]
    assert server.received[0].header("authorization") == "Bearer for-the-server"
    assert server.received[0].header("proxy-authorization") is None
    with pytest.raises(StepError, match="CERTIFICATE_VERIFY_FAILED"):
        await RealContext({"api": spec.parse(told)}).run(_step("x", connector="api"))
    proxy.close()


@pytest.mark.parametrize("proxy", ["socks5://h:1", "http://", "nonsense", "http://[::1"])
async def test_a_proxy_that_cannot_be_one_is_told(proxy):
    assert "proxy cannot be used" in await refused(HttpSettings(proxy=proxy), "http://example.com/")


def _step(url, **settings):
    return HttpStep.model_validate({"url": url, **settings})
