"""The nursery as the worker holds it: a process to start, to give orders to, and to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from nomaflow.errors import Code, NomaflowError
from nomaflow_worker.sandbox import wire
from nomaflow_worker.sandbox.lease_page import LeasePage

# All a child's environment holds beside HOME, TMPDIR and the names its step lists (SEC-S08).
_ENVIRONMENT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
_START_SECONDS = 30.0
_LEAVE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class NurseryProcess:
    """A running nursery; `obstacle` is why its children do not run as the user asked for."""

    process: asyncio.subprocess.Process
    line: socket.socket
    obstacle: str | None

    @classmethod
    async def start(
        cls, python: str, plugins: Path, scratch: Path, user: int | None, lease: LeasePage
    ) -> NurseryProcess:
        """Wait until everything is imported; NomaflowError when it does not come up."""
        settings = {"plugins": str(plugins), "scratch": str(scratch), "user": user}
        line, theirs = socket.socketpair()
        line.settimeout(0)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    python,
                    *("-P", "-m", "nomaflow_worker.sandbox.nursery"),
                    *(str(theirs.fileno()), str(lease.fd), json.dumps(settings)),
                    pass_fds=(theirs.fileno(), lease.fd),
                    stdin=asyncio.subprocess.DEVNULL,
                    env=_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            line.close()
            raise NomaflowError(
                Code.UNAVAILABLE, f"python steps cannot run: {python} does not start: {error}"
            ) from None
        ready = await _ready(line)
        nursery = cls(process, line, None if ready is None else ready["obstacle"])
        if ready is None:
            await nursery.end()
            raise NomaflowError(
                Code.UNAVAILABLE,
                f"python steps cannot run: {python} -m nomaflow_worker.sandbox.nursery did not "
                f"come up within {_START_SECONDS:g} s; its own words are on the worker's stderr",
            )
        return nursery

    def is_alive(self) -> bool:
        return self.process.returncode is None

    def fork(self, guardian: socket.socket, child: socket.socket) -> None:
        """Order one guardian and one child, with these ends; OSError when it is gone."""
        socket.send_fds(self.line, [b"f"], [guardian.fileno(), child.fileno()])

    async def end(self) -> None:
        """Close its line, on which it ends by itself, and wait for it."""
        self.line.close()
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def _ready(line: socket.socket) -> dict[str, str | None] | None:
    """What the nursery says once it has imported everything; None when it does not."""
    frames = wire.Frames(wire.MOST_TEXT)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(_START_SECONDS):
            while data := await loop.sock_recv(line, 65536):
                for message in frames.feed(data):
                    return dict(message["ready"])
    return None


def _environment() -> dict[str, str]:
    """What the nursery, and so every child, has of ours."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {"LANG": "C.UTF-8", **kept}
