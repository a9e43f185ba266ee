"""A shell command as an outside run: begun, kept alive while it works, ended as it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomaflow.cli import talk
from nomaflow.errors import NomaflowError

if TYPE_CHECKING:
    from nomaflow.client import AsyncJob

LAST_WORDS = 20
"""Lines of its standard error that tell why a command failed."""
NOT_FOUND = 127
LARGEST_RESULT = 65_536


@dataclass(slots=True)
class Wrapped:
    """One command and the run that stands for it; `heartbeat` in seconds."""

    job: AsyncJob
    command: Sequence[str]
    heartbeat: float
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_WORDS))

    async def run(self) -> int:
        """Run it to its end; answers its exit status, 128 + n when signal n ended it.

        The command finds NOMAFLOW_RUN_ID, NOMAFLOW_LAST_RUN (seconds since 1970; empty when it
        never succeeded) and NOMAFLOW_RESULT, a file for `{"records_processed": n, "message": ""}`.
        """
        last = await self.job.most_recent()
        record = await self.job.start()
        with tempfile.TemporaryDirectory(prefix="nomaflow-result-") as folder:
            result = Path(folder) / "result.json"
            told = {
                "NOMAFLOW_RUN_ID": str(record["id"]),
                "NOMAFLOW_LAST_RUN": "" if last is None else f"{last:.3f}",
                "NOMAFLOW_RESULT": str(result),
            }
            status = await self._carry_out(os.environ | told)
            await self._report(status, _said(result))
        return status

    async def _carry_out(self, environment: dict[str, str]) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, env=environment, stderr=asyncio.subprocess.PIPE
            )
        except OSError as error:
            self._last.append(f"{self.command[0]}: {error.strerror}")
            sys.stderr.write(f"nomaflow: {self._last[-1]}\n")
            return NOT_FOUND
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _pass_on, process, number)
        beating = asyncio.create_task(self._beat(process))
        try:
            await self._listen(process)
            status = await process.wait()
        finally:
            beating.cancel()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return status if status >= 0 else 128 - status

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Let its standard error through and remember the end of it."""
        assert process.stderr is not None  # noqa: S101  it was asked for
        while chunk := await process.stderr.read(65_536):
            text = chunk.decode(errors="replace")
            sys.stderr.write(text)
            sys.stderr.flush()
            self._last.extend(text.splitlines())

    async def _beat(self, process: asyncio.subprocess.Process) -> None:
        while True:
            await asyncio.sleep(self.heartbeat)
            try:
                await self.job.heartbeat()
            except NomaflowError as error:
                talk.note(f"nomaflow: {error.message}")
                if "already aborted" in error.message:  # someone wants it to end
                    _pass_on(process, signal.SIGTERM)
                    return

    async def _report(self, status: int, said: dict[str, Any]) -> None:
        records = said.get("records_processed")
        message = said.get("message")
        if status != 0:
            words = "\n".join(self._last).strip()
            message = message or f"exit status {status}" + (f"\n{words}" if words else "")
        try:
            await self.job.result("success" if status == 0 else "error", message, records)
        except NomaflowError as error:
            talk.note(f"nomaflow: the end of the run was not recorded: {error.message}")


def _said(result: Path) -> dict[str, Any]:
    """Read what the command wrote of itself; nothing when that is not what it should be."""
    try:
        with result.open("rb") as file:
            said = json.loads(file.read(LARGEST_RESULT))
    except OSError:
        return {}
    except ValueError as error:
        talk.note(f"nomaflow: NOMAFLOW_RESULT does not hold JSON and is ignored: {error}")
        return {}
    if not isinstance(said, dict):
        talk.note("nomaflow: NOMAFLOW_RESULT does not hold an object and is ignored")
        return {}
    records, message = said.get("records_processed"), said.get("message")
    return {
        "records_processed": records if type(records) is int and records >= 0 else None,
        "message": message if isinstance(message, str) else None,
    }


def _pass_on(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
