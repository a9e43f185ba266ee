"""One call seen from the worker: what the child says, what its guardian says, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nomaflow.errors import NomaflowError, StepError
from nomaflow.plugins import values
from nomaflow_worker.sandbox import facts, wire
from nomaflow_worker.sandbox.escape import visible
from nomaflow_worker.sandbox.request import ChildListener, ChildRequest, LeaseOverError
from nomaflow_worker.sandbox.talk import Talk

# A child that writes more lines than this waits, so that its neighbours do not.
_LINES_PER_SECOND = 10_000
# What a guardian may need beyond the timeout and the grace until everything is dead.
_PATIENCE_SECONDS = 10.0
_LAST_WORDS_SECONDS = 5.0
# What it takes to end the runs that a function no longer waits for.
_ERRANDS_SECONDS = 2.0
_MOST_FROM_GUARDIAN = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """Our end of one socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, end: socket.socket) -> Line:
        return cls(*await asyncio.open_unix_connection(sock=end))

    def tell(self, message: dict[str, Any]) -> None:
        self.tell_text(wire.frame(message))

    def tell_text(self, data: bytes) -> None:
        # One who is gone is noticed by reading.
        with contextlib.suppress(OSError, RuntimeError):
            self.writer.write(data)

    def close(self) -> None:
        self.writer.close()


@dataclass(frozen=True, slots=True)
class Spare:
    """A guardian and a child that wait for one call."""

    guardian: Line
    child: Line

    def is_alive(self) -> bool:
        return not self.guardian.reader.at_eof() and not self.child.reader.at_eof()

    def close(self) -> None:
        """Nobody wants them any more; the guardian sees the socket close and ends everything."""
        self.guardian.close()
        self.child.close()


class Conversation:
    """Holds one request with one spare."""

    def __init__(
        self, spare: Spare, request: ChildRequest, listener: ChildListener, grace: float
    ) -> None:
        self._spare = spare
        self._request = request
        self._listener = listener
        self._grace = grace
        self._lines = float(_LINES_PER_SECOND)
        self._lines_at = time.monotonic()
        self._guardian_pid: int | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self._talk: Talk | None = None

    async def hold(self, timeout_seconds: float) -> Any:
        """The function's value once nothing of the child is left; StepError for any other end."""
        ended = asyncio.create_task(self._follow_guardian(), name="guardian")
        answered = asyncio.create_task(self._follow_child(), name="child")
        try:
            self._begin(timeout_seconds)
            async with asyncio.timeout(timeout_seconds + self._grace + _PATIENCE_SECONDS):
                await asyncio.wait({ended, answered}, return_when=asyncio.FIRST_COMPLETED)
                if answered.done():
                    answered.result()  # raises what is no message of a child
                    self._spare.guardian.tell({"stop": 0})
                end = await asyncio.shield(ended)
                if not answered.done():
                    # What it said before its end is still on the line.
                    await asyncio.wait({answered}, timeout=_LAST_WORDS_SECONDS)
                answer = answered.result() if answered.done() else {}
        except wire.WireError as error:
            await self._see_off(ended, 0.0)
            raise self._error(f"wrote on the engine's own line: {error}") from None
        except TimeoutError:
            self._kill_guardian()
            raise self._error("could not be ended in time", category="timeout") from None
        except BaseException:
            self._call_back()
            await self._see_off(ended, self._grace)
            raise
        finally:
            self._spare.close()
            ended.cancel()
            answered.cancel()
            if self._talk is not None:
                self._talk.close()
            self._call_back()
            if self._errands:
                await asyncio.wait(self._errands, timeout=_ERRANDS_SECONDS)
        return self._value(answer, end, timeout_seconds)

    def _begin(self, timeout_seconds: float) -> None:
        limits = self._request.limits
        call = wire.frame_text(self._request.call())
        self._spare.guardian.tell(
            {
                "begin": {
                    "seconds": timeout_seconds,
                    "grace": self._grace,
                    "memory_mb": limits.memory_mb,
                    "cpu_seconds": limits.cpu_seconds,
                    "descendants": limits.descendants,
                }
            }
        )
        self._spare.child.tell_text(call)
        if self._request.rows is not None:
            self._talk = Talk(self._request.rows, self._spare.child.writer)

    async def _see_off(self, ended: asyncio.Task[dict[str, Any]], grace: float) -> None:
        """Ask for the end and wait for it; the guardian sees to it in any case."""
        self._spare.guardian.tell({"stop": grace})
        with contextlib.suppress(Exception):
            async with asyncio.timeout(grace + _PATIENCE_SECONDS):
                await asyncio.shield(ended)

    async def _follow_child(self) -> dict[str, Any]:
        """Hear the child until it answers; an empty answer when it is gone without one."""
        while (message := await self._from_child()) is not None:
            match message:
                case {"result": _} | {"error": dict()}:
                    return message
                case {"log": [str(level), str(text), float() | int() as at, dict(fields)]}:
                    self._log(level, text, at, fields)
                    await self._pace(1)
                case {"progress": dict(report)}:
                    self._listener.progress(report)
                case {"backend": [str(name), int(pid)]}:
                    self._listener.backend_pid(name, pid)
                case {"state": [str(name), str(value)]}:
                    self._listener.watermark(name, value)
                case {"ask": str(what), "name": str(name), "number": int(number)}:
                    await self._reply(number, f"{what} {name!r}", lambda: self._told(what, name))
                case {"rows": bytes(rows)} if self._talk is not None:
                    await self._talk.hear(rows)
                case {"call_job": str(job), "number": int(number), **given}:
                    await self._pace(1)
                    self._send_out(number, job, given)
                case _:
                    raise wire.WireError("a message of no known kind")
        return {}

    async def _from_child(self) -> dict[str, Any] | None:
        return await wire.read(self._spare.child.reader, wire.MOST_FRAME)

    async def _from_guardian(self) -> dict[str, Any] | None:
        return await wire.read(self._spare.guardian.reader, _MOST_FROM_GUARDIAN)

    async def _told(self, what: str, name: str) -> Any:
        match what:
            case "connector":
                return await self._listener.connector(name)
            case "output":
                return self._request.earlier[name].output
            case "columns" if self._talk is not None:
                return await self._talk.wanted(name)
            case "parents":
                return await self._listener.parents()
            case _:
                raise wire.WireError(f"a question about {what!r:.40}")

    def _send_out(self, number: int, job: str, given: Mapping[str, Any]) -> None:
        """See to a run that the function wants, which takes its time, and go on hearing it."""
        match given:
            case {"params": dict(params), "wait": bool(wait), "check": bool(check)}:
                pass
            case _:
                raise wire.WireError("a call of a job without its facts")

        async def see_to() -> Any:
            return await self._listener.call_job(job, params, wait=wait, check=check)

        errand = asyncio.create_task(self._reply(number, f"the run of {job!r}", see_to))
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)

    def _call_back(self) -> None:
        for errand in self._errands:
            errand.cancel()

    async def _reply(self, number: int, what: str, find: Callable[[], Awaitable[Any]]) -> None:
        try:
            answer = await find()
            text = values.to_json({"number": number, "answer": answer}, f"{what} holds")
        except (StepError, NomaflowError, KeyError) as error:
            text = values.to_json({"number": number, "refused": facts.of(error)}, "a refusal")
        self._spare.child.tell_text(wire.frame_text(text))
        with contextlib.suppress(ConnectionError):
            await self._spare.child.writer.drain()

    async def _follow_guardian(self) -> dict[str, Any]:
        """Hear the guardian until nothing of the child is left, and what it says then."""
        while (message := await self._from_guardian()) is not None:
            match message:
                case {"ended": dict(end)}:
                    return end
                case {"guardian": int(pid)}:
                    self._guardian_pid = pid
                case {"lines": list(lines), "level": str(level), "at": float(at)}:
                    for line in lines:
                        self._log(level, line, at, {})
                    await self._pace(len(lines))
        return {"why": "unguarded", "status": None}

    def _log(self, level: str, text: str, at: float, fields: dict[str, Any]) -> None:
        moment = datetime.fromtimestamp(at, UTC)
        self._listener.log(level, visible(text[: wire.MOST_TEXT]), moment, fields)

    async def _pace(self, lines: int) -> None:
        now = time.monotonic()
        earned = (now - self._lines_at) * _LINES_PER_SECOND
        self._lines = min(_LINES_PER_SECOND, self._lines + earned) - lines
        self._lines_at = now
        if self._lines < 0:
            await asyncio.sleep(-self._lines / _LINES_PER_SECOND)

    def _kill_guardian(self) -> None:
        """It does not answer: without it the kernel ends the child, the nursery what is left."""
        if self._guardian_pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._guardian_pid, signal.SIGKILL)

    def _value(self, answer: dict[str, Any], end: dict[str, Any], timeout_seconds: float) -> Any:
        words = _why(end, self._request, timeout_seconds)
        if end["why"] == "lease":
            raise LeaseOverError(f"{self._request.callable} {words}")
        if words is not None:
            category = "timeout" if end["why"] == "timeout" else "error"
            raise self._error(words, category=category)
        if "result" in answer:
            return answer["result"]
        if "error" in answer:
            raise facts.as_error(answer["error"])
        raise self._error(_last_words(end))

    def _error(self, words: str, **more: Any) -> StepError:
        return StepError(f"{self._request.callable} {words}", **more)


def _why(end: dict[str, Any], request: ChildRequest, timeout_seconds: float) -> str | None:
    """Why the guardian ended the call, in words; None when the child itself came to an end."""
    limits = request.limits
    used = round(end.get("memory_bytes", 0) / 1024 / 1024)
    return {
        "timeout": f"ran longer than {timeout_seconds:g} s and was stopped",
        "memory": f"used {used} MB, more than memory_mb = {limits.memory_mb}, and was stopped",
        "cpu": f"used more than cpu_seconds = {limits.cpu_seconds} and was stopped",
        "processes": f"started more than {limits.descendants} processes and was stopped",
        "lease": "was stopped: the worker could not prolong its lease in time",
        "unguarded": "was stopped: its guardian process died",
    }.get(end["why"])


def _last_words(end: dict[str, Any]) -> str:
    status = end["status"]
    if status is None:
        return "ended without an answer"
    if not os.WIFSIGNALED(status):
        code = os.waitstatus_to_exitcode(status)
        return f"ended its process with status {code} before it returned (os._exit?)"
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    hint = ": the system may have run out of memory" if number == signal.SIGKILL else ""
    return f"died of signal {number} ({name}){hint}"
