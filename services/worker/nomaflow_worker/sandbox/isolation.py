"""What a forked process gives up, or asks of the kernel, before any code of the user runs in it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import resource
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
# Threads count as well: no limit to work under, it slows a fork bomb until the guardian sees it.
_SPARE_TASKS = 2048


def name_process(name: str) -> None:
    """The short name that ps and top show."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies (prctl(2), subreaper)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def die_with(parent: int) -> None:
    """Be killed when `parent` dies; after a change of user, which forgets the wish."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, value: ctypes.c_ulong | ctypes.c_char_p) -> None:
    if sys.platform == "linux":
        zero = ctypes.c_ulong(0)
        _libc.prctl(option, value, zero, zero, zero)


def give_up_rights(uid: int | None, tasks: int) -> None:
    """Become `uid` for good (None: stay); no core dumps, no set-user-ID programs.

    Without new privileges nothing below can become a user whom the guardian may not kill.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # a lower limit is already there
        most = tasks + _SPARE_TASKS
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    # When memory is short, the kernel takes the step before the worker or the database.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    if uid is not None:
        become(uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))


def become(uid: int) -> None:
    group = pwd.getpwuid(uid).pw_gid
    os.setgroups([])
    os.setgid(group)
    os.setuid(uid)


def ignore_stop_signals() -> None:
    """Outlive what a service manager or a terminal sends to the worker's whole group.

    A handler that does nothing, not SIG_IGN: programs started from here must not inherit it.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _nothing)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def obstacle(uid: int, plugins: Path) -> str | None:
    """Why `uid` cannot run the plugins, in words; None when it can. Forks to try."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _tell_obstacle(writing, uid, plugins)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        words = pipe.read().decode()
    os.waitpid(pid, 0)
    return words or None


def _tell_obstacle(writing: int, uid: int, plugins: Path) -> NoReturn:
    words = "the attempt failed"
    try:
        become(uid)
        words = _unreadable(plugins)
    except (OSError, KeyError) as error:
        words = str(error)
    finally:
        os.write(writing, words.encode())
        os._exit(0)


def _unreadable(plugins: Path) -> str:
    # A folder that is not there yet is no obstacle.
    for folder, _, files in os.walk(plugins, onerror=_fail if plugins.exists() else None):
        if not os.access(folder, os.R_OK | os.X_OK):
            return f"it may not enter {folder}"
        for name in files:
            if name.endswith(".py") and not os.access(Path(folder, name), os.R_OK):
                return f"it may not read {Path(folder, name)}"
    # What the user's code will import lies where Python itself and the packages lie.
    for package in ("json.tool", "httpx", "nomaflow"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None or not os.access(spec.origin, os.R_OK):
            return f"it may not read Python's own modules under {sys.base_prefix}"
    return ""


def _fail(error: OSError) -> None:
    raise error
