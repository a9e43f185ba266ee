"""The client against a real GraphQL server on a real socket that can be cut at will."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator

import pytest
import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError

from nomaflow.errors import Code
from nomaflow.outside.address import Address
from nomaflow.outside.api_client import Client
from nomaflow.outside.refusals import ClientError

TOKEN = "nf_test_token"
EVENTS = 12
FOLLOW = "subscription($after: String) { count(after: $after) { cursor number } }"


@strawberry.type
class Mistake:
    code: str
    message: str
    path: list[str]


@strawberry.type
class Payload:
    ok: bool
    errors: list[Mistake]


@strawberry.type
class Number:
    cursor: str
    number: int


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, info: strawberry.Info, name: str) -> str:
        return f"{name} by {info.context['request'].headers.get('nomaflow-client')}"

    @strawberry.field
    def broken(self) -> str:
        raise ValueError("no such luck")


@strawberry.type
class Mutation:
    @strawberry.mutation
    def trigger(self, job: str) -> Payload:
        if job == "known":
            return Payload(ok=True, errors=[])
        mistake = Mistake(code="NOT_FOUND", message=f"There is no job `{job}`.", path=["job"])
        return Payload(ok=False, errors=[mistake])


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, after: str | None = None) -> AsyncGenerator[Number, None]:
        for number in range(int(after or 0) + 1, EVENTS + 1):
            yield Number(cursor=str(number), number=number)

    @strawberry.subscription
    async def slow(self, after: str | None = None) -> AsyncGenerator[Number, None]:
        if after is None:
            yield Number(cursor="1", number=1)
            raise strawberry_error("Too slow.", "SLOW_CONSUMER")
        yield Number(cursor="2", number=2)

    @strawberry.subscription
    async def failing(self, after: str | None = None) -> AsyncGenerator[Number, None]:
        yield Number(cursor="1", number=1)
        raise strawberry_error("There is no such run.", "NOT_FOUND")


def strawberry_error(message, code):
    from graphql import GraphQLError

    return GraphQLError(message, extensions={"code": code})


class Guarded(GraphQL):
    """The strawberry server behind a token, on HTTP and on connection_init."""

    async def on_ws_connect(self, context):
        if context["connection_params"].get("authorization") != f"Bearer {TOKEN}":
            raise ConnectionRejectionError
        return {}

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if headers.get(b"authorization") != f"Bearer {TOKEN}".encode():
                await PlainTextResponse("no", 401)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class Cut:
    """Cuts each socket after so many results; counts the sockets. None: never."""

    def __init__(self, app):
        self.app = app
        self.after = None
        self.sockets = 0
        self.code = 1012

    async def __call__(self, scope, receive, send):
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        self.sockets += 1
        told = 0

        async def counted(message):
            nonlocal told
            if message["type"] == "websocket.send" and '"next"' in message.get("text", ""):
                if told == self.after:
                    await send({"type": "websocket.close", "code": self.code})
                    raise asyncio.CancelledError
                told += 1
            await send(message)

        with contextlib.suppress(asyncio.CancelledError):
            await self.app(scope, receive, counted)


class Served:
    """A uvicorn in this loop, on a port of its own."""

    def __init__(self):
        import logging

        # A cut connection is what these tests do; strawberry and uvicorn may say so elsewhere.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        schema = strawberry.Schema(Query, Mutation, Subscription)
        self.cut = Cut(Guarded(schema, graphql_ide=None))
        plain = Route("/plain/graphql", PlainTextResponse("just a page"))
        app = Starlette(routes=[plain, Mount("/", self.cut)])
        config = uvicorn.Config(app, port=0, log_config=None, ws="websockets-sansio")
        self.server = uvicorn.Server(config)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_):
        self.server.should_exit = True
        await self.task

    @property
    def url(self):
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"


@pytest.fixture
async def served():
    async with Served() as server:
        yield server


@pytest.fixture
async def client(served):
    place = Address(served.url, TOKEN, "the test")
    async with Client(place, "cli/bob", timeout=5, patience=5) as open_client:
        yield open_client


async def numbers(client, document=FOLLOW):
    return [data["count"]["number"] async for data in client.subscribe(document)]


async def test_a_query_gives_its_data_and_says_who_asks(client):
    answer = await client.query("query($n: String!) { hello(name: $n) }", {"n": "Ada"})
    assert answer == {"hello": "Ada by cli/bob"}


async def test_an_error_of_the_api_is_a_sentence(client):
    with pytest.raises(ClientError, match="no such luck") as refused:
        await client.query("{ broken }")
    assert refused.value.path == ("broken",)


async def test_the_caller_s_mistakes_are_a_refusal_with_code_and_place(client):
    document = "mutation($job: String!) { trigger(job: $job) { ok errors { code message path } } }"
    assert (await client.mutate(document, {"job": "known"}))["ok"]
    with pytest.raises(ClientError, match=r"^There is no job `x`") as refused:
        await client.mutate(document, {"job": "x"})
    assert refused.value.code is Code.NOT_FOUND
    assert refused.value.path == ("job",)


async def test_a_subscription_ends_with_its_last_result(client):
    assert await numbers(client) == list(range(1, EVENTS + 1))


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
async def test_a_cut_subscription_goes_on_where_it_was(served, client, code):
    served.cut.after, served.cut.code = 5, code
    assert await numbers(client) == list(range(1, EVENTS + 1))
    assert served.cut.sockets == 3  # five, five, two


async def test_without_a_cursor_a_cut_subscription_is_unavailable(served, client):
    served.cut.after = 5
    document = "subscription { count { number } }"
    with pytest.raises(ClientError, match="does not answer") as refused:
        await numbers(client, document)
    assert refused.value.code is Code.UNAVAILABLE


async def test_it_waits_for_an_api_that_restarts(served, client):
    served.cut.after = 5
    heard = []
    restarted = asyncio.Event()
    port = served.server.servers[0].sockets[0].getsockname()[1]
    async for data in client.subscribe(FOLLOW):
        heard.append(data["count"]["number"])
        if len(heard) == 5 and not restarted.is_set():
            served.server.should_exit = True
            await served.task
            restarted.set()
            served.cut.after = None
            again = uvicorn.Config(served.cut, port=port, log_config=None, ws="websockets-sansio")
            served.server = uvicorn.Server(again)
            served.task = asyncio.create_task(served.server.serve())
    assert heard == list(range(1, EVENTS + 1))


async def test_a_slow_listener_who_was_sent_away_comes_back(client):
    document = FOLLOW.replace("count(", "slow(")
    heard = [data["slow"]["number"] async for data in client.subscribe(document)]
    assert heard == [1, 2]


async def test_a_refusal_ends_a_subscription_for_good(client):
    document = FOLLOW.replace("count(", "failing(")
    with pytest.raises(ClientError, match="no such run") as refused:
        [data async for data in client.subscribe(document)]
    assert refused.value.code is Code.NOT_FOUND


async def test_a_wrong_token_is_refused_on_http_and_on_the_socket(served):
    async with Client(Address(served.url, "wrong", "NOMAFLOW_TOKEN")) as client:
        for ask in (client.query("{ hello }"), numbers(client)):
            with pytest.raises(ClientError, match="refused the token from NOMAFLOW_TOKEN") as no:
                await ask
            assert no.value.code is Code.FORBIDDEN
            assert "wrong" not in no.value.message


async def test_no_token_says_where_one_may_come_from(served):
    async with Client(Address(served.url, None, "nowhere")) as client:
        with pytest.raises(ClientError, match="set NOMAFLOW_TOKEN"):
            await client.query("{ hello }")


async def test_nobody_at_the_address_is_unavailable(unused_tcp_port):
    place = Address(f"http://127.0.0.1:{unused_tcp_port}", TOKEN, "the test")
    async with Client(place, patience=0.2) as client:
        for ask in (client.query("{ hello }"), numbers(client)):
            with pytest.raises(ClientError, match="Is `nomaflow up` running") as refused:
                await ask
            assert refused.value.code is Code.UNAVAILABLE


async def test_a_page_that_is_no_graphql_is_told_apart(served):
    async with Client(Address(f"{served.url}/plain", TOKEN, "the test")) as client:
        with pytest.raises(ClientError, match="and no GraphQL"):
            await client.query("{ hello }")


async def test_the_token_is_never_shown(served):
    place = Address(served.url, TOKEN, "the test")
    assert TOKEN not in repr(place)
    assert TOKEN not in json.dumps(str(place))
