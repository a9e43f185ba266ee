"""The judge: sees what steps do to the world, from outside, and keeps it in the order it came.

It knows nothing of Nomaflow's history, so it can contradict it. An http step asks it to work for a
time; a python step sends it a datagram. Moments are this machine's clock, as PostgreSQL's are.
"""

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlsplit

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that happened: `began`, `ended`, `cut` (its client went away), `alive`."""

    at: float
    run: str
    step: str
    what: str
    pid: int = 0


class Judge(asyncio.DatagramProtocol):
    """An HTTP server and a UDP socket of this process."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.overlaps: list[tuple[str, str]] = []
        self._open: Counter[tuple[str, str]] = Counter()
        self._answering: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=1000)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._ear, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", self.port)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ear.close()
        self._server.close()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def datagram_received(self, data: bytes, _address: object) -> None:
        run, step, pid, what = data.decode().split()
        self._note(run, step, what, int(pid))

    def _note(self, run: str, step: str, what: str, pid: int = 0) -> None:
        self.effects.append(Effect(time.time(), run, step, what, pid))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = urlsplit(head.split(b" ", 2)[1].decode())
                _, run, step = target.path.split("/")
                seconds = float(dict(parse_qsl(target.query)).get("seconds", "0"))
                if not await self._work(reader, run, step, seconds):
                    return
                writer.write(OK)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    async def _work(
        self, reader: asyncio.StreamReader, run: str, step: str, seconds: float
    ) -> bool:
        """Take `seconds` over it; False when the client went away meanwhile."""
        key = run, step
        if self._open[key]:
            self.overlaps.append(key)
        self._open[key] += 1
        self._note(run, step, "began")
        try:
            async with asyncio.timeout(seconds):
                gone = await reader.read(1)
        except TimeoutError:
            self._note(run, step, "ended")
            return True
        else:
            self._note(run, step, "cut" if not gone else "odd")
            return False
        finally:
            self._open[key] -= 1

    def of(self, run: object, step: str | None = None) -> list[Effect]:
        """What a run did, in order."""
        return [e for e in self.effects if e.run == str(run) and step in {None, e.step}]

    def began(self) -> dict[tuple[str, str], list[float]]:
        """When each step of each run began, as often as it did."""
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for effect in self.effects:
            if effect.what == "began":
                found[effect.run, effect.step].append(effect.at)
        return found
