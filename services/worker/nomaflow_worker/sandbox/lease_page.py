"""Until when the worker's lease holds: one number in memory shared with every guardian.

A message would need the guardian to read it and the worker's loop to send it. A worker that is
frozen, or whose loop is stuck, simply stops moving the number on.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import sys
import tempfile

_MOMENT = struct.Struct("=d")


class LeasePage:
    """A moment of CLOCK_MONOTONIC, which all processes of a machine share; at first, never."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._page = mmap.mmap(fd, mmap.PAGESIZE)

    @classmethod
    def make(cls) -> LeasePage:
        """A new page; children of this process inherit `fd`, others get it by `pass_fds`."""
        if sys.platform == "linux":
            fd = os.memfd_create("nomaflow-lease")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, mmap.PAGESIZE)
        page = cls(fd)
        page.move(math.inf)
        return page

    def move(self, deadline: float) -> None:
        """Let the lease hold until `deadline`; from any thread, well under a microsecond."""
        _MOMENT.pack_into(self._page, 0, deadline)

    def deadline(self) -> float:
        (deadline,) = _MOMENT.unpack_from(self._page, 0)
        return float(deadline)

    def close(self) -> None:
        if not self._page.closed:
            self._page.close()
            os.close(self.fd)
