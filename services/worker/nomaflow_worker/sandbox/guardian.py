"""The small process between the worker and a child, which sees to it that the child can be ended.

It is the subreaper of everything the child starts. It ends all of it at the timeout, at an abort,
over a limit, when the worker's lease runs out because nobody moved it on, and when the worker's
end of the socket closes because the worker is gone. It never runs code of the user.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

from nomaflow_worker.sandbox import processes, wire
from nomaflow_worker.sandbox.lease_page import LeasePage
from nomaflow_worker.sandbox.output import Capture

_MOST_ORDER = 64 * 1024
_READ = 256 * 1024
# More than this not yet taken by the worker, and the child's output waits in its pipe.
_OUTBOX = 256 * 1024
# How fast memory can grow: sets how soon to look again.
_BYTES_PER_SECOND = 4e9
_SOONEST, _LATEST = 0.02, 0.25
_NEVER = float("inf")
_RESISTS_SECONDS = 5.0
_FAREWELL_SECONDS = 2.0


class Guardian:
    """Watches one child; `watch` returns when nothing of it is left."""

    def __init__(
        self,
        control: socket.socket,
        lease: LeasePage,
        child: int,
        scratch: Path,
        outputs: dict[int, str],
        cancel: int,
        wakeup: int,
    ) -> None:
        now = time.monotonic()
        self._control = control
        self._lease = lease
        self._child = child
        self._scratch = scratch
        self._cancel = cancel
        self._wakeup = wakeup
        self._levels = outputs
        self._captures = {fd: Capture(now) for fd in outputs}
        self._orders = wire.Frames(_MOST_ORDER)
        self._outbox = bytearray()
        self._limits: dict[str, Any] | None = None
        self._deadline = self._kill_at = self._look_at = _NEVER
        self._why: str | None = None
        self._over = False
        self._status: int | None = None
        self._worst = processes.Usage(0, 0, 0.0)

    def watch(self) -> None:
        control = self._control
        control.settimeout(0)
        self._tell({"guardian": os.getpid()})
        while not self._over:
            for fd, event in self._ready():
                if fd == self._wakeup:
                    self._child_died()
                elif fd == control.fileno():
                    if event & select.POLLOUT:
                        self._send()
                    if event & ~select.POLLOUT:
                        self._hear()
                else:
                    self._read(fd)
            self._judge(time.monotonic())
        self._end()

    def _ready(self) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        poll.register(self._control, select.POLLIN | (select.POLLOUT if self._outbox else 0))
        if len(self._outbox) < _OUTBOX:
            for fd in self._captures:
                poll.register(fd, select.POLLIN)
        return poll.poll(self._pause())

    def _pause(self) -> float | None:
        """Milliseconds until something must be looked at; before a call begins, nothing must."""
        moment = min(self._deadline, self._kill_at, self._look_at)
        if self._limits is not None:
            moment = min(moment, self._lease.deadline())
        if moment == _NEVER:
            return None
        return max(0.0, (moment - time.monotonic()) * 1000) + 1

    def _hear(self) -> None:
        try:
            data = self._control.recv(_MOST_ORDER)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._stop("abandoned")
            return
        for order in self._orders.feed(data):
            match order:
                case {"begin": dict(limits)}:
                    self._limits = limits
                    now = time.monotonic()
                    self._look_at = now + _SOONEST
                    self._deadline = now + limits["seconds"]
                case {"stop": grace}:
                    self._stop("stopped", grace)

    def _stop(self, why: str, grace: float = 0.0) -> None:
        """Begin the end: at once, or after the child had `grace` seconds to end by itself."""
        self._why = self._why or why
        if grace <= 0:
            self._over = True
        elif self._kill_at == _NEVER:
            self._kill_at = time.monotonic() + grace
            with contextlib.suppress(OSError):
                os.write(self._cancel, b"c")

    def _child_died(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 1024)
        self._status = processes.reap().dead.get(self._child, self._status)
        if self._status is not None:
            self._stop("exited")

    def _judge(self, now: float) -> None:
        if now >= self._kill_at:
            self._over = True
        if self._over or self._limits is None:
            return
        if now >= self._lease.deadline():
            self._stop("lease")
        elif now >= self._deadline and self._why is None:
            self._stop("timeout", self._limits["grace"])
        elif now >= self._look_at:
            self._look(now, self._limits)

    def _look(self, now: float, limits: dict[str, Any]) -> None:
        used = processes.usage(at_most=limits["descendants"] + 1)
        if used.processes > limits["descendants"] + 1:
            self._stop("processes")  # before more is asked of so many
            return
        most = limits["memory_mb"] * 1024 * 1024 or _NEVER
        memory = used.memory_bytes
        if memory > most and used.processes > 1:
            memory = processes.unshared_memory()
        self._worst = processes.Usage(
            max(self._worst.processes, used.processes),
            max(self._worst.memory_bytes, memory),
            used.cpu_seconds,
        )
        if memory > most:
            self._stop("memory")
        elif limits["cpu_seconds"] and used.cpu_seconds > limits["cpu_seconds"]:
            self._stop("cpu")
        free = most - memory
        self._look_at = now + min(_LATEST, max(_SOONEST, free / _BYTES_PER_SECOND))

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return
        capture = self._captures[fd]
        if data:
            self._tell_lines(fd, capture.feed(data, time.monotonic()))
        else:
            self._tell_lines(fd, capture.finish())
            del self._captures[fd]
            os.close(fd)

    def _tell_lines(self, fd: int, lines: list[str]) -> None:
        if lines:
            self._tell({"lines": lines, "level": self._levels[fd], "at": time.time()})

    def _tell(self, message: dict[str, Any]) -> None:
        self._outbox += wire.frame(message)
        self._send()

    def _send(self) -> None:
        try:
            sent = self._control.send(self._outbox)
        except BlockingIOError:
            return
        except OSError:  # the worker is gone; reading the socket will say so
            sent = len(self._outbox)
        del self._outbox[:sent]

    def _end(self) -> None:
        """Kill, say what was, and stay until really nothing is left."""
        reaped = processes.kill_all(self._child, _RESISTS_SECONDS, self._wait)
        self._status = reaped.dead.get(self._child, self._status)
        for fd in list(self._captures):
            self._drain(fd)
        shutil.rmtree(self._scratch, ignore_errors=True)
        ended = {
            "why": self._why,
            "status": self._status,
            "memory_bytes": self._worst.memory_bytes,
            "processes": self._worst.processes,
            "cpu_seconds": round(self._worst.cpu_seconds, 3),
            "resisting": not reaped.none_left,
        }
        self._tell({"ended": ended})
        until = time.monotonic() + _FAREWELL_SECONDS
        while self._outbox and time.monotonic() < until:
            select.select([], [self._control], [], 0.1)
            self._send()
        self._part(until)
        while not reaped.none_left:
            reaped = processes.kill_all(self._child, _RESISTS_SECONDS, self._wait)

    def _part(self, until: float) -> None:
        """Leave the socket to the worker to close: an order on its way must not bounce."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
            self._control.settimeout(max(0.1, until - time.monotonic()))
            while self._control.recv(_MOST_ORDER):
                pass
        self._control.close()

    def _drain(self, fd: int) -> None:
        """Take what the pipe still holds; all who could write to it are dead."""
        while fd in self._captures and select.select([fd], [], [], 0)[0]:
            self._read(fd)
        if fd in self._captures:  # a process that resists still holds it
            self._tell_lines(fd, self._captures[fd].finish())

    def _wait(self, seconds: float) -> None:
        """Pause until a child died, `seconds` at most."""
        select.select([self._wakeup], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 1024)


def wake_on_child_death() -> int:
    """A file that becomes readable whenever a child of this process has died."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    forget_wakeup(signal.set_wakeup_fd(writing, warn_on_full_buffer=False))
    return reading


def forget_wakeup(writing: int) -> None:
    """Close what a parent process was woken by."""
    if writing >= 0:
        os.close(writing)
