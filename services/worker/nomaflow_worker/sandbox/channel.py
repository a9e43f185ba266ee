"""The child's end of the line to the worker: reports go out, questions come back answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from nomaflow.errors import StepError
from nomaflow_worker.sandbox import facts, wire

# Answers carry outputs of earlier steps, whole; the worker is trusted with their size.
_MOST_ANSWER = 0xFFFF_FFFF


class Channel:
    """Any thread may send and ask; one thread of its own listens."""

    def __init__(self, line: socket.socket) -> None:
        self._line: socket.socket | None = line
        self._frames = wire.Frames(_MOST_ANSWER)
        self._sending = threading.Lock()
        self._asked: dict[int, Future[Any]] = {}
        self._on_rows: Callable[[bytes | None], None] = lambda _: None
        os.register_at_fork(after_in_child=self._abandon)

    def receive(self) -> dict[str, Any] | None:
        """Wait for the first message; None when the worker no longer wants this child."""
        while self._line is not None and (data := self._line.recv(65536)):
            for message in self._frames.feed(data):
                return message
        return None

    def listen(self, cancel: int, on_cancel: Callable[[], None]) -> None:
        """Begin to take answers; `on_cancel` is called when `cancel` becomes readable."""
        listening = threading.Thread(
            target=self._listen, args=(cancel, on_cancel), name="nomaflow", daemon=True
        )
        listening.start()

    def on_rows(self, take: Callable[[bytes | None], None]) -> None:
        """Have each portion of rows taken in the listening thread, and None behind the last."""
        self._on_rows = take

    def send_rows(self, rows: bytes) -> bool:
        """Send what became of a portion; False when the line is broken."""
        return self._write(b"".join(wire.raw(rows)))

    def send(self, message: dict[str, Any]) -> bool:
        """Tell the worker; waits while it is busy with what it was told before."""
        return self._write(wire.frame(message))

    def send_text(self, text: str) -> bool:
        """Tell it a message that is JSON text already; False when the line is broken."""
        return self._write(wire.frame_text(text))

    def ask(self, what: str, name: str) -> Any:
        """Ask the worker and wait; StepError when it refuses."""
        return self._question(lambda number: {"ask": what, "name": name, "number": number}).result()

    async def call_job(
        self, job: str, params: Mapping[str, Any], *, wait: bool, check: bool
    ) -> Any:
        """Ask for a run of a job and wait as long as it takes; StepError when it is refused."""

        def order(number: int) -> dict[str, Any]:
            given = {"params": params, "wait": wait, "check": check}
            return {"call_job": job, "number": number, **given}

        # Shielded: the answer is set from another thread, also when nobody waits for it any more.
        return await asyncio.shield(asyncio.wrap_future(self._question(order)))

    def _question(self, words: Callable[[int], dict[str, Any]]) -> Future[Any]:
        answer: Future[Any] = Future()
        with self._sending:
            number = len(self._asked)
            self._asked[number] = answer
        if not self.send(words(number)):
            answer.set_exception(StepError("the worker is gone", retryable=False))
        return answer

    def awaits_answers(self) -> bool:
        return not all(answer.done() for answer in self._asked.values())

    def _write(self, data: bytes) -> bool:
        # A worker that is gone has nobody to tell, and the guardian is at work already.
        with self._sending, contextlib.suppress(OSError):
            self._connected().sendall(data)
            return True
        return False

    def _connected(self) -> socket.socket:
        if self._line is None:
            raise StepError("only the step's own process has a context, not one forked from it")
        return self._line

    def _listen(self, cancel: int, on_cancel: Callable[[], None]) -> None:
        line = self._connected()
        waiting = [line.fileno(), cancel]
        for message in self._frames.feed(b""):  # what came together with the call
            self._take(message)
        while True:
            ready, _, _ = select.select(waiting, [], [])
            if cancel in ready:
                if not os.read(cancel, 1):  # the guardian is gone, and nothing may go on alone
                    os._exit(1)
                on_cancel()
                waiting = [line.fileno()]
            if line.fileno() in ready:
                data = line.recv(65536)
                if not data:
                    return
                for message in self._frames.feed(data):
                    self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if "rows" in message or "over" in message:
            self._on_rows(message.get("rows"))
            return
        asked = self._asked[message["number"]]
        if "refused" in message:
            asked.set_exception(facts.as_error(message["refused"]))
        else:
            asked.set_result(message["answer"])

    def _abandon(self) -> None:
        """In a process that the user's code forked: the line stays with its parent."""
        self._line = None
        self._sending = threading.Lock()
