"""One of our programs as a child of `up`: started, listened to, started again, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from nomaflow.embedded import orphans

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
STEADY_SECONDS = 30.0  # a program that lived so long starts again at once
LINE_BYTES = 65536

Tell = Callable[[str, str], None]
Process = subprocess.Popen[bytes]


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

    async def keep_running(self) -> None:
        """Run it until `stop`; when it ends by itself start it again, ever more slowly."""
        pause = FIRST_PAUSE
        while not self._stopping:
            began = time.monotonic()
            status = await self._run_once()
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
        if process is None or process.poll() is not None:
            return
        process.terminate()
        ended = asyncio.ensure_future(_status(process))
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            self._tell("up", f"{self.name} did not end in time; killing it")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await ended

    async def _run_once(self) -> int:
        output, write_end = os.pipe()
        # A group of its own: Ctrl-C reaches only us, and we decide the order of ending.
        self._process = subprocess.Popen(  # noqa: ASYNC220  fork and exec take a millisecond
            self._argv,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=orphans.die_with_parent(signal.SIGKILL),  # noqa: PLW1509  a lone prctl
        )
        os.close(write_end)
        relaying = asyncio.ensure_future(self._relay(output))
        try:
            status = await _status(self._process)
            # Not until the pipe closes: a grandchild may hold it long after the program's end.
            await asyncio.wait({relaying}, timeout=1.0)
        finally:
            relaying.cancel()
        return status

    async def _relay(self, output: int) -> None:
        """Pass its lines on until it closes them; an endless line is cut, never kept whole."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb")
        )
        rest = b""
        try:
            while chunk := await reader.read(LINE_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._tell(self.name, line.decode(errors="replace").rstrip("\r"))
        finally:
            if rest:
                self._tell(self.name, rest.decode(errors="replace"))
            transport.close()


async def _status(process: Process) -> int:
    """Wait for the program itself; asyncio's own wait() also waits for its pipes (3.11)."""
    while (status := process.poll()) is None:  # noqa: ASYNC110  no event tells
        await asyncio.sleep(0.05)
    return status


def _fate(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended by itself with status {status}"
