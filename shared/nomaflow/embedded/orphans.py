"""Children that must not outlive their parent, and what is left of those that did."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Loaded now: between fork and exec nothing may be imported.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(wish: signal.Signals) -> Callable[[], None] | None:
    """Make a `preexec_fn` by which Linux sends `wish` to the child when its parent is gone.

    The parent is the *thread* that starts the child (prctl(2)): start children in the main
    thread. None where the system has no such thing.
    """
    if _libc is None:
        return None
    libc, parent = _libc, os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(wish))
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), wish)

    return ask


async def wait_until_gone(pid_file: Path, mark: str, seconds: float) -> None:
    """Wait for the process that left `pid_file` while its command line still holds `mark`.

    A pid file without such a process is stale, whoever has that number now, and is removed.
    After `seconds` the process is killed: its parent died long ago.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (pid := _alive(pid_file, mark)) is not None:  # noqa: ASYNC110  no event tells
                await asyncio.sleep(0.02)
            pid_file.unlink(missing_ok=True)
            return
    with contextlib.suppress(ProcessLookupError):
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    pid_file.unlink(missing_ok=True)


def _alive(pid_file: Path, mark: str) -> int | None:
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
    return pid if mark in command_line(pid) else None


def command_line(pid: int) -> str:
    """Give the command line of a process, or nothing when it is gone or a zombie."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return (
                (proc / str(pid) / "cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
            )
        except (FileNotFoundError, ProcessLookupError):
            return ""
    shown = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)],  # noqa: S607  the system's own ps
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout
