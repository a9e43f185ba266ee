"""One of our programs as a child of `up`: started, listened to, started again, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence

from nomaflow import orphans

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
STEADY_SECONDS = 30.0  # a program that lived so long starts again at once
LINE_BYTES = 65536

Tell = Callable[[str, str], None]


class Child:
    """A program that is kept running; `tell(name, line)` receives its output and its fate."""

    def __init__(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], tell: Tell
    ) -> None:
        self.name = name
        self._argv = argv
        self._environment = environment
        self._tell = tell
        self._process: Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def keep_running(self) -> None:
        """Run it until `stop`; when it ends by itself start it again, ever more slowly."""
        pause = FIRST_PAUSE
        while not self._stopping:
            began = time.monotonic()
            self._process = await self._spawn()
            await self._relay(self._process)
            status = await self._process.wait()
            if self._stopping:
                return
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            self._tell("up", f"{self.name} {_fate(status)}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def stop(self, seconds: float, hurry: asyncio.Event) -> None:
        """Ask it to end; after `seconds`, or at once when `hurry` is set, end it for certain."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        ended = asyncio.ensure_future(process.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            self._tell("up", f"{self.name} did not end in time; killing it")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await ended

    async def _spawn(self) -> Process:
        # A group of its own: Ctrl-C reaches only us, and we decide the order of ending.
        return await asyncio.create_subprocess_exec(
            *self._argv,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            process_group=0,
            preexec_fn=orphans.die_with_parent(signal.SIGKILL),
        )

    async def _relay(self, process: Process) -> None:
        """Pass its lines on until it closes them; an endless line is cut, never kept whole."""
        if process.stdout is None:
            return
        rest = b""
        while chunk := await process.stdout.read(LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._tell(self.name, line.decode(errors="replace").rstrip("\r"))
        if rest:
            self._tell(self.name, rest.decode(errors="replace"))


def _fate(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended by itself with status {status}"
