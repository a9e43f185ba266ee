"""The protocol graphql-transport-ws to the letter: what a socket closes on, and with which code."""

import json
from datetime import timedelta

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nomaflow_api.doors import websocket

from .conftest import TOKEN

CHANGES = "subscription { jobsChanged { name change } }"
VIEWER = "{ viewer { name } }"


async def closed(socket):
    """The code that the next thing to happen closes with."""
    try:
        while True:
            await socket.receive()
    except ConnectionClosed as end:
        return end.rcvd.code


async def test_nothing_is_told_before_a_token_is_shown(api):
    async with api.socket(token=None) as socket:
        await socket.subscribe(CHANGES)
        assert await closed(socket) == 4401
    for payload in (None, {}, {"Authorization": "Bearer wrong"}, {"token": 5}, {"token": "no"}):
        async with api.socket(token=None) as socket:
            await socket.send(type="connection_init", payload=payload)
            assert await closed(socket) == 4401


async def test_a_token_is_taken_from_any_of_its_usual_places(api):
    for payload in (
        {"Authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer {TOKEN}"},
        {"token": TOKEN},
    ):
        async with api.socket(token=None) as socket:
            await socket.send(type="connection_init", payload=payload)
            assert await socket.receive() == {"type": "connection_ack"}


async def test_a_token_of_the_handshake_is_enough(api):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with api.socket(token=None, additional_headers=headers) as socket:
        await socket.send(type="connection_init")
        assert await socket.receive() == {"type": "connection_ack"}


async def test_queries_go_over_a_socket_too(api):
    async with api.socket() as socket:
        await socket.subscribe(VIEWER)
        assert await socket.rest() == [{"viewer": {"name": "admin"}}]


NO_MESSAGES = (
    "[]",
    "5",
    "null",
    "{",
    "{}",
    '{"type": 5}',
    '{"type": "start", "id": "1"}',
    "[" * 5_000,
    '{"type": "subscribe", "id": "1"}',
    '{"type": "subscribe", "payload": {"query": "{a}"}}',
    '{"type": "subscribe", "id": "1", "payload": {"query": 5}}',
    '{"type": "subscribe", "id": "1", "payload": {"query": "{a}", "variables": []}}',
    '{"type": "complete"}',
)


async def test_what_is_not_a_message_closes_with_4400(api):
    for text in NO_MESSAGES:
        async with api.socket() as socket:
            await socket.connection.send(text)
            assert await closed(socket) == 4400, text


async def test_a_binary_frame_closes_with_4400(api):
    async with api.socket() as socket:
        await socket.connection.send(b'{"type": "ping"}')
        assert await closed(socket) == 4400


async def test_the_order_of_the_protocol_is_kept(api):
    async with api.socket() as socket:
        await socket.send(type="ping")
        assert await socket.receive() == {"type": "pong"}
        await socket.send(type="connection_init", payload={"token": TOKEN})
        assert await closed(socket) == 4429
    async with api.socket() as socket:
        message = {"id": "1", "type": "subscribe", "payload": {"query": CHANGES}}
        await socket.send(**message)
        await socket.send(**message)
        assert await closed(socket) == 4409


async def test_a_mistake_ends_the_operation_and_not_the_socket(api):
    async with api.socket() as socket:
        for query, code in (
            ("{", "GRAPHQL_PARSE_FAILED"),
            ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
            ("query A { viewer { name } } query B { viewer { name } }", "BAD_USER_INPUT"),
            ("{ jobs(first: 100) { nodes { runs(first: 100) { nodes { id } } } } }", "COST_LIMIT"),
        ):
            number = await socket.subscribe(query)
            message = await socket.receive()
            assert (message["type"], message["id"]) == ("error", number)
            assert message["payload"][0]["extensions"]["code"] == code
        await socket.subscribe(VIEWER)
        assert await socket.rest()


async def test_a_socket_carries_so_many_operations_and_no_more(api):
    async with api.socket() as socket:
        query = "subscription { runsChanged { run { id } } }"
        for _ in range(websocket.SUBSCRIPTIONS):
            await socket.subscribe(query)
            await socket.next()
        await socket.subscribe(query)
        message = await socket.receive()
        assert message["type"] == "error"
        assert message["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
        await socket.send(id="0", type="complete")
        await socket.subscribe(query)
        await socket.next()


async def test_other_protocols_and_other_pages_are_turned_away(api):
    async with api.socket(token=None, subprotocols=["graphql-ws"]) as socket:
        assert socket.connection.subprotocol is None
        assert await closed(socket) == 4406
    with pytest.raises(InvalidStatus) as error:
        async with api.socket(token=None, origin="https://evil.example"):
            pass
    assert error.value.response.status_code == 403
    async with api.socket(origin=api.url):
        pass


async def test_a_message_over_one_mebibyte_closes_with_1009(api):
    async with api.socket() as socket:
        await socket.connection.send(json.dumps({"type": "ping", "payload": {"x": "x" * 2**21}}))
        assert await closed(socket) == 1009


async def test_whoever_says_nothing_is_not_waited_for(api, monkeypatch):
    (door,) = [r.app for r in api.routes if isinstance(r.app, websocket.GraphqlOverWebSocket)]
    monkeypatch.setattr(door, "connection_init_wait_timeout", timedelta(seconds=0.1))
    async with api.socket(token=None) as socket:
        assert await closed(socket) == 4408


async def test_jobs_are_told_as_they_change(api):
    create = """mutation ($name: String!) { jobCreate(input: {name: $name, steps: [
      {name: "a", type: "sql_query", config: {connector: "default", query: "SELECT 1"}}]})
      { errors { message } } }"""
    await api.query(create, name="first")
    async with api.socket() as socket:
        await socket.subscribe("subscription { jobsChanged { name change job { enabled } } }")

        async def change():
            found = (await socket.next())["jobsChanged"]
            return found["name"], found["change"], found["job"] and found["job"]["enabled"]

        assert await change() == ("first", "snapshot", True)
        await api.query(create, name="second")
        assert await change() == ("second", "created", True)
        switch = 'mutation { jobEnable(name: "first", enabled: false) { errors { message } } }'
        await api.query(switch)
        assert await change() == ("first", "disabled", False)
        await api.query('mutation { jobDelete(name: "second") { name } }')
        assert await change() == ("second", "deleted", None)
