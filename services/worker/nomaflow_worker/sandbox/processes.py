"""The processes below this one: how many, how big, how busy; and their end, for certain.

Exact on Linux, where a subreaper keeps every descendant below it whatever they do (prctl(2)).
Elsewhere only the process group of the child is known: best effort.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LINUX = sys.platform == "linux"
_PAGE = resource.getpagesize()
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What our descendants use now; the CPU seconds include those of the dead."""

    processes: int
    memory_bytes: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Reaped:
    """The children that died, with their wait status, and whether none is left alive."""

    dead: dict[int, int]
    none_left: bool


def usage(at_most: int) -> Usage:
    """Of all descendants, zombies left out; incomplete when they are more than `at_most`."""
    count, memory, ticks = 0, 0, 0
    for pid in descendants(os.getpid()):
        fields = _stat(pid)
        if fields is None or fields[0] == b"Z":
            continue
        count += 1
        if count > at_most:
            break
        # Fields 14 to 17 of proc(5) are utime stime cutime cstime, field 24 is rss.
        ticks += sum(map(int, fields[11:15]))
        memory += int(fields[21]) * _PAGE
    dead = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Usage(count, memory, ticks / _TICK + dead.ru_utime + dead.ru_stime)


def unshared_memory() -> int:
    """Bytes of all descendants, each shared page counted once; slower than the sum of sizes."""
    total = 0
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
                if line.startswith(b"Pss:"):
                    total += 1024 * int(line.split()[1])
    return total


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid`, parents first; one being born this moment may be missed."""
    waiting = [pid] if LINUX else []
    while waiting:
        for child in children(waiting.pop()):
            yield child
            waiting.append(child)


def children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.scandir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(thread.path, "children").read_bytes()
                found.extend(map(int, text.split()))
    return found


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/<pid>/stat from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return None


def tasks_of_user(uid: int) -> int:
    """How many processes and threads `uid` has, as RLIMIT_NPROC counts them."""
    count = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and entry.stat().st_uid == uid:
                    count += sum(1 for _ in os.scandir(Path(entry.path, "task")))
    return count


def kill_all(group: int, seconds: float, wait: Callable[[float], object]) -> Reaped:
    """SIGKILL every descendant and reap them; give up after `seconds` if some still resist.

    `group` is the process group most of them are in: one call ends it, however fast it forks.
    `wait` pauses for so many seconds, or until a child has died.
    """
    until = time.monotonic() + seconds
    dead: dict[int, int] = {}
    while True:
        below = list(descendants(os.getpid()))
        # Only while a descendant is in it: the number may be another group's afterwards.
        if not LINUX or any(_group(pid) == group for pid in below):
            _kill(-group)
        for pid in below:
            _kill(pid)
        reaped = reap()
        dead |= reaped.dead
        if reaped.none_left or time.monotonic() > until:
            return Reaped(dead, reaped.none_left)
        wait(0.01)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def reap() -> Reaped:
    """Take the dead away. A subreaper without children has no descendants at all."""
    dead: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return Reaped(dead, none_left=True)
        if pid == 0:
            return Reaped(dead, none_left=False)
        dead[pid] = status
