"""Connections, bounds and bodies of the client that an HTTP connector's requests share."""

import asyncio
import time

import pytest
from loopback import as_json

from nomaflow.connectors import spec
from nomaflow.connectors.http import connector as http
from nomaflow.connectors.http import decoding
from nomaflow.connectors.http import tries as http_tries
from nomaflow.connectors.http.client import HttpClient, NoAnswerError, Request
from nomaflow.connectors.http.connector import HttpPolicy, HttpSettings
from nomaflow.connectors.http.tries import RefusedError, Tries
from nomaflow.errors import StepError

KEPT = {"Connection": "keep-alive"}


@pytest.fixture
async def client(server):
    async with HttpClient(HttpSettings(server.url)) as made:
        yield made


def get(url="x", **settings):
    return Request("GET", url, **settings)


async def test_requests_share_a_connection(server, client):
    server.replies((200, KEPT, b"1"))
    for _ in range(5):
        assert (await client.send(get())).body == 1
    server.replies((204, {**KEPT, "Content-Length": "0"}, b""))
    await client.send(get())
    server.replies((200, KEPT, b""))
    await client.send(Request("HEAD", "x"))
    await client.send(get())
    assert (server.connections, len(server.received)) == (1, 8)


async def test_nothing_of_one_request_stays_for_the_next(server, client):
    server.replies((200, {**KEPT, "Set-Cookie": "session=sesame; Path=/"}, b""))
    await client.send(get(headers={"X-Own": "1", "Authorization": "Bearer mine"}))
    await client.send(get())
    second = server.received[1]
    assert [second.header(name) for name in ("cookie", "x-own", "authorization")] == [None] * 3


async def test_a_kept_connection_that_was_just_closed_is_no_failure_where_repeating_is_safe(
    server, client
):
    def rude(_request):
        return (200, KEPT, b"") if len(server.received) % 2 else None

    server.answer = rude
    await client.send(get())
    await client.send(get())  # the server closes; a new connection is made at once
    assert (len(server.received), server.connections) == (3, 2)
    with pytest.raises(NoAnswerError) as caught:
        await client.send(Request("POST", "x", body="1"))
    assert caught.value.maybe_received
    assert len(server.received) == 4


async def test_a_new_connection_that_is_closed_without_an_answer_is_not_tried_twice(server, client):
    server.answer = lambda _request: None
    with pytest.raises(NoAnswerError):
        await client.send(get())
    assert len(server.received) == 1


async def test_at_most_so_many_requests_are_under_way_and_others_wait(server):
    under_way, most = 0, 0
    go_on = asyncio.Event()

    async def slow(_request):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            go_on.set()
        await go_on.wait()
        await asyncio.sleep(0.01)
        under_way -= 1
        return as_json(1)

    server.answer = slow
    told = spec.parse({"kind": "http", "url": server.url, "max_connections": 3})
    async with HttpClient(http.settings(told, HttpPolicy())) as client:
        replies = await asyncio.gather(*(client.send(get()) for _ in range(12)))
    assert [reply.body for reply in replies] == [1] * 12
    assert most == 3


async def drip(server, portion, pause=0.02):
    """A body that never ends and never falls silent."""
    writer = server.writer
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        writer.write(portion)
        await writer.drain()
        await asyncio.sleep(pause)


@pytest.mark.parametrize("what", ["silence", "a byte at a time", "headers", "1xx", "redirects"])
async def test_a_request_as_a_whole_has_its_time(server, what):
    async def answer(_request):
        writer = server.writer
        match what:
            case "silence":
                await asyncio.sleep(60)
            case "a byte at a time":
                await drip(server, b"x")
            case "headers":
                writer.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    writer.write(b"X-A: b\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case "1xx":
                while True:
                    writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.005)
            case _:
                await asyncio.sleep(0.15)
                return 302, {"Location": "/again"}, b""
        return None

    server.answer = answer
    server.closed.clear()
    settings = HttpSettings(server.url, timeout_seconds=0.4)
    started = time.monotonic()
    async with HttpClient(settings) as client:
        with pytest.raises(NoAnswerError, match=r"no whole answer within 0\.4 s") as caught:
            await client.send(get(follow_redirects=True))
        assert caught.value.category == "timeout"
    assert 0.35 < time.monotonic() - started < 2
    if what in {"a byte at a time", "headers", "1xx"}:  # the connection is closed, not left behind
        await asyncio.wait_for(server.closed.wait(), 5)


async def test_waiting_for_a_turn_is_not_part_of_a_requests_time(server):
    async def slow(_request):
        await asyncio.sleep(0.2)
        return as_json(1)

    server.answer = slow
    settings = HttpSettings(server.url, timeout_seconds=0.35, max_connections=1)
    async with HttpClient(settings) as client:
        await asyncio.gather(*(client.send(get()) for _ in range(3)))
    assert len(server.received) == 3


async def test_the_head_of_a_huge_thing_is_no_huge_thing(server, client):
    server.replies((200, {"Content-Length": "99999999999"}, b""))
    reply = await client.send(Request("HEAD", "x"))
    assert (reply.body, reply.headers["content-length"]) == (None, "99999999999")
    server.replies((304, {"Content-Length": "99999999999"}, b""))
    assert (await client.send(get())).status == 304


@pytest.mark.parametrize(
    ("kind", "data", "body"),
    [
        ("text/plain; charset=iso-8859-15", "5 €".encode("iso-8859-15"), "5 €"),
        ("text/plain; charset=utf-16", "é✓".encode("utf-16"), "é✓"),
        ("text/plain; charset=nonsense", "é".encode(), "é"),
        ("text/plain; charset=punycode", b"abc-", "abc-"),
        ("text/plain; charset=utf-7", b"+AOk-", "+AOk-"),
        ("text/plain; charset=zlib", b"abc", "abc"),
        ("text/plain; charset=ascii", "é".encode(), "é"),
        ("text/csv", "\ufeffa;b".encode(), "a;b"),
        ("application/json", "\ufeff[1]".encode(), [1]),
        ("application/json", "[1]".encode("utf-16"), [1]),
        ("application/json; charset=latin-1", '"é"'.encode(), "é"),
        ("application/octet-stream", b"\x00\xff\xfe", b"\x00\xff\xfe"),
        ("", b'{"a": 1}', {"a": 1}),
        ("text/html", b"<p>", "<p>"),
    ],
)
async def test_text_is_read_in_its_character_set(server, client, kind, data, body):
    server.replies((200, {"Content-Type": kind}, data))
    assert (await client.send(get())).body == body


@pytest.mark.parametrize(
    ("body", "headers", "sent", "kind"),
    [
        (
            {"a": "1 2", "b": [True, "é"], "c": None},
            {"content-type": "application/x-www-form-urlencoded"},
            b"a=1+2&b=true&b=%C3%A9&c=",
            "application/x-www-form-urlencoded",
        ),
        (b"\x00\x01", {}, b"\x00\x01", None),
        ("é", {"Content-Type": "text/plain"}, "é".encode(), "text/plain"),
        ("\ud800", {}, b"?", None),
        ([], {}, b"[]", "application/json"),
    ],
)
async def test_bodies_are_sent_as_their_type_says(server, client, body, headers, sent, kind):
    await client.send(Request("POST", "x", body=body, headers=headers))
    (request,) = server.received
    assert (request.body, request.header("content-type")) == (sent, kind)


async def test_a_body_without_a_json_form_is_told(client):
    loop = []
    loop.append(loop)
    for body in (loop, {"a": float("nan")}):
        with pytest.raises(StepError, match="no JSON form"):
            await client.send(Request("POST", "x", body=body))


async def test_a_redirect_that_drops_the_body_drops_its_type_too(server, client):
    server.replies((303, {"Location": "/seen"}, b""), (200, {}, b""))
    await client.send(
        Request("POST", "x", body={}, headers={"Content-Type": "a/b"}, follow_redirects=True)
    )
    last = server.received[-1]
    assert (last.method, last.body, last.header("content-type")) == ("GET", b"", None)


class Tried:
    """Tries of a request, what is said of each, and the time that is left."""

    def __init__(self, client):
        self.client = client
        self.said = []
        self.left = 3600.0

    async def send(self, method="GET", **tries):
        return await http_tries.send(
            self.client,
            Request(method, "x"),
            Tries(**{"count": 3, "delay_seconds": 0, **tries}),
            say=self.said.append,
            seconds_left=lambda: self.left,
        )


@pytest.fixture
def tried(client):
    return Tried(client)


@pytest.mark.parametrize(
    ("method", "status", "idempotent", "times"),
    [
        ("GET", 500, False, 4),
        ("PUT", 502, False, 4),
        ("DELETE", 504, False, 4),
        ("GET", 429, False, 4),
        ("POST", 429, False, 4),  # it says that it has not acted on it
        ("POST", 503, False, 4),
        ("POST", 500, False, 1),  # it may have
        ("PATCH", 502, False, 1),
        ("POST", 500, True, 4),
        ("GET", 400, False, 1),
        ("GET", 401, False, 1),
        ("GET", 404, False, 1),
        ("GET", 501, False, 1),
        ("GET", 302, False, 1),
    ],
)
async def test_which_answers_are_worth_another_try(
    server, tried, method, status, idempotent, times
):
    server.replies((status, {}, b""))
    with pytest.raises(RefusedError) as caught:
        await tried.send(method, idempotent=idempotent)
    assert caught.value.http_status == status
    assert (len(server.received), len(tried.said)) == (times, times - 1)


@pytest.mark.parametrize(("method", "times"), [("GET", 4), ("POST", 1), ("DELETE", 4)])
async def test_a_request_that_may_have_been_received_is_not_repeated_blindly(
    server, tried, method, times
):
    server.answer = lambda _request: None
    with pytest.raises(NoAnswerError):
        await tried.send(method)
    assert len(server.received) == times


@pytest.mark.parametrize(("method", "times"), [("GET", 4), ("POST", 1)])
async def test_an_answer_that_cannot_be_read_may_be_the_answer_to_a_deed(
    server, tried, method, times
):
    server.replies((200, {"Content-Encoding": "gzip"}, b"no gzip at all"))
    with pytest.raises(NoAnswerError, match="encoding is broken"):
        await tried.send(method)
    assert len(server.received) == times


async def test_a_request_that_was_surely_not_received_is_repeated(server, tried):
    await server.stop()
    with pytest.raises(NoAnswerError):
        await tried.send("POST")
    assert len(tried.said) == 3


async def test_no_try_begins_after_the_steps_time(server, tried):
    server.replies((503, {"Retry-After": "120"}, b"down for a while"))
    tried.left = 60
    with pytest.raises(RefusedError) as caught:
        await tried.send()
    assert (caught.value.retry_after, len(server.received)) == (120, 1)
    assert "down for a while" in caught.value.message


async def test_a_server_that_recovers_is_asked_until_it_does(server, tried):
    server.replies((500, {}, b""), b"garbage\r\n\r\n", (429, {"Retry-After": "0"}, b""), as_json(1))
    assert (await tried.send()).body == 1
    assert len(tried.said) == 3
    assert "answered 500" in tried.said[0]
    assert tried.said[0].endswith("trying again in 0 s (3 more)")


async def test_a_body_that_is_cut_off_is_no_answer(server, tried):
    server.replies((200, {"Content-Length": "10"}, b"12345"))
    with pytest.raises(NoAnswerError) as caught:
        await tried.send(count=0)
    assert caught.value.category == "connection"


@pytest.mark.parametrize("size", ["ffffffffffffffff", "-1", "zz"])
async def test_broken_chunks_end_the_request(server, client, size):
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.replies(f"{head}{size}\r\nabc\r\n".encode())
    with pytest.raises(NoAnswerError):
        await client.send(get())


def test_only_what_we_can_read_is_asked_for():
    assert decoding.ACCEPTED == "gzip, deflate"
