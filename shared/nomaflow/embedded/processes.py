"""One embedded server as a child process: started, awaited, started again, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nomaflow.embedded import orphans
from nomaflow.embedded.accounts import Account
from nomaflow.errors import Code, NomaflowError

START_SECONDS = 60.0  # crash recovery of a large cluster may need it
STOP_SECONDS = 20.0
LOG_BYTES = 10_000_000


@dataclass(slots=True)
class Server:
    """A server program: how it is started, when it answers, which signal ends it kindly."""

    name: str
    argv: Sequence[str]
    data: Path
    pid_file: Path
    log: Path
    stop_signal: signal.Signals
    answers: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None

    async def start(self, account: Account | None) -> None:
        await orphans.wait_until_gone(self.pid_file, str(self.data), STOP_SECONDS)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as output:
            self.process = spawn(self.argv, self.data, output, account)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while self.process.poll() is None:
                    if self.answers():
                        return
                    await asyncio.sleep(0.01)
        raise NomaflowError(
            Code.UNAVAILABLE,
            f"{self.name} did not start: {last_line(self.log)} (the whole log is {self.log})",
        )

    async def stop(self) -> None:
        process = self.process
        if process is None:
            return
        for wish in (self.stop_signal, signal.SIGQUIT, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(wish)
                await exit_code(process, STOP_SECONDS)
        self.process = None

    async def keep_running(self, account: Account | None, tell: Callable[[str], None]) -> None:
        pause = 0.1
        while True:
            process = self.process
            if process is not None and process.poll() is None:
                await asyncio.sleep(0.2)
                continue
            status = process.returncode if process else None
            tell(f"{self.name} ended by itself (status {status}); starting it again")
            try:
                await self.start(account)
            except NomaflowError as error:
                tell(error.message)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                pause = 0.1
                tell(f"{self.name} answers again")


def spawn(
    argv: Sequence[str],
    folder: Path,
    output: IO[bytes],
    account: Account | None,
    *,
    farewell: signal.Signals = signal.SIGINT,
) -> subprocess.Popen[bytes]:
    """Start a server in its own process group, so that Ctrl-C reaches only its supervisor.

    `farewell` reaches it when this process ends, however it ends: SIGINT is a fast and clean
    shutdown for PostgreSQL, and Valkey takes it as SIGTERM.
    """
    return subprocess.Popen(
        argv,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        umask=0o077,
        process_group=0,
        preexec_fn=orphans.die_with_parent(farewell),  # noqa: PLW1509  a lone prctl, no locks
    )


async def exit_code(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while process.poll() is None:  # noqa: ASYNC110  no event tells
                await asyncio.sleep(0.01)
    return process.poll()


def last_line(log: Path) -> str:
    """Give what a server said last, for the sentence about its failure."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"
