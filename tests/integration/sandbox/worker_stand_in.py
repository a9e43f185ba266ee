"""A process that stands for a worker: one call in a sandbox, its lease prolonged by a thread.

`python worker_stand_in.py <plugins> <callable> <lease seconds> [block]`; prints every line it
hears, then what became of the call. `block` stops its loop, but not the thread, for two leases.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path

from nomaflow.errors import StepError
from nomaflow_worker.sandbox.pool import Sandbox
from nomaflow_worker.sandbox.request import ChildRequest

PLUGINS, CALLABLE, LEASE = sys.argv[1], sys.argv[2], float(sys.argv[3])


class Ear:
    def log(self, _level, message, _at, _fields):
        print(message, flush=True)


def prolong(sandbox: Sandbox) -> None:
    while True:
        sandbox.extend(time.monotonic() + LEASE)
        time.sleep(LEASE / 10)


async def main() -> None:
    sandbox = Sandbox(Path(PLUGINS))
    threading.Thread(target=prolong, args=(sandbox,), daemon=True).start()
    await sandbox.start()
    for pid in (sandbox._nursery.process.pid, os.getpid()):
        print(f"pid {pid}", flush=True)
    call = asyncio.create_task(
        sandbox.call(ChildRequest(CALLABLE, "r", "j", "s"), Ear(), timeout_seconds=60)
    )
    if "block" in sys.argv:
        await asyncio.sleep(LEASE / 2)
        time.sleep(2 * LEASE)  # noqa: ASYNC251  a loop that is stuck
    try:
        print(f"returned {await call}", flush=True)
    except StepError as error:
        print(error.message, flush=True)
    await sandbox.stop()


asyncio.run(main())
