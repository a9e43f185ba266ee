"""Answers that no sane server gives: each ends in a sentence, in time, in little memory."""

import asyncio
import gzip
import json
import resource
import time

import pytest
from workshop import working, workshop

from nomaflow.connectors.http.client import HttpClient, Request
from nomaflow.connectors.http.connector import HttpSettings
from nomaflow.errors import StepError

JSON = "Content-Type: application/json\r\n"


def body(data: bytes, kind: str = JSON) -> bytes:
    head = f"HTTP/1.1 200 OK\r\n{kind}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    return head.encode() + data


DIGITS = b"1" * 6_000
KEPT = {
    "nul": (body(b'{"a": "x\\u0000y"}'), {"a": "x\x00y"}),
    "surrogate": (body(b'{"a": "\\ud800"}'), {"a": "\ud800"}),
    "deep": (body(b"[" * 100_000 + b"]" * 100_000), None),
    "digits": (body(b'{"n": ' + DIGITS + b"}"), None),
    "large number": (body(b'{"n": 1e400}'), None),
    "not a number": (body(b'{"n": NaN}'), None),
    "names": (body(json.dumps({"k" * 100_000: 1}).encode()), None),
    "many keys": (body(json.dumps({f"k{n}": n for n in range(50_000)}).encode()), None),
    "bytes": (body(bytes(range(256)), "Content-Type: application/octet-stream\r\n"), None),
    "escape": (body(b"\x1b]0;title\x07\x1b[31mred", "Content-Type: text/plain\r\n"), None),
    "spoof": (body("\u202egnp.exe".encode(), "Content-Type: text/plain\r\n"), None),
    "charset": (body(b"abc", "Content-Type: text/plain; charset=zlib_codec\r\n"), None),
}
JOB = """
[[jobs]]
name = "odd"
"""
STEP = """
[[jobs.steps]]
name = "{name}"
type = "http"
url = "{url}/{at}"
continue_on_error = true
[[jobs.steps]]
name = "{name}-next"
type = "python"
callable = "looks:look"
kwargs = {{ step = "{name}" }}
continue_on_error = true
"""
LOOK = """
def look(ctx, *, step: str):
    output = ctx.previous_step(step).output
    return {"seen": repr(output.get("body"))[:50], "size": len(repr(output.get("body")))}
"""


async def test_odd_bodies_reach_the_next_step_and_history_holds_them(
    server, database_url, redis_url, tmp_path
):
    answers = [answer for answer, _ in KEPT.values()]
    server.answer = lambda request: answers[int(request.target[1:])]
    steps = [
        STEP.format(name=name.replace(" ", "-"), url=server.url, at=at)
        for at, name in enumerate(KEPT)
    ]
    async with workshop(database_url, redis_url, tmp_path / "project") as shop, working(shop):
        await shop.declare(JOB + "".join(steps), **{"plugins__looks.py": LOOK})
        run = await shop.run("odd", 60)
        found = {step["name"]: step for step in await shop.steps(run["id"])}
    for name, (_, expected) in KEPT.items():
        fetched, looked = (found[name.replace(" ", "-") + tail] for tail in ("", "-next"))
        assert fetched["status"] == looked["status"] == "succeeded", (
            name,
            fetched["error"],
            looked["error"],
        )
        assert looked["output"]["size"] > 2, name
        if expected is not None:
            assert looked["output"]["seen"] == repr(expected)[:50], name
    assert run["status"] in {"succeeded", "partial"}, run["reason"]


async def refused(server, answer, *, seconds=1.0, max_bytes=1_000_000):
    """What is said of an answer, how long it took, and how much memory it cost in MB."""
    server.answer = answer
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    async with HttpClient(HttpSettings(timeout_seconds=seconds)) as client:
        with pytest.raises(StepError) as caught:
            await client.send(Request("GET", server.url, max_bytes=max_bytes))
    took = time.monotonic() - started
    assert took < seconds + 2
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100
    assert "127.0.0.1" in caught.value.message
    return caught.value.message


def flood(head: bytes, again: bytes):
    """An answer that goes on for ever."""

    async def answer(_request):
        server = answer.server
        server.writer.write(head)
        while True:
            server.writer.write(again)
            await server.writer.drain()
            await asyncio.sleep(0)

    return answer


EMPTY_MEMBER = gzip.compress(b"")
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "informational answers": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100),
    "one header": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 50_000),
    "many headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 5_000),
    "a status line": (b"HTTP/1.1 200 ", b"O" * 50_000),
    "a chunk's length": (CHUNKS, b"0" * 50_000),
    "a chunk's words": (CHUNKS, b"1;a=" + b"x" * 50_000),
    "trailers": (CHUNKS + b"0\r\n", b"X-A: b\r\n" * 5_000),
    "tiny chunks": (CHUNKS, b"1\r\nx\r\n" * 10_000),
    "empty members": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", EMPTY_MEMBER * 2_000),
}


@pytest.mark.parametrize("what", FLOODS)
async def test_a_flood_is_cut_off(server, what):
    answer = flood(*FLOODS[what])
    answer.server = server
    said = await refused(server, answer, seconds=3.0)
    if what == "empty members":
        assert "larger than max_bytes = 1 000 000" in said


SLOW = {
    "the head": b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 200,
    "the body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 999,
    "chunks": CHUNKS + b"1\r\nx\r\n" * 200,
    "a compressed body": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    + gzip.compress(bytes(range(256)) * 40),
}


@pytest.mark.parametrize("what", SLOW)
async def test_a_byte_at_a_time_is_not_an_answer_in_time(server, what):
    async def drip(_request):
        for at in range(len(SLOW[what])):
            server.writer.write(SLOW[what][at : at + 1])
            await server.writer.drain()
            await asyncio.sleep(0.05)

    assert "no whole answer within 1 s" in await refused(server, drip)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 20 Short\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_what_is_no_answer_is_a_sentence(server, answer):
    assert await refused(server, lambda _: answer, seconds=2.0)
