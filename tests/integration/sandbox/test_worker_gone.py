"""A step does not outlive the worker that runs it, whether it is killed, frozen or merely slow."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

STAND_IN = Path(__file__).with_name("worker_stand_in.py")
STEP = """
    import os, signal, time

    def stay(ctx):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.write(writing, str(os.getpid()).encode())
                os.close(writing)
                time.sleep(600)
            os._exit(0)
        os.close(writing)
        ctx.log.info(f"pid {int(os.read(reading, 20))}")
        for pid in (os.getpid(), os.getppid()):
            ctx.log.info(f"pid {pid}")
        time.sleep(600)

    def nap(ctx):
        time.sleep(2.5)
        return "awake"
"""


@dataclass
class StandIn:
    process: asyncio.subprocess.Process

    async def line(self) -> str:
        return (await self.process.stdout.readline()).decode().strip()

    async def pids(self) -> list[int]:
        """The nursery, the stand-in, a daemon of the step, the child, its guardian."""
        return [int((await self.line()).removeprefix("pid ")) for _ in range(5)]


@pytest.fixture
async def stand_in(tmp_path) -> AsyncIterator:
    (tmp_path / "m.py").write_text(textwrap.dedent(STEP))
    started = []

    async def start(callable: str, lease: float, *more: str) -> StandIn:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, STAND_IN, tmp_path, callable, str(lease), *more),
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return StandIn(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_killed(stand_in, gone):
    worker = await stand_in("m:stay", 60)
    pids = await worker.pids()
    worker.process.kill()
    await worker.process.wait()
    async with asyncio.timeout(2):
        while not all(map(gone, pids)):
            await asyncio.sleep(0.01)


async def test_frozen_past_its_lease(stand_in, gone):
    lease = 1.0
    worker = await stand_in("m:stay", lease)
    nursery, _, daemon, child, guardian = await worker.pids()
    await asyncio.sleep(2 * lease)
    assert not gone(child)  # the lease was prolonged
    worker.process.send_signal(signal.SIGSTOP)
    frozen = time.monotonic()
    async with asyncio.timeout(lease + 1):
        while not (gone(daemon) and gone(child)):
            await asyncio.sleep(0.01)
    assert time.monotonic() - frozen < lease + 0.2
    assert not gone(nursery)
    worker.process.send_signal(signal.SIGCONT)
    said = await worker.line()
    assert said == "m:stay was stopped: the worker could not prolong its lease in time"
    assert await worker.process.wait() == 0
    async with asyncio.timeout(2):
        while not (gone(guardian) and gone(nursery)):
            await asyncio.sleep(0.01)


async def test_a_stuck_loop_is_no_reason_while_the_lease_thread_beats(stand_in):
    worker = await stand_in("m:nap", 1.0, "block")
    lines = [await worker.line() for _ in range(3)]
    assert lines[-1] == "returned awake"
