"""How files of a project are read: ordinary ones only, and not while someone is writing them."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

STILL_SECONDS = 0.1
MOST_LOOKS = 20
UNREADABLE = "the file cannot be read: it is not an ordinary file, or its rights forbid it"

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """Return what tells whether a file is still the same; None when there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  asked for each step, and Path takes twice as long
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def still(path: Path, seen: Stamp | None) -> Stamp | None:
    """Wait until a changed file stands still; its stamp then.

    Many editors empty a file and write it anew; read in between, its jobs would be gone.
    """
    for _ in range(MOST_LOOKS):
        time.sleep(STILL_SECONDS)
        before, seen = seen, stamp(path)
        if seen == before:
            break
    return seen


def contents(path: Path, largest: int) -> bytes | None:
    """Read a file, one byte more than its reader takes; None when there is no ordinary file."""
    try:
        # A named pipe would keep the reader waiting for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(largest + 1)
