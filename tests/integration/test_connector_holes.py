"""`connectorTest` on hosts that swallow everything: red within five seconds, and why (V07)."""

import asyncio
import contextlib
import socket
import time

import pytest

from nomaflow.connectors import check, spec

PASSWORD = "hunter2-of-the-hole"
TABLES = {
    "postgresql": {"kind": "sql", "driver": "postgresql", "user": "u", "password": PASSWORD},
    "mysql": {"kind": "sql", "driver": "mysql", "user": "u", "password": PASSWORD},
    "http": {"kind": "http", "auth": {"type": "bearer", "token": PASSWORD}},
    "https": {"kind": "http", "auth": {"type": "bearer", "token": PASSWORD}},
    "oauth2": {"kind": "http"},
    "ldap": {"kind": "ldap", "bind_dn": "cn=u", "bind_password": PASSWORD},
    "start_tls": {
        "kind": "ldap",
        "bind_dn": "cn=u",
        "bind_password": PASSWORD,
        "start_tls": True,
    },
    "ldaps": {"kind": "ldap", "bind_dn": "cn=u", "bind_password": PASSWORD},
}
# The first words of servers that fall silent afterwards.
GREETINGS = {
    "silent": b"",
    "trickle": b"",
    "no tls": b"N",
    "mysql hello": b"\x4a\x00\x00\x00\x0a8.0.36\x00" + b"\x01" * 4 + b"a" * 8 + b"\x00" * 50,
    "http head": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab",
    "bind, then nothing": b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
    "rubbish": b"\xff" * 4096,
}


def connector(what, port):
    table = {**TABLES[what]}
    if table["kind"] == "sql":
        return spec.parse({**table, "host": "127.0.0.1", "port": port, "database": "d"})
    scheme = {"oauth2": "http", "start_tls": "ldap"}.get(what, what)
    url = f"{scheme}://127.0.0.1:{port}"
    if what == "oauth2":
        table["auth"] = {
            "type": "oauth2",
            "token_url": f"{url}/token",
            "client_id": "me",
            "client_secret": PASSWORD,
        }
    return spec.parse({**table, "url": url})


@contextlib.asynccontextmanager
async def hole(greeting):
    """A server that takes a connection, says so much, and then nothing more for ever."""
    open_ends = []

    async def swallow(reader, writer):
        open_ends.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            writer.write(GREETINGS[greeting])
            while await reader.read(65536) or True:
                await asyncio.sleep(0.3)
                if greeting == "trickle":
                    writer.write(b"\x00")

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_ends:
            writer.transport.abort()


@contextlib.contextmanager
def full():
    """A port whose queue of connections is full: the system answers nothing at all."""
    with socket.socket() as listening, contextlib.ExitStack() as fillers:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


async def tried(what, port):
    started = time.monotonic()
    found = await check.connector("hole", connector(what, port))
    assert time.monotonic() - started < 9, found
    assert found.milliseconds < 6_500, found
    assert not found.ok
    assert found.message
    assert PASSWORD not in found.message
    return found.message


async def test_whatever_it_swallows_the_test_is_red_in_time():
    """All at once: it is time that passes."""
    async with contextlib.AsyncExitStack() as stack:
        ports = {one: await stack.enter_async_context(hole(one)) for one in GREETINGS}
        ports["full"] = stack.enter_context(full())
        cases = [(what, name) for what in TABLES for name in ports]
        said = await asyncio.gather(*(tried(what, ports[name]) for what, name in cases))
    messages = dict(zip(cases, said, strict=True))
    for what in TABLES:
        assert messages[what, "silent"] == "no answer within 5 s"


@pytest.mark.parametrize("what", TABLES)
async def test_nobody_listening_is_told_at_once(what):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    said = await tried(what, port)
    assert time.monotonic() - started < 2
    assert "127.0.0.1" in said or "hole" in said, said
