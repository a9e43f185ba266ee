"""The worker's sandbox: functions of the plugins, each called in a guarded process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import structlog

from nomaflow.errors import NomaflowError, StepError
from nomaflow_worker.sandbox.conversation import Conversation, Line, Spare
from nomaflow_worker.sandbox.lease_page import LeasePage
from nomaflow_worker.sandbox.nursery_process import NurseryProcess
from nomaflow_worker.sandbox.request import ChildListener, ChildRequest

log = structlog.get_logger(__name__)

_GRACE_SECONDS = 1.0
_HEAD_START_SECONDS = 0.1


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
        self._scratch: Path | None = None
        self._nursery: NurseryProcess | None = None
        self._stopped = False
        self._starting = asyncio.Lock()
        self._spares: deque[Spare] = deque()
        self._refilling: asyncio.Task[None] | None = None
        self._hatching: set[asyncio.Task[Spare]] = set()
        self._calls: set[asyncio.Task[Any]] = set()
        self._latest: asyncio.Event | None = None
        self._said_obstacle = False

    async def start(self) -> None:
        """Start the nursery and the first children; NomaflowError when it does not come up.

        A project without plugins needs none of it; should they come later, the first call pays.
        """
        if self.plugins.is_dir():
            await self._living_nursery()
            await self._refill()

    async def stop(self) -> None:
        """End every call and every process, and wait until they are gone."""
        self._stopped = True
        for call in self._calls:
            call.cancel()
        ending = {*self._calls, *self._hatching, *([self._refilling] if self._refilling else [])}
        if ending:
            await asyncio.wait(ending)
        while self._spares:
            self._spares.popleft().close()
        if self._nursery is not None:
            await self._nursery.end()
            self._nursery = None
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
        try:
            spare = await self._take()
        except (OSError, NomaflowError) as error:
            raise StepError(f"no process for {request.callable}: {error}") from error
        if self._stopped:
            spare.close()
            raise self._ended(request)
        conversation = Conversation(spare, request, listener, _GRACE_SECONDS)
        call = asyncio.create_task(conversation.hold(timeout_seconds), name=request.callable)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        over = self._latest = asyncio.Event()
        call.add_done_callback(lambda _: over.set())
        if self._refilling is None or self._refilling.done():
            self._refilling = asyncio.create_task(self._refill(), name="sandbox refill")
        try:
            return await call
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            if ours is None or ours.cancelling():
                raise
            raise self._ended(request) from None

    def _ended(self, request: ChildRequest) -> StepError:
        return StepError(f"{request.callable} was stopped with the worker's sandbox")

    async def _take(self) -> Spare:
        """A waiting child, or a new one."""
        spare = None
        while self._spares and spare is None:
            first = self._spares.popleft()
            spare = first if first.is_alive() else None
            if spare is None:
                first.close()
        return spare or await self._new()

    async def _refill(self) -> None:
        """Make children in advance, once the latest call, which needs the CPU more, has its own."""
        latest = None
        while self._latest is not None and self._latest is not latest:
            latest = self._latest
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEAD_START_SECONDS):
                    await latest.wait()
        while len(self._spares) < self._warm and not self._stopped:
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
        nursery = await self._living_nursery()
        guardian, theirs = socket.socketpair()
        child, childs = socket.socketpair()
        try:
            with theirs, childs:
                try:
                    nursery.fork(theirs, childs)
                except OSError:
                    (await self._living_nursery(instead_of=nursery)).fork(theirs, childs)
            return Spare(await Line.open(guardian), await Line.open(child))
        except (OSError, NomaflowError):
            guardian.close()
            child.close()
            raise

    async def _living_nursery(self, instead_of: NurseryProcess | None = None) -> NurseryProcess:
        async with self._starting:
            nursery = self._nursery
            if nursery is not None and (nursery is instead_of or not nursery.is_alive()):
                log.warning("the nursery of python steps died; starting another")
                self._nursery = None
                await nursery.end()
            if self._nursery is None:
                self._nursery = await NurseryProcess.start(
                    self._python, self.plugins, self._scratch_folder(), self._user, self._lease
                )
                self._say(self._nursery.obstacle)
            return self._nursery

    def _scratch_folder(self) -> Path:
        """Where each call has a folder; the user of the steps may pass through it."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="nomaflow-steps-"))
            self._scratch.chmod(0o711)
        return self._scratch

    def _say(self, obstacle: str | None) -> None:
        if obstacle and not self._said_obstacle:
            self._said_obstacle = True
            log.warning(
                "python steps run as root: an unprivileged user cannot run them",
                reason=obstacle,
                plugins=str(self.plugins),
            )
