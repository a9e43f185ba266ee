"""PostgreSQL and Valkey of the house, which go away and come back in every way they can."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import redis.asyncio as redis
from redis.exceptions import RedisError

from nomaflow.embedded.servers import EmbeddedServers


class Outage:
    """A server that can be ended, frozen and started again on what it holds."""

    def __init__(self, embedded: EmbeddedServers) -> None:
        self._embedded = embedded

    async def start(self) -> None:
        await self._embedded.start()

    async def stop(self) -> None:
        """End it in good order."""
        await self._embedded.stop()

    async def end(self, wish: signal.Signals) -> None:
        """End it by a signal; returns when it is gone."""
        (server,) = self._embedded._servers
        server.process.send_signal(wish)
        await asyncio.to_thread(server.process.wait)
        server.process = None

    def pid(self) -> int:
        (server,) = self._embedded._servers
        return server.process.pid

    @contextlib.contextmanager
    def frozen(self):
        """Keep it from running, sockets open: it is there and does not answer."""
        everyone = [self.pid(), *_children(self.pid())]
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in everyone:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


class Postgres(Outage):
    """Durable, as in production: what it has answered is there after a crash."""

    def __init__(self, home: Path) -> None:
        super().__init__(EmbeddedServers(home, valkey=False))

    @property
    def url(self) -> str:
        return self._embedded.database_url

    async def restart(self, *, crash: bool) -> None:
        """Restart on the same data: a fast shutdown, or none at all and recovery from the WAL."""
        await self.end(signal.SIGQUIT if crash else signal.SIGINT)
        await self.start()

    async def recover_slowly(self, seconds: float) -> None:
        """Crash, and take so long over the recovery: it runs, and lets nobody in yet."""
        await self.end(signal.SIGQUIT)
        starting = asyncio.create_task(self.start())
        recovering = await asyncio.to_thread(self._recovering)
        os.kill(recovering, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        os.kill(recovering, signal.SIGCONT)
        await starting

    def _recovering(self) -> int:
        """Catch the process that reads the WAL; it lives for a moment only."""
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            with contextlib.suppress(OSError):
                for pid in self._processes():
                    if b"startup" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        return pid
        raise TimeoutError("no recovery was seen")

    def _processes(self) -> list[int]:
        begun = [s.process for s in self._embedded._servers if s.process is not None]
        return [pid for process in begun for pid in _children(process.pid)]


class Valkey(Outage):
    """The carrier, whose loss must not matter."""

    def __init__(self, home: Path) -> None:
        super().__init__(EmbeddedServers(home, postgres=False))
        self._data = home / "valkey"

    @property
    def url(self) -> str:
        return self._embedded.redis_url

    @contextlib.asynccontextmanager
    async def client(self):
        client = redis.from_url(self.url, socket_timeout=5)
        try:
            yield client
        finally:
            await client.aclose()

    async def flush(self) -> None:
        async with self.client() as client:
            await client.flushall()

    async def pause(self, seconds: float) -> None:
        """Have it take commands and answer none of them."""
        async with self.client() as client:
            await client.client_pause(int(seconds * 1000), all=True)

    def forget(self) -> None:
        """Lose what it kept on disk; call while it is down."""
        shutil.rmtree(self._data)

    @contextlib.asynccontextmanager
    async def full(self):
        """No room for one more key, and no eviction: every write is refused."""
        async with self.client() as client:
            used = (await client.info("memory"))["used_memory"]
            await client.config_set("maxmemory", used + 2_000_000)
            with contextlib.suppress(RedisError):
                for number in range(1000):
                    await client.set(f"junk:{number}", b"x" * 10_000)
        try:
            yield
        finally:
            async with self.client() as client:
                await client.config_set("maxmemory", 0)
                await client.delete(*(f"junk:{number}" for number in range(1000)))
