import asyncio
import gzip
import json
import os
import ssl
import time
from pathlib import Path

import pytest
from loopback import Loopback, as_json
from step_context import RealContext

from nomaflow.connectors import check, spec
from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow.errors import StepError
from nomaflow.steps.http import HttpStep


@pytest.fixture
async def other():
    made = Loopback()
    await made.start()
    yield made
    await made.stop()


async def send(url, *, context=None, **settings):
    context = context or RealContext()
    return await context.run(HttpStep.model_validate({"url": url, **settings}))


async def refused(url, *, context=None, **settings):
    with pytest.raises(StepError) as caught:
        await send(url, context=context, **settings)
    return caught.value


@pytest.mark.parametrize("method", ["GET", "post", "Put", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def test_methods_headers_and_query_reach_the_server(server, method):
    await send(
        server.url + "/a?x=1",
        method=method,
        headers={"X-Key": "k", "User-Agent": "me", "X-Page": 7, "X-All": True, "X-None": None},
        query={"y": "a b", "z": [1, True], "w": None, "f": {"a": [1]}},
    )
    request = server.received[0]
    assert (request.method, request.target) == (
        method.upper(),
        "/a?x=1&y=a+b&z=1&z=true&f=%7B%22a%22%3A+%5B1%5D%7D",
    )
    assert (request.header("x-page"), request.header("x-all")) == ("7", "true")
    assert request.header("x-none") is None
    assert (request.header("x-key"), request.header("user-agent")) == ("k", "me")
    assert request.header("host") == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("body", "headers", "sent", "kind"),
    [
        ({"text": "✅ done"}, {}, '{"text": "✅ done"}', "application/json"),
        ([1, {"a": None}], {}, '[1, {"a": null}]', "application/json"),
        (
            {"a": 1},
            {"content-type": "application/vnd.x+json"},
            '{"a": 1}',
            "application/vnd.x+json",
        ),
        ("a=1&b=2", {"Content-Type": "application/x-www-form-urlencoded"}, "a=1&b=2", None),
        ("plain", {}, "plain", None),
        (5, {}, "5", "application/json"),
    ],
)
async def test_tables_and_arrays_are_sent_as_json_and_text_as_it_is(
    server, body, headers, sent, kind
):
    await send(server.url, method="POST", body=body, headers=headers)
    request = server.received[0]
    assert request.body.decode() == sent
    kinds = [value for name, value in request.headers if name.lower() == "content-type"]
    assert kinds == ([kind] if kind else list(headers.values()))


async def test_the_decoded_body_goes_to_later_steps_whole(server):
    items = [{"id": number, "body": "x" * 1000} for number in range(2000)]
    server.replies(as_json(items, ETag='"7"', Set_Cookie="secret=1"))
    result = await send(server.url)
    assert result.output["body"] == items
    assert (result.output["status"], result.output["headers"]["etag"]) == (200, '"7"')
    assert "secret" not in json.dumps(result.output["headers"])
    assert result.output["elapsed_ms"] >= 0
    assert result.summary == "status=200 · body=2000 items"


@pytest.mark.parametrize(
    ("kind", "body", "decoded", "summary"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}, "status=200 · body=1 field"),
        ("application/problem+json", b"[1]", [1], "status=200 · body=1 item"),
        ("application/json", b"not json", "not json", "status=200 · body=8 characters"),
        ("application/json", b'{"a": NaN}', '{"a": NaN}', "status=200 · body=10 characters"),
        ("application/json", b"[" * 100_000, "[" * 100_000, "status=200 · body=100000 characters"),
        ("application/json", b"", None, "status=200"),
        ("text/plain; charset=latin-1", b"caf\xe9", "café", "status=200 · body=4 characters"),
        ("text/csv", b"a;b", "a;b", "status=200 · body=3 characters"),
    ],
)
async def test_json_is_decoded_and_text_stays_text(server, kind, body, decoded, summary):
    server.replies((200, {"Content-Type": kind}, body))
    context = RealContext()
    result = await send(server.url, context=context)
    assert (result.output["body"], result.summary) == (decoded, summary)
    is_broken = "json" in kind and decoded is not None and isinstance(decoded, str)
    warned = [words for words in context.log.at("WARNING") if "is JSON and is none" in words]
    assert len(warned) == is_broken


async def test_a_binary_body_is_kept_as_base64(server):
    server.replies((200, {"Content-Type": "image/png"}, b"\x89PNG\xff"))
    result = await send(server.url)
    assert (result.output["body"], result.output["body_base64"]) == (None, "iVBOR/8=")


async def test_another_status_than_2xx_fails_with_an_excerpt_and_keeps_the_output(server):
    server.replies(as_json({"error": "down " * 500}, 503, Retry_After="120"))
    error = await refused(server.url + "/x?token=sesame")
    assert (error.http_status, error.retry_after, error.category) == (503, 120, "error")
    assert "answered 503 Reason" in error.message
    assert 'Reason: {"error": "down down' in error.message
    assert len(error.message) < 700
    assert "sesame" not in error.message
    assert error.output["status"] == 503
    assert error.output["body"]["error"].startswith("down")


async def test_headers_of_the_answer_are_shown_but_for_those_that_carry_secrets(server):
    server.replies(
        (
            200,
            {
                "X-Next-Page-Token": "page-2",
                "Link": '<https://h/?page=2>; rel="next"',
                "WWW-Authenticate": 'Bearer error="insufficient_scope"',
                "Set-Cookie": "id=sesame",
                "X-CSRF-Token": "sesame",
                "X-Amz-Security-Token": "sesame",
                "X-Long": "x" * 10_000,
            },
            b"",
        )
    )
    shown = (await send(server.url)).output["headers"]
    assert "sesame" not in str(shown)
    assert (shown["set-cookie"], shown["x-csrf-token"]) == ("***", "***")
    assert shown["x-next-page-token"] == "page-2"
    assert shown["link"].endswith('rel="next"')
    assert shown["www-authenticate"].startswith("Bearer error")
    assert len(shown["x-long"]) == 4000


async def test_a_post_carries_a_key_unless_it_has_its_own(server):
    context = RealContext()
    for method in ("POST", "PATCH", "GET", "PUT"):
        await send(server.url, context=context, method=method)
    await send(server.url, context=context, method="POST", headers={"idempotency-key": "mine"})
    key = f"{context.run_id}:a-step"
    keys = [request.header("idempotency-key") for request in server.received]
    assert keys == [key, key, None, None, "mine"]


def test_an_interrupted_request_is_repeated_where_that_does_no_harm():
    def default(**settings):
        return HttpStep.model_validate({"url": "https://h", **settings}).interrupt_default()

    assert [default(method=method) for method in ("GET", "PUT", "DELETE")] == ["retry"] * 3
    assert [default(method=method) for method in ("POST", "PATCH")] == ["fail"] * 2
    assert default(method="POST", idempotent=True) == "retry"
    assert default(method="POST", headers={"Idempotency-Key": "${kw:order}"}) == "retry"


async def test_expected_statuses_replace_2xx(server):
    server.replies((404, {}, b""))
    result = await send(server.url, expected_statuses=[200, 404])
    assert result.output["status"] == 404
    server.replies((204, {}, b""))
    assert (await refused(server.url, expected_statuses=[200])).http_status == 204
    assert (await send(server.url)).summary == "status=204"


async def test_no_answer_is_a_connection_failure(server):
    closed = server.port
    await server.stop()
    for url in (
        f"http://127.0.0.1:{closed}/",
        "http://no-such-host.invalid/",
    ):
        assert (await refused(url)).category == "connection"
    await server.start()
    for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"nonsense\r\n\r\n"):
        server.answer = lambda _request, answer=answer: answer
        assert (await refused(server.url)).category == "connection", answer


async def test_a_certificate_nobody_vouches_for_is_refused(server):
    await server.stop()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(Path(__file__).with_name("self_signed.pem"))
    await server.start(ssl=tls)
    error = await refused(server.url.replace("http:", "https:"))
    assert error.category == "connection"
    assert "CERTIFICATE_VERIFY_FAILED" in error.message
    assert server.received == []


async def test_requests_are_tried_again_inside_one_attempt(server):
    server.replies((503, {}, b""), (429, {"Retry-After": "0"}, b""), as_json([1]))
    context = RealContext()
    result = await send(server.url, context=context, retry_count=3, retry_delay_seconds=0)
    assert (result.output["body"], len(server.received)) == ([1], 3)
    assert len(context.log.at("WARNING")) == 2
    server.received.clear()
    server.replies((401, {}, b""))
    assert (await refused(server.url, retry_count=3, retry_delay_seconds=0)).http_status == 401
    assert len(server.received) == 1  # asking again would not help
    server.received.clear()
    server.replies((503, {}, b""))
    await refused(server.url, retry_count=2, retry_delay_seconds=0)
    assert len(server.received) == 3


async def test_retry_after_is_obeyed_up_to_a_bound(server):
    server.replies((429, {"Retry-After": "1"}, b""), (200, {}, b""))
    started = time.monotonic()
    await send(server.url, retry_count=1, retry_delay_seconds=0)
    assert time.monotonic() - started >= 1
    server.received.clear()
    server.replies((429, {"Retry-After": "9999"}, b""))
    error = await refused(server.url, retry_count=5, retry_delay_seconds=0)
    assert (error.retry_after, len(server.received)) == (9999, 1)


async def test_a_body_larger_than_the_cap_is_refused_early(server):
    server.replies((200, {}, b"x" * 2000))
    error = await refused(server.url, max_bytes=1000)
    assert "max_bytes" in error.message
    assert not error.retryable

    async def endless(_request):
        writer = server.writer
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    server.answer = endless
    server.closed.clear()
    assert "max_bytes" in (await refused(server.url, max_bytes=5_000_000)).message
    await asyncio.wait_for(server.closed.wait(), 5)


async def test_a_small_bomb_does_not_take_memory(server):
    page = os.sysconf("SC_PAGE_SIZE")

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    bomb = gzip.compress(bytes(150_000_000), compresslevel=9)
    server.replies((200, {"Content-Encoding": "gzip"}, bomb))
    before = resident()
    assert "max_bytes" in (await refused(server.url)).message
    assert resident() - before < 60_000_000


async def test_a_cancelled_request_closes_its_connection(server):
    reached = asyncio.Event()

    async def silent(_request):
        reached.set()
        await asyncio.sleep(60)

    server.answer = silent
    server.closed.clear()
    task = asyncio.create_task(send(server.url))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.writer.transport.abort()
    await server.stop()


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
        "http://metadata.google.internal/",
        "http://METADATA.google.internal./",
    ],
)
async def test_forbidden_places_are_never_asked(url):
    error = await refused(url, retry_count=3)
    assert "SSRF_BLOCKED" in error.message
    assert not error.retryable


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/", "gopher://127.0.0.1/"])
def test_a_scheme_that_is_never_sent_is_no_setting(url):
    with pytest.raises(ValueError, match="is never sent; begin the URL with https://"):
        HttpStep.model_validate({"url": url})


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "0", "[::ffff:127.0.0.1]", "localhost"],
)
async def test_jobs_that_may_not_reach_private_addresses_do_not(server, host):
    context = RealContext(policy=HttpPolicy(allow_private=False))
    error = await refused(f"http://{host}:{server.port}/", context=context)
    assert "private addresses" in error.message
    assert server.received == []


async def test_only_listed_hosts_are_reached_where_there_is_a_list(server):
    policy = HttpPolicy(only_hosts=("127.0.0.1",))
    await send(server.url, context=RealContext(policy=policy))
    error = await refused(f"http://localhost:{server.port}", context=RealContext(policy=policy))
    assert "allowed hosts" in error.message


async def test_a_redirect_is_only_followed_when_asked(server):
    server.replies((302, {"Location": "/new"}, b""), (200, {}, b"there"))
    error = await refused(server.url)
    assert "follow_redirects" in error.message
    server.replies((302, {"Location": "/new"}, b""), (200, {}, b"there"))
    result = await send(server.url, follow_redirects=True, method="POST", body={"a": 1})
    assert result.output["body"] == "there"
    last = server.received[-1]
    assert (last.method, last.target, last.body) == ("GET", "/new", b"")
    server.replies((302, {"Location": "/loop"}, b""))
    assert "more than 5" in (await refused(server.url, follow_redirects=True)).message


async def test_credentials_stay_behind_when_the_host_changes(server, other):
    secrets = {"Authorization": "Bearer sesame", "X-API-Key": "sesame", "Cookie": "sesame"}
    server.replies((302, {"Location": other.url + "/x"}, b""))
    await send(server.url, headers=secrets, follow_redirects=True)
    assert "sesame" not in str(other.received[0].headers)
    server.replies((307, {"Location": other.url + "/x"}, b""))
    error = await refused(server.url, follow_redirects=True, method="POST", body="sesame")
    assert "another host" in error.message
    assert len(other.received) == 1
    server.replies((307, {"Location": "/y"}, b""), (200, {}, b""))
    await send(server.url, follow_redirects=True, method="POST", body="b", headers=secrets)
    assert server.received[-1].body == b"b"
    assert server.received[-1].header("authorization") == "Bearer sesame"


@pytest.mark.parametrize("target", ["http://169.254.169.254/", "file:///etc/passwd", "gopher://h/"])
async def test_each_redirect_is_checked_anew(server, target):
    server.replies((302, {"Location": target}, b""))
    assert "SSRF_BLOCKED" in (await refused(server.url, follow_redirects=True)).message


async def test_a_connector_brings_its_url_headers_and_credentials(server):
    for auth, header, value in (
        ({"type": "bearer", "token": "t"}, "authorization", "Bearer t"),
        ({"type": "basic", "username": "u", "password": "p"}, "authorization", "Basic dTpw"),
        ({"type": "api_key", "key": "k"}, "x-api-key", "k"),
    ):
        connectors = {
            "api": spec.parse(
                {
                    "kind": "http",
                    "url": server.url + "/v3/",
                    "headers": {"Accept": "application/x", "X-A": "1"},
                    "auth": auth,
                }
            )
        }
        server.received.clear()
        await send("repos", connector="api", headers={"x-a": "2"}, context=RealContext(connectors))
        request = server.received[0]
        assert request.target == "/v3/repos"
        assert (request.header(header), request.header("x-a")) == (value, "2")
        assert request.header("accept") == "application/x"
        error = await refused(
            "http://127.0.0.1:1/", connector="api", context=RealContext(connectors)
        )
        assert "not under" in error.message
        red = await check.connector("api", connectors["api"])
        assert red.ok, red
    server.replies((401, {}, b""))
    red = await check.connector("api", connectors["api"])
    assert (red.ok, "401" in red.message) == (False, True)
    error = await refused("x", connector="nothing")
    assert "nothing" in error.message


async def test_the_environments_proxy_is_not_used(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    await send(server.url)
    assert len(server.received) == 1


async def test_headers_that_only_appear_at_run_time_are_checked_too(server):
    connectors = {
        "api": spec.HttpConnectorSpec.model_construct(
            kind="http", url=server.url, headers={"X-A": "1\r\nX-B: 2"}, auth=None, queries={}
        )
    }
    error = await refused("/", connector="api", context=RealContext(connectors))
    assert "line break" in error.message
    assert server.received == []


async def test_a_flood_of_headers_fails_cleanly(server):
    async def flood(_request):
        writer = server.writer
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Flood: " + b"x" * 1000 + b"\r\n")
            await writer.drain()

    server.answer = flood
    assert (await refused(server.url)).category == "connection"


async def test_a_dry_run_sends_only_what_changes_nothing(server):
    server.replies(as_json([1, 2]))
    read = await send(server.url, context=RealContext(dry_run=True))
    assert read.output["body"] == [1, 2]
    server.received.clear()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        said = await send(
            server.url + "/x?k=sesame", method=method, context=RealContext(dry_run=True)
        )
        assert said.output["dry_run"]
        assert said.summary.startswith(f"dry run: {method} http://127.0.0.1")
        assert "sesame" not in said.summary
    assert server.received == []
