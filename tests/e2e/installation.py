"""One running `nomaflow up`, and a client of it that knows only what is public."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect

from nomaflow.cli.home import State
from nomaflow.errors import NomaflowError

NOMAFLOW = Path(sys.executable).with_name("nomaflow")
READY_SECONDS = 90.0
RUN = """query ($id: ID!) { run(id: $id) {
  id jobName jobRevision status reason triggeredBy startedAt finishedAt params overrides
  interruptions rowsAffected error { type message traceback }
  steps { name type status reason summary input output rowsAffected durationSeconds
    error { type message traceback }
    attempts { number status startedAt finishedAt error { type message } } }
  logs(first: 1000) { nodes { level step message } } } }"""
EVENTS = """subscription ($run: ID!, $after: Cursor) { runEvents(run: $run, after: $after) {
  __typename cursor at
  ... on RunChanged { runStatus: status reason }
  ... on StepChanged { step stepStatus: status attempt }
  ... on StepProgressed { step progress { done total unit } }
  ... on LogsWritten { lines { cursor level step message } } } }"""
TRIGGER = """mutation ($input: RunTriggerInput!) { runTrigger(input: $input) {
  run { id status triggeredBy } created errors { code message path } } }"""


class Installation:
    """One running `nomaflow up`: where it is, and what a client can ask of it."""

    def __init__(self, folder: Path, project: Path, environment: dict[str, str]) -> None:
        self.folder, self.project, self.home = folder, project, folder / "home"
        self.log = folder / "up.log"
        self._environment = environment
        self._port = free_port()
        self.start()

    def start(self) -> None:
        """Start on the same home as before, and wait until it is ready."""
        command = [str(NOMAFLOW), "up", "--home", str(self.home), "--project", str(self.project)]
        command += ["--port", str(self._port)]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("NOMAFLOW_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=clean | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up and self.process.poll() is None:
            try:
                self.state = State.read(self.home)
                if httpx.get(f"{self.state.url}/ready", trust_env=False).is_success:
                    return
            except (NomaflowError, httpx.HTTPError):
                pass
            time.sleep(0.1)
        self.stop()
        pytest.fail(f"`nomaflow up` is not ready:\n{self.said()[-5000:]}")

    def stop(self) -> int:
        """End it in good order; gives its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def said(self) -> str:
        """Everything that the programs have written."""
        return self.log.read_text(errors="replace")

    def pid(self, program: str) -> int | None:
        """The process of one program, asked of the kernel."""
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = status.read_bytes().split(b"\0")
                parent = (status.parent / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:  # it ended meanwhile
                continue
            if f"nomaflow_{program}".encode() in words and int(parent) == self.process.pid:
                return int(status.parent.name)
        return None

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line against this installation."""
        environment = os.environ | {
            "NOMAFLOW_URL": self.state.url,
            "NOMAFLOW_TOKEN": self.state.admin_token,
        }
        return subprocess.run(
            [str(NOMAFLOW), *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.state.admin_token}"}

    async def answer(self, query: str, **variables: Any) -> dict[str, Any]:
        """The whole answer to a query or mutation, errors included."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            response = await client.post(
                f"{self.state.url}/graphql",
                json={"query": query, "variables": variables},
                headers=self.headers,
            )
        return response.json()

    async def ask(self, query: str, **variables: Any) -> Any:
        """The data of an answer that must hold no error."""
        answer = await self.answer(query, **variables)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    async def trigger(self, job: str, **wishes: Any) -> str:
        """Start a run that must be accepted; gives its id."""
        payload = (await self.ask(TRIGGER, input={"job": job, **wishes}))["runTrigger"]
        assert payload["errors"] == []
        return uuid_of(payload["run"]["id"])

    async def refused(self, job: str, **wishes: Any) -> list[dict[str, Any]]:
        """Ask for a run that must be refused; gives the caller's mistakes."""
        payload = (await self.ask(TRIGGER, input={"job": job, **wishes}))["runTrigger"]
        assert payload["run"] is None
        return payload["errors"]

    async def run(self, run_id: str) -> dict[str, Any]:
        """All that history knows of a run."""
        found = (await self.ask(RUN, id=run_id))["run"]
        assert found is not None
        return found

    async def ended(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for a run's last event; gives what history knows then."""
        async with asyncio.timeout(seconds):
            async for _ in self.subscribe(EVENTS, run=run_id):
                pass
        return await self.run(run_id)

    async def until(self, run_id: str, heard: Callable[[dict[str, Any]], bool]) -> None:
        """Wait for an event of a run."""
        async with asyncio.timeout(30):
            async for data in self.subscribe(EVENTS, run=run_id):
                if heard(data["runEvents"]):
                    return
        pytest.fail(f"run {run_id} ended before that was heard")

    async def running(self, run_id: str, step: str) -> None:
        """Wait until a step is under way."""
        await self.until(run_id, lambda e: e.get("step") == step and e.get("stepStatus"))

    async def all_ended(self, runs: list[str]) -> list[dict[str, Any]]:
        """Wait for several runs; gives what history knows of each."""
        return await asyncio.gather(*(self.ended(run_id) for run_id in runs))

    async def eventually(
        self, ask: Callable[[], Awaitable[Any]], wanted: Callable[[Any], Any]
    ) -> Any:
        """Ask until the answer is the wanted one; gives that answer."""
        async with asyncio.timeout(15):
            while not wanted(answer := await ask()):
                await asyncio.sleep(0.05)
        return answer

    async def subscribe(self, query: str, **variables: Any) -> AsyncIterator[dict[str, Any]]:
        """What a subscription says, over graphql-transport-ws, until it completes."""
        url = self.state.url.replace("http", "ws", 1) + "/graphql"
        async with connect(url, subprotocols=["graphql-transport-ws"], proxy=None) as socket_:
            await socket_.send(message("connection_init", payload=self.headers))
            assert json.loads(await socket_.recv())["type"] == "connection_ack"
            payload = {"query": query, "variables": variables}
            await socket_.send(message("subscribe", id="1", payload=payload))
            async for text in socket_:
                said = json.loads(text)
                match said["type"]:
                    case "next":
                        assert "errors" not in said["payload"], said["payload"]["errors"]
                        yield said["payload"]["data"]
                    case "ping":
                        await socket_.send(message("pong"))
                    case "complete":
                        return
                    case "error":
                        pytest.fail(f"the subscription was refused: {said['payload']}")

    @asynccontextmanager
    async def database(self, name: str = "nomaflow") -> AsyncIterator[asyncpg.Connection]:
        """A connection of the owner's to the embedded PostgreSQL."""
        connection = await asyncpg.connect(self.state.database_url, database=name)
        try:
            yield connection
        finally:
            await connection.close()


def uuid_of(global_id: str) -> str:
    """The UUID in a run's global id, as the command line and the database show it."""
    return base64.urlsafe_b64decode(global_id + "==").decode().removeprefix("Run:")


def message(kind: str, **rest: Any) -> str:
    return json.dumps({"type": kind, **rest})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
