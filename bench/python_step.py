"""What a python step costs over calling its function: a guarded process for each call."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from nomaflow.plugins import resolve
from nomaflow_worker.sandbox.pool import Sandbox
from nomaflow_worker.sandbox.request import ChildRequest

CALLS = 60
BETWEEN_SECONDS = 0.1
TARGET_MS = 25.0
SOURCE = "async def f(ctx, *, n: int = 1, **_):\n    return {'n': n}\n"


class Deaf:
    def log(self, *_: object) -> None: ...


async def median_ms(call: Callable[[], Awaitable[object]], calls: int, pause: float) -> float:
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        await call()
        taken.append(1000 * (time.perf_counter() - started))
        await asyncio.sleep(pause)
    return statistics.median(taken)


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="nomaflow-bench-") as folder:
        plugins = Path(folder)
        (plugins / "m.py").write_text(SOURCE)
        function = resolve.load(plugins, "m:f")
        sandbox = Sandbox(plugins)
        await sandbox.start()
        request = ChildRequest("m:f", "run", "job", "step", kwargs={"n": "3"})

        async def ours() -> None:
            await sandbox.call(request, Deaf(), timeout_seconds=10)  # type: ignore[arg-type]

        async def floor() -> None:
            await function(None, n=3)

        async def fresh() -> None:
            code = f"import sys; sys.path.insert(0, {folder!r}); import asyncpg, httpx, m"
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
            await process.wait()

        try:
            called = await median_ms(floor, CALLS, 0)
            row("python_step", await median_ms(ours, CALLS, BETWEEN_SECONDS), called, TARGET_MS)
            row("python_step back to back", await median_ms(ours, CALLS, 0), called)
            row("peer: a fresh interpreter", await median_ms(fresh, 5, 0), called)
        finally:
            await sandbox.stop()


def row(name: str, ours: float, floor: float, target: float | None = None) -> None:
    over = ours - floor
    said = f"{name:28} ours {ours:8.2f} ms  floor {floor:6.3f} ms  over it {over:8.2f} ms"
    if target is not None:
        said += f"  target {target:.0f} ms  {'ok' if over <= target else 'MISSED'}"
    print(said)


if __name__ == "__main__":
    asyncio.run(main())
