"""The worker's sandbox: functions of the plugins, each called in a guarded process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import structlog

from nomaflow.errors import Code, NomaflowError, StepError
from nomaflow_worker.sandbox import wire
from nomaflow_worker.sandbox.conversation import Conversation, Line, Spare
from nomaflow_worker.sandbox.lease_page import LeasePage
from nomaflow_worker.sandbox.request import ChildListener, ChildRequest

log = structlog.get_logger(__name__)

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
_GRACE_SECONDS = 1.0
_HEAD_START_SECONDS = 0.02


class Sandbox:
    """One nursery process per worker, `warm` children waiting in it, one call for each child.

    `user` is the uid the user's code runs as when the worker is root; where that user may not
    read the plugins or Python itself, the code runs as the worker does and a warning says so.
    """

    def __init__(
        self,
        plugins: Path,
        *,
        python: str = sys.executable,
        user: int | None = None,
        warm: int = 1,
    ) -> None:
        self.plugins = plugins.resolve()
        self._python = python
        self._user = user
        self._warm = warm
        self._lease = LeasePage.make()
        self._scratch: str | None = None
        self._nursery: asyncio.subprocess.Process | None = None
        self._line: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._spares: deque[Spare] = deque()
        self._refilling: asyncio.Task[None] | None = None
        self._hatching: set[asyncio.Task[Spare]] = set()
        self._calls: set[asyncio.Task[Any]] = set()
        self._said_obstacle = False

    async def start(self) -> None:
        """Start the nursery and the first children; NomaflowError when it does not come up.

        A project without plugins needs none of it; should they come later, the first call pays.
        """
        if self.plugins.is_dir():
            await self._ensure_nursery()
            await self._refill()

    async def stop(self) -> None:
        """End every call and every process, and wait until they are gone."""
        self._warm = 0
        for call in self._calls:
            call.cancel()
        ending = {*self._calls, *self._hatching, *([self._refilling] if self._refilling else [])}
        if ending:
            await asyncio.wait(ending)
        while self._spares:
            self._spares.popleft().close()
        await self._end_nursery()
        self._lease.close()
        if self._scratch is not None:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    def extend(self, deadline: float) -> None:
        """Let children live until `deadline` (time.monotonic()); thread-safe, no system call.

        Before the first call there is no deadline. One that has passed ends every call at once.
        """
        self._lease.move(deadline)

    async def call(
        self, request: ChildRequest, listener: ChildListener, *, timeout_seconds: float
    ) -> Any:
        """The JSON value the function returned.

        When this returns or raises, no process of the call is left; cancelled, that takes a
        second at most. FunctionError carries what the function raised; any other StepError says
        how its process ended.
        """
        spare = await self._take()
        conversation = Conversation(spare, request, listener, _GRACE_SECONDS)
        call = asyncio.create_task(conversation.hold(timeout_seconds), name=request.callable)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        if self._refilling is None or self._refilling.done():
            self._refilling = asyncio.create_task(self._refill(call), name="sandbox refill")
        try:
            return await call
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            if ours is None or ours.cancelling():
                raise
            raise StepError(f"{request.callable} was stopped with the worker's sandbox") from None

    async def _take(self) -> Spare:
        """A waiting child, or a new one."""
        spare = None
        while self._spares and spare is None:
            first = self._spares.popleft()
            spare = first if first.is_alive() else None
            if spare is None:
                first.close()
        return spare or await self._new()

    async def _refill(self, call: asyncio.Task[Any] | None = None) -> None:
        """Make children in advance, once `call`, which needs the CPU more, is well under way."""
        if call is not None:
            await asyncio.wait({call}, timeout=_HEAD_START_SECONDS)
        while len(self._spares) < self._warm:
            try:
                self._spares.append(await self._new())
            except (NomaflowError, OSError) as error:
                log.warning("no python child is ready in advance", error=str(error))
                return

    async def _new(self) -> Spare:
        """One more child; when nobody waits for it any more, it becomes a spare."""
        hatching = asyncio.create_task(self._hatch(), name="sandbox hatch")
        self._hatching.add(hatching)
        hatching.add_done_callback(self._hatching.discard)
        try:
            return await asyncio.shield(hatching)
        except asyncio.CancelledError:
            hatching.add_done_callback(self._keep)
            raise

    def _keep(self, hatched: asyncio.Task[Spare]) -> None:
        if hatched.exception() is None:
            self._spares.append(hatched.result())

    async def _hatch(self) -> Spare:
        """Have the nursery fork a guardian and a child; a nursery that died is replaced once."""
        line = await self._ensure_nursery()
        guardian, theirs = socket.socketpair()
        child, childs = socket.socketpair()
        with theirs, childs:
            fds = [theirs.fileno(), childs.fileno()]
            try:
                socket.send_fds(line, [b"s"], fds)
            except OSError:
                await self._end_nursery()
                socket.send_fds(await self._ensure_nursery(), [b"s"], fds)
        return Spare(await Line.open(guardian), await Line.open(child))

    async def _ensure_nursery(self) -> socket.socket:
        async with self._starting:
            if self._line is not None and self._nursery is not None:
                if self._nursery.returncode is None:
                    return self._line
                await self._end_nursery()
                log.warning("the nursery of python steps died; starting another")
            self._line, theirs = socket.socketpair()
            self._line.settimeout(0)
            if self._scratch is None:
                self._scratch = tempfile.mkdtemp(prefix="nomaflow-steps-")
                Path(self._scratch).chmod(0o711)  # the user of the steps passes through
            settings = {
                "plugins": str(self.plugins),
                "scratch": self._scratch,
                "user": self._user,
            }
            with theirs:
                self._nursery = await asyncio.create_subprocess_exec(
                    self._python,
                    *("-P", "-m", "nomaflow_worker.sandbox.nursery"),
                    *(str(theirs.fileno()), str(self._lease.fd), json.dumps(settings)),
                    pass_fds=(theirs.fileno(), self._lease.fd),
                    stdin=asyncio.subprocess.DEVNULL,
                    env=_environment(),
                    start_new_session=True,
                )
            self._say_obstacle(await self._ready(self._line))
            return self._line

    async def _ready(self, line: socket.socket) -> dict[str, Any]:
        """What the nursery says once it has imported everything."""
        frames = wire.Frames(wire.MOST_TEXT)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(_START_SECONDS):
                while data := await loop.sock_recv(line, 65536):
                    for message in frames.feed(data):
                        return dict(message["ready"])
        await self._end_nursery()
        raise NomaflowError(
            Code.UNAVAILABLE,
            f"python steps cannot run: {self._python} -m nomaflow_worker.sandbox.nursery did not "
            f"start within {_START_SECONDS:g} s; its own words are on the worker's stderr",
        )

    def _say_obstacle(self, ready: dict[str, Any]) -> None:
        if ready["obstacle"] and not self._said_obstacle:
            self._said_obstacle = True
            log.warning(
                "python steps run as root: an unprivileged user cannot run them",
                reason=ready["obstacle"],
                plugins=str(self.plugins),
            )

    async def _end_nursery(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            try:
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await nursery.wait()
            except TimeoutError:
                nursery.kill()
                await nursery.wait()


def _environment() -> dict[str, str]:
    """What the nursery, and so every child, has of ours."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {"LANG": "C.UTF-8", **kept}
