"""The real programs as processes of their own, which can be killed, frozen and told to stop."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from nomaflow.embedded import orphans

READY = re.compile(r"(worker|scheduler) is ready|api is listening")
READY_SECONDS = 60
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
"""From Debian's package libfaketime; None where it is not installed."""


def skewed(seconds: int) -> dict[str, str]:
    """Environment of a program whose wall clock is wrong by so much."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": f"{seconds:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


class Program:
    """One running api, scheduler or worker, and all it says."""

    def __init__(
        self, kind: str, number: int, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.kind, self.log = kind, folder / f"{kind}-{number}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("NOMAFLOW_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"nomaflow_{kind}"],
                cwd=folder,
                env=clean | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=orphans.die_with_parent(signal.SIGKILL),  # noqa: PLW1509  a lone prctl
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    async def ready(self) -> "Program":
        """Wait until it says so."""
        async with asyncio.timeout(READY_SECONDS):
            while not READY.search(self.said()):
                assert self.alive, f"{self.kind} ended while it started:\n{self.said()[-3000:]}"
                await asyncio.sleep(0.02)
        return self

    def send(self, wish: signal.Signals) -> None:
        self.process.send_signal(wish)

    async def kill(self) -> None:
        """End it at once; returns when the kernel has closed all that it held."""
        self.send(signal.SIGKILL)
        await self.ended()

    async def ended(self, seconds: float = 60) -> int:
        async with asyncio.timeout(seconds):
            return await asyncio.to_thread(self.process.wait)

    def said(self) -> str:
        return self.log.read_text(errors="replace")
