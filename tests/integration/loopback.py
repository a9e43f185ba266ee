"""A real HTTP server on the loopback that a test scripts answer by answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Answer = bytes | tuple[int, dict[str, str], bytes]


@dataclass
class Received:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


Handler = Callable[[Received], Answer | Awaitable[Answer | None] | None]


@dataclass
class Loopback:
    """Counts and keeps what it receives; `answer` says what to send back.

    A connection ends after one answer, unless the answer says `Connection: keep-alive`.
    """

    answer: Handler = field(default=lambda _request: (200, {}, b""))
    received: list[Received] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    port: int = 0
    scheme: str = "http"
    _server: asyncio.Server | None = None
    _tasks: set[Any] = field(default_factory=set)
    writer: asyncio.StreamWriter | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def replies(self, *answers: Answer) -> None:
        """Give these answers in turn, the last one again and again."""
        left = list(answers)
        self.answer = lambda _request: left.pop(0) if len(left) > 1 else left[0]

    async def start(self, ssl: Any = None) -> None:
        self.scheme = "https" if ssl else "http"
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=ssl)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            self.closed.set()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether another may follow on the same connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = [tuple(line.split(": ", 1)) for line in head[1:] if line]
        request = Received(method, target, headers, b"")
        length = int(request.header("content-length") or 0)
        request.body = await reader.readexactly(length)
        self.received.append(request)
        self.writer = writer
        answer = self.answer(request)
        if asyncio.iscoroutine(answer):
            answer = await answer
        kept = False
        if answer is None:
            return kept
        if not isinstance(answer, bytes):
            status, fields, body = answer
            fields = {"Content-Length": str(len(body)), "Connection": "close", **fields}
            kept = fields["Connection"] == "keep-alive"
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            answer = f"HTTP/1.1 {status} Reason\r\n{lines}\r\n".encode() + body
        writer.write(answer)
        await writer.drain()
        return kept


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON answer."""
    fields = {name.replace("_", "-"): text for name, text in headers.items()}
    return status, {"Content-Type": "application/json", **fields}, json.dumps(value).encode()
