"""The API as a real server on loopback, and runs moved by the store's own functions."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from nomaflow import moves
from nomaflow.lifecycle import Held, Onward, Result
from nomaflow.retry import RetryPolicy
from nomaflow.store import births, claims, logs, runs
from nomaflow.store.births import NewRun, NewStep
from nomaflow.store.transitions import Line
from nomaflow_api import app
from nomaflow_api.__main__ import config, listen
from nomaflow_api.backing import Backing, Options

TOKEN = "a-token-for-tests-0123456789"
SECRET_KEY = "a key of tests that is long enough"
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


@dataclass
class Socket:
    """A graphql-transport-ws client that keeps what each operation was sent."""

    connection: ClientConnection
    numbers: itertools.count = field(default_factory=itertools.count)

    async def send(self, **message):
        await self.connection.send(json.dumps(message))

    async def receive(self):
        async with asyncio.timeout(10):
            text = await self.connection.recv()
        assert isinstance(text, str), "binary frames are not in the protocol"
        return json.loads(text)

    async def init(self, token=TOKEN):
        await self.send(type="connection_init", payload={"Authorization": f"Bearer {token}"})
        assert (await self.receive())["type"] == "connection_ack"

    async def subscribe(self, query, **variables):
        number = str(next(self.numbers))
        payload = {"query": query, "variables": variables}
        await self.send(id=number, type="subscribe", payload=payload)
        return number

    async def next(self):
        message = await self.receive()
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        return message["payload"]["data"]

    async def rest(self):
        """Everything until the operation is complete."""
        found = []
        while (message := await self.receive())["type"] != "complete":
            assert message["type"] == "next", message
            found.append(message["payload"]["data"])
        return found


@dataclass
class Api:
    url: str
    backing: Backing
    http: httpx.AsyncClient
    routes: list

    async def post(self, query, /, variables=None, **headers):
        body = {"query": query, "variables": variables or {}}
        return await self.http.post("/graphql", json=body, headers=headers)

    async def query(self, query, /, **variables):
        response = await self.post(query, variables)
        answer = response.json()
        assert "errors" not in answer, answer
        return answer["data"]

    async def errors(self, query, /, **variables):
        answer = (await self.post(query, variables)).json()
        return [(e["extensions"]["code"], e["message"]) for e in answer["errors"]]

    @contextlib.asynccontextmanager
    async def socket(self, token=TOKEN, **options) -> AsyncIterator[Socket]:
        address = self.url.replace("http", "ws") + "/graphql"
        options.setdefault("subprotocols", ["graphql-transport-ws"])
        async with connect(address, **options) as connection:
            socket = Socket(connection)
            if token is not None:
                await socket.init(token)
            yield socket

    @property
    def db(self):
        return self.backing.db


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "plugins").mkdir(parents=True)
    return folder


@contextlib.asynccontextmanager
async def serve(options: Options, port: int = 0) -> AsyncIterator[Api]:
    backing = Backing(options)
    listener = listen("127.0.0.1", port)
    application = app.make(backing)
    server = Server(config(application))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with asyncio.timeout(10):
            await backing.opened.wait()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as client:
            yield Api(url, backing, client, application.routes)
    finally:
        server.should_exit = True
        await running


@pytest.fixture
def options(database_url, redis_url, project) -> Options:
    return Options(
        database_url=database_url,
        redis_url=redis_url,
        admin_token=TOKEN,
        project=project,
        secret_key=SECRET_KEY,
    )


@pytest.fixture
async def api(options) -> AsyncIterator[Api]:
    async with serve(options) as api:
        yield api


STEPS = (NewStep("fetch", "http"), NewStep("load", "python"))


@dataclass
class Worker:
    """Does to runs what a worker does, one move at a time, and says so as a worker does."""

    api: Api
    held: dict[UUID, Held] = field(default_factory=dict)

    async def born(self, **facts) -> UUID:
        facts = {
            "job_name": "copy",
            "trigger": "api",
            "triggered_by": "api",
            "steps": STEPS,
            **facts,
        }
        async with self.api.db.transaction() as connection:
            run_id = await births.insert(connection, NewRun(**facts))
        self.api.backing.bell.news(run_id, 1, "queued")
        return run_id

    async def claim(self) -> UUID:
        (claimed,) = await claims.claim(
            self.api.db, "w1", limit=1, lease_seconds=60, tags=["default"]
        )
        self.held[claimed.run_id] = claimed.held
        self.api.backing.bell.news(claimed.run_id, claimed.seq, "running")
        return claimed.run_id

    async def move(self, run_id, move, lines=()):
        seq = await runs.apply(self.api.db, move, [self.line(*line) for line in lines])
        assert seq is not None
        self.held[run_id] = self.held[run_id].after(move)
        self.api.backing.bell.news(run_id, seq, move.status.value)
        return seq

    async def done(self, run_id, output=None, summary="ok", lines=(), rows=None):
        """End the running step well; the next one opens, or the run ends."""
        held = self.held[run_id]
        onward = Onward(opens=held.current.position + 1)
        if onward.opens >= len(held.steps):
            onward = Onward()
        result = Result(output or {}, summary, rows_affected=rows, input={"url": "http://x"})
        return await self.move(run_id, moves.succeed(held, result, onward), lines)

    async def failed(self, run_id, failure):
        move = moves.fail(self.held[run_id], failure, RetryPolicy())
        return await self.move(run_id, move)

    async def log(self, run_id, *messages, level="INFO", step="fetch", tell=True):
        held = self.held[run_id]
        lines = [self.line(level, step, message) for message in messages]
        seq = await logs.append(self.api.db, run_id, held.fence, lines)
        if tell:
            self.api.backing.bell.news(run_id, seq)
        return seq

    async def progress(self, run_id, **state):
        held = self.held[run_id]
        seq = await logs.progress(self.api.db, run_id, held.fence, held.current.position, state)
        self.api.backing.bell.news(run_id, seq)

    @staticmethod
    def line(level, step, message):
        return Line(datetime.now(UTC), LEVELS[level], step, message)


@pytest.fixture
def worker(api) -> Worker:
    return Worker(api)
