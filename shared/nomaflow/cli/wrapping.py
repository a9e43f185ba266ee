"""A shell command as an outside run: begun, kept alive while it works, ended as it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomaflow.cli import talk
from nomaflow.errors import Code, NomaflowError

if TYPE_CHECKING:
    from nomaflow.client import AsyncJob

LAST_WORDS = 20
"""Lines of its standard error that tell why a command failed."""
LONGEST_TAIL = 16_384
"""Bytes of it that are looked at."""
LONGEST_MESSAGE = 4_000
LINGER_SECONDS = 2.0
"""How long its standard error is listened to when the command is over: others may hold it open."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126
LARGEST_RESULT = 65_536
PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_TOLD = frozenset({"NOMAFLOW_RUN_ID", "NOMAFLOW_LAST_RUN", "NOMAFLOW_RESULT"})
_FROM_THE_KEYBOARD = frozenset({signal.SIGINT, signal.SIGQUIT})


@dataclass(slots=True)
class Wrapped:
    """One command and the run that stands for it; `heartbeat` in seconds."""

    job: AsyncJob
    command: Sequence[str]
    heartbeat: float
    _last: bytearray = field(default_factory=bytearray)

    async def run(self) -> int:
        """Run it to its end; answers its exit status, 128 + n when signal n ended it.

        The command finds NOMAFLOW_RUN_ID, NOMAFLOW_LAST_RUN (seconds since 1970; empty when it
        never succeeded) and NOMAFLOW_RESULT, a file for `{"records_processed": n, "message": ""}`.
        The first two are not there when the API is not, and the job does not require it.
        """
        told = await self._begin()
        with tempfile.TemporaryDirectory(prefix="nomaflow-result-") as folder:
            result = Path(folder) / "result.json"
            told["NOMAFLOW_RESULT"] = str(result)
            inherited = {k: v for k, v in os.environ.items() if k not in _TOLD}
            status = await self._carry_out(inherited | told)
            await self._report(status, _said(result))
        return status

    async def _begin(self) -> dict[str, str]:
        record = await self.job.start()
        if self.job.unregistered:
            return {}
        told = {"NOMAFLOW_RUN_ID": str(record["id"])}
        try:  # the run in progress does not count, so this may be asked for after its start
            last = await self.job.most_recent()
        except NomaflowError as error:
            if self.job.required:
                raise
            talk.note(f"nomaflow: the last success is not known: {error.message}")
            return told
        return told | {"NOMAFLOW_LAST_RUN": "" if last is None else f"{last:.3f}"}

    async def _carry_out(self, environment: dict[str, str]) -> int:
        # A pipe of our own: asyncio's would keep `wait()` waiting for whoever else holds it open.
        ours, theirs = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, env=environment, stderr=theirs
            )
        except OSError as error:
            os.close(ours)
            words = f"{self.command[0]}: {error.strerror}"
            self._last.extend(words.encode())
            talk.note(f"nomaflow: {words}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        finally:
            os.close(theirs)
        loop = asyncio.get_running_loop()
        for number in PASSED_ON:
            loop.add_signal_handler(number, _hand_over, process, number)
        beating = asyncio.create_task(self._beat(process))
        listening = asyncio.create_task(self._listen(ours))
        try:
            status = await process.wait()
            await asyncio.wait({listening}, timeout=LINGER_SECONDS)
        finally:
            for number in PASSED_ON:
                loop.remove_signal_handler(number)
            for task in (beating, listening):
                task.cancel()
            await asyncio.gather(beating, listening, return_exceptions=True)
        return status if status >= 0 else 128 - status

    async def _listen(self, end: int) -> None:
        """Let its standard error through and remember the end of it."""
        reader = asyncio.StreamReader()
        file = os.fdopen(end, "rb", buffering=0)
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        heard = True
        try:
            while chunk := await reader.read(65_536):
                self._last.extend(chunk)
                del self._last[:-LONGEST_TAIL]
                if heard:  # in a thread: whoever reads it may be slow
                    heard = await asyncio.to_thread(_let_through, chunk)
        finally:
            pipe.close()

    async def _beat(self, process: asyncio.subprocess.Process) -> None:
        while True:
            await asyncio.sleep(self.heartbeat)
            try:
                await self.job.heartbeat()
            except NomaflowError as error:
                talk.note(f"nomaflow: {error.message}")
                if "already aborted" in error.message:  # someone wants it to end
                    _pass_on(process, signal.SIGTERM)
                if error.code is not Code.UNAVAILABLE:  # it is over, whoever ended it
                    return

    async def _report(self, status: int, said: dict[str, Any]) -> None:
        records = said.get("records_processed")
        message = said.get("message")
        if status != 0 and not message:
            lines = self._last.decode(errors="replace").splitlines()[-LAST_WORDS:]
            words = "\n".join(lines).strip()[-LONGEST_MESSAGE:]
            message = _ended(status) + (f"\n{words}" if words else "")
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


def _ended(status: int) -> str:
    try:
        return f"exit status {status}, as after {signal.Signals(status - 128).name}"
    except ValueError:
        return f"exit status {status}"


def _let_through(chunk: bytes) -> bool:
    """Write to our own standard error; False when nobody reads it any more."""
    try:
        sys.stderr.buffer.write(chunk)
        sys.stderr.flush()
    except OSError:
        return False
    return True


def _hand_over(process: asyncio.subprocess.Process, number: int) -> None:
    """Pass a signal on, unless the terminal has sent it to the command as well."""
    if number in _FROM_THE_KEYBOARD and _in_the_foreground():
        return
    _pass_on(process, number)


def _in_the_foreground() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _pass_on(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
