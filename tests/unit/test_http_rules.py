import zlib
from datetime import UTC, datetime
from ipaddress import ip_address

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow.connectors import outbound
from nomaflow.connectors.http import client as http_client
from nomaflow.connectors.http import decoding, headers
from nomaflow.connectors.http.auth import ApiKeyAuth
from nomaflow.connectors.http.client import HttpClient, Request
from nomaflow.connectors.http.connector import HttpPolicy, HttpSettings
from nomaflow.connectors.http.hops import Hop
from nomaflow.errors import StepError

OPEN = HttpPolicy(allow_private=True)
CLOSED = HttpPolicy(allow_private=False)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.2",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ],
)
def test_cloud_metadata_is_never_reached(address):
    with pytest.raises(StepError, match="metadata"):
        outbound.check_address("h", ip_address(address), OPEN)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1", "fc00::1", "224.0.0.1"],
)
def test_private_addresses_are_for_those_who_may(address):
    outbound.check_address("h", ip_address(address), OPEN)
    with pytest.raises(StepError, match="private"):
        outbound.check_address("h", ip_address(address), CLOSED)


def test_public_addresses_are_reached():
    outbound.check_address("h", ip_address("93.184.216.34"), CLOSED)
    outbound.check_address("h", ip_address("2606:2800:220:1::1"), CLOSED)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/", "gopher://h/", "unix:/x", "h/x"])
def test_only_http_is_sent(url):
    with pytest.raises(StepError, match="SSRF_BLOCKED"):
        outbound.check_url(httpx.URL(url), OPEN)


def test_the_list_of_hosts_is_met_exactly():
    policy = HttpPolicy(only_hosts=("api.example.com", "*.example.org"))
    for url in ("https://API.example.com./x", "https://a.example.org/"):
        outbound.check_url(httpx.URL(url), policy)
    for url in (
        "https://api.example.com.evil.net/",
        "https://api.example.com@evil.net/",
        "https://evil.net#api.example.com",
        "https://example.org.evil.net/",
        "https://\u0430pi.example.com/",
    ):
        with pytest.raises(StepError, match="allowed hosts"):
            outbound.check_url(httpx.URL(url), policy)


@pytest.mark.parametrize(
    ("base", "url", "query", "whole"),
    [
        (None, "https://h/a?x=1", {}, "https://h/a?x=1"),
        (None, "https://h/a?x=1", {"y": 2, "z": [1, 2]}, "https://h/a?x=1&y=2&z=1&z=2"),
        (None, "https://h/a", {"y": None, "z": "a b&c"}, "https://h/a?z=a+b%26c"),
        ("https://h/v3", "/repos", {}, "https://h/v3/repos"),
        ("https://h/v3/", "repos?x=1", {}, "https://h/v3/repos?x=1"),
        ("https://h/v3", "", {}, "https://h/v3"),
        ("https://h", "https://h:443/x", {}, "https://h/x"),
    ],
)
def test_the_whole_address(base, url, query, whole):
    found = HttpClient(HttpSettings(base)).address(Request("GET", url, query=query))
    assert str(found).replace("%20", "+") == whole


def test_a_connectors_credentials_stay_with_its_host():
    with pytest.raises(StepError, match="not under"):
        HttpClient(HttpSettings("https://h")).address(Request("GET", "https://other/x"))
    with pytest.raises(StepError, match="absolute"):
        HttpClient(HttpSettings()).address(Request("GET", "/x"))
    key = ApiKeyAuth.model_validate({"type": "api_key", "key": "k", "name": "q", "in": "query"})
    found = HttpClient(HttpSettings("https://h", auth=key)).address(Request("GET", "x"))
    assert str(found) == "https://h/x?q=k"


def test_an_address_is_shown_without_what_may_be_secret():
    url = httpx.URL("https://u:p@h:8443/services/T000/B000/abcdefghijklmnopqrst1234?token=s&n=1")
    assert headers.shown(url) == "https://h:8443/services/T000/B000/***?token=...&n=..."


def test_retry_after_as_seconds_and_as_date():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert http_client.retry_after("120", now) == 120
    assert http_client.retry_after("Thu, 01 Jan 2026 00:01:00 GMT", now) == 60
    assert http_client.retry_after("Wed, 31 Dec 2025 00:01:00 GMT", now) == 0
    assert http_client.retry_after("soon", now) is None
    assert http_client.retry_after(None, now) is None
    assert http_client.retry_after("9" * 400, now) == http_client.LONGEST_RETRY_AFTER
    late = "Fri, 31 Dec 9999 23:59:59 GMT"
    assert http_client.retry_after(late, now) == http_client.LONGEST_RETRY_AFTER
    assert http_client.retry_after("Fri, 31 Dec 99999 23:59:59 +9999", now) is None


@pytest.mark.parametrize(
    "url",
    ["https://u:se/same@h/", "https://u:sesame@h:se", "http://se\u0301same:x/"],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url):
    with pytest.raises(StepError, match="cannot be read") as caught:
        HttpClient(HttpSettings()).address(Request("GET", url))
    assert "same" not in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("../admin", "climbs"),
        ("a/../../admin", "climbs"),
        ("%2e%2e/admin", "climbs"),
        ("a/%2E%2e", "climbs"),
        ("//evil.example/x", "neither"),
        ("mailto:x", "neither"),
        ("https://h:444/x", "not under"),
        ("http://h/x", "not under"),
        ("https://h.evil.example/", "not under"),
        ("https://h@evil.example/", "not under"),
        ("x" * 70_000, "too long"),
    ],
)
def test_a_path_stays_under_its_connector(url, words):
    with pytest.raises(StepError, match=words):
        HttpClient(HttpSettings("https://h/v3")).address(Request("GET", url))


def test_what_the_connectors_url_asks_is_asked_each_time():
    client = HttpClient(HttpSettings("https://h/v3/?api-version=7"))
    found = client.address(Request("GET", "items?page=2", query={"size": 5}))
    assert str(found) == "https://h/v3/items?api-version=7&page=2&size=5"
    assert str(client.address(Request("GET", ""))) == "https://h/v3/?api-version=7"
    assert str(client.address(Request("GET", "#part"))) == "https://h/v3/?api-version=7"
    bare = HttpClient(HttpSettings("https://h/v3"))
    assert str(bare.address(Request("GET", "?page=2"))) == "https://h/v3?page=2"
    assert str(bare.address(Request("GET", "/"))) == "https://h/v3/"
    assert str(bare.address(Request("GET", "/users:all"))) == "https://h/v3/users:all"
    with pytest.raises(StepError, match="begin a path with /"):
        bare.address(Request("GET", "users:all"))


async def _portions(data):
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def _answer(data, encoding):
    return httpx.Response(200, headers={"content-encoding": encoding}, content=_portions(data))


def _gzip(data):
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


async def test_a_compressed_body_is_read_whole():
    text = b"some words " * 20_000
    assert await decoding.body(_answer(_gzip(text), "gzip"), 10**6) == text
    assert (
        await decoding.body(_answer(_gzip(text) + _gzip(b"more"), "gzip"), 10**6) == text + b"more"
    )
    assert await decoding.body(_answer(zlib.compress(text), "deflate"), 10**6) == text
    raw = zlib.compressobj(wbits=-15)
    bare = raw.compress(text) + raw.flush()
    assert await decoding.body(_answer(bare, "deflate"), 10**6) == text


async def test_a_small_body_that_unpacks_to_a_huge_one_is_cut_off():
    bomb = _gzip(bytes(50_000_000))
    with pytest.raises(StepError, match="larger than max_bytes"):
        await decoding.body(_answer(bomb, "gzip"), 1_000_000)


async def test_a_broken_or_unknown_encoding_is_told():
    with pytest.raises(StepError, match="broken"):
        await decoding.body(_answer(b"no gzip at all", "gzip"), 1000)
    with pytest.raises(StepError, match="too early"):
        await decoding.body(_answer(_gzip(b"x" * 50_000)[:-20], "gzip"), 10**6)
    with pytest.raises(StepError, match="not asked for"):
        await decoding.body(_answer(b"x", "br"), 1000)


DIRECTIONS = ["/", "//", "..", ".", "%2e", "%2F", "\\", "@", ":", "#", "?", "&", "=", "[", "]", "%"]
WORDS = ["http:", "https://", "h", "evil.example", "127.0.0.1", "a", "0", " ", "é"]
DOTS = ["\u2025", "\uff0e", "\u3002"]
PIECES = st.sampled_from([*DIRECTIONS, *WORDS, *DOTS])


@given(st.lists(PIECES, max_size=9).map("".join))
@settings(max_examples=1500, deadline=None)
def test_no_url_leads_away_from_its_connector(url):
    """Whatever stands where a relative URL is meant, credentials stay with host and path."""
    base = httpx.URL("https://h/v3/x")
    try:
        found = HttpClient(HttpSettings(str(base))).address(Request("GET", url))
    except StepError:
        return
    # What the address says is what goes over the wire.
    wire = httpx.URL(str(found))
    for one in (found, wire):
        assert (one.scheme, one.host, one.port) == ("https", "h", None), str(found)
    if not httpx.URL(url).is_absolute_url:
        assert wire.path == "/v3/x" or wire.path.startswith("/v3/x/"), str(found)
        assert ".." not in wire.path.split("/")


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_header_is_carried_whole_or_refused(name, value):
    hop = Hop("GET", httpx.URL("https://h/"), None, None)
    try:
        draft = hop.draft({name: value})
    except StepError:
        return
    raw = [(key, said) for key, said in draft.headers.raw if key.lower() == name.lower().encode()]
    if name.lower() != "accept-encoding":
        assert [said for _, said in raw] == [value.strip(" \t").encode()]
    assert b"\n" not in b"".join(key + said for key, said in draft.headers.raw)
