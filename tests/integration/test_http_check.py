"""The test of an HTTP connector: what is green, what is red, and within which time."""

import asyncio
import time

import pytest

from nomaflow.connectors import check, spec
from nomaflow.connectors.http.connector import HttpPolicy


def connector(server, **more):
    return spec.parse({"kind": "http", "url": server.url + "/v1?key=sesame", **more})


@pytest.mark.parametrize(
    ("status", "ok"),
    [
        (200, True),
        (204, True),
        (404, True),
        (405, True),
        (429, True),
        (401, False),
        (403, False),
        (407, False),
        (500, False),
        (503, False),
    ],
)
async def test_any_answer_is_green_but_one_that_refuses_us_or_is_broken(server, status, ok):
    server.replies((status, {}, b"body"))
    found = await check.connector("api", connector(server, headers={"X-A": "1"}))
    assert found.ok is ok
    assert found.message.startswith(f"GET {server.url}/v1?key=... answered {status}")
    assert server.received[0].target == "/v1?key=sesame"
    assert server.received[0].header("x-a") == "1"


async def test_a_redirect_is_followed_and_checked(server):
    server.replies((302, {"Location": "/login"}, b""), (200, {}, b""))
    assert (await check.connector("api", connector(server))).ok
    server.replies((302, {"Location": "http://169.254.169.254/"}, b""))
    red = await check.connector("api", connector(server))
    assert not red.ok
    assert "metadata" in red.message


async def test_no_answer_is_red_in_time(server, monkeypatch):
    async def silent(_request):
        await asyncio.sleep(60)

    server.answer = silent
    assert check.SECONDS == 5
    monkeypatch.setattr(check, "SECONDS", 0.2)
    started = time.monotonic()
    red = await check.connector("api", connector(server))
    assert (red.ok, red.message) == (False, "no answer within 0.2 s")
    assert time.monotonic() - started < 2
    await server.stop()
    red = await check.connector("api", connector(server))
    assert not red.ok
    assert "sesame" not in red.message


async def test_an_address_that_may_not_be_reached_is_red(server):
    policy = HttpPolicy(only_hosts=("api.example.com",))
    red = await check.connector("api", connector(server), policy)
    assert not red.ok
    assert "allowed hosts" in red.message
