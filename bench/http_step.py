"""What an http step adds to the request it sends, and what memory a body beyond its bound takes.

The server is a process of its own that answers a small JSON body over kept connections; the floor
is a loop of one httpx client, which checks no address, bounds nothing and reads no retry policy.
`BODY_GB` is how much the endless bodies would send if they were read.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing as mp
import os
import resource
import statistics
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx

from nomaflow.connectors.http.client import HttpClient
from nomaflow.connectors.http.connector import HttpSettings
from nomaflow.errors import StepError
from nomaflow.steps.http import HttpStep

REQUESTS = int(os.environ.get("REQUESTS", "160"))
ROUNDS = 25
"""Many short rounds, one side after the other: what else the machine does falls on both."""
AT_ONCE = 8
GB = float(os.environ.get("BODY_GB", "2"))
MORE_MB = 40.0
LEAST = 0.7
PAGE = json.dumps([{"id": n, "name": f"item {n}"} for n in range(30)]).encode()
TYPE = b"Content-Type: application/json\r\n"


class Context:
    """As much of a step's context as an http step asks for."""

    dry_run = False
    seconds_left = 3600.0
    run_id = uuid4()
    step = "bench"

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self.log = self

    def http(self, _name: str | None) -> HttpClient:
        return self._client

    def info(self, *_: object, **__: object) -> None: ...

    warning = info


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    small = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (TYPE, len(PAGE), PAGE)
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            match head.split(b" ", 2)[1]:
                case b"/plain":
                    await pour(writer, b"", bytes(1 << 20))
                case b"/gzip":
                    packer = zlib.compressobj(9, wbits=31)
                    await pour(
                        writer, b"Content-Encoding: gzip\r\n", packer.compress(bytes(1 << 28))
                    )
                case _:
                    writer.write(small)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def pour(writer: asyncio.StreamWriter, more: bytes, portion: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + more + b"\r\n")
    for _ in range(max(1, int(GB * 1024))):
        writer.write(portion)
        await writer.drain()
    writer.close()


def serve_for_ever(told: Any) -> None:
    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    ours, theirs = mp.Pipe()
    process = mp.get_context("spawn").Process(target=serve_for_ever, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


async def per_second(once: Callable[[], Awaitable[object]], at_once: int) -> float:
    async def some() -> None:
        for _ in range(REQUESTS // at_once):
            await once()

    started = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return REQUESTS / (time.perf_counter() - started)


async def rates(url: str) -> None:
    step = HttpStep.model_validate({"url": url})
    async with HttpClient(HttpSettings()) as client, httpx.AsyncClient() as bare:
        context = Context(client)

        async def ours() -> None:
            assert len((await step.run(context)).output["body"]) == 30  # type: ignore[arg-type]

        async def floor() -> None:
            assert len((await bare.get(url)).json()) == 30

        for at_once in (1, AT_ONCE):
            both = [
                (await per_second(ours, at_once), await per_second(floor, at_once))
                for _ in range(ROUNDS)
            ]
            mine, least = (statistics.median(side) for side in zip(*both, strict=True))
            ratio = statistics.median(fast / bare_one for fast, bare_one in both)
            print(
                f"http step, {at_once} at once    ours {mine:6.0f}/s  bare httpx {least:6.0f}/s  "
                f"ratio {ratio:4.2f}  target {LEAST:.1f}  {'ok' if ratio >= LEAST else 'MISSED'}"
            )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def memory(url: str) -> None:
    async with HttpClient(HttpSettings()) as client:
        context = Context(client)
        await HttpStep.model_validate({"url": url}).run(context)  # type: ignore[arg-type]
        for what in ("plain", "gzip"):
            before = peak_mb()
            try:
                step = HttpStep.model_validate({"url": f"{url}/{what}"})
                await step.run(context)  # type: ignore[arg-type]
                refusal = "nothing: the body was accepted"
            except StepError as error:
                refusal = error.message
            assert "max_bytes" in refusal, refusal
            more = peak_mb() - before
            verdict = "ok" if more <= MORE_MB else "MISSED"
            size = GB if what == "plain" else GB * 256
            print(
                f"a {what} body of {size:5.0f} GB    bound 10 MB  peak memory {more:+6.1f} MB  "
                f"target {MORE_MB:.0f} MB  {verdict}"
            )


async def main() -> None:
    async with server() as url:
        await memory(url)
        await rates(url)


if __name__ == "__main__":
    asyncio.run(main())
