"""The process in which everything of ours is imported already, and from which children are forked.

Each order of the worker makes a guardian and, below it, a child that waits for one call. The
nursery itself never runs code of the user; what escapes from a guardian that was killed ends up
below it and is ended here.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nomaflow.connectors import trust
from nomaflow.connectors.postgres import connector as postgres
from nomaflow_worker.sandbox import child, guardian, isolation, processes, wire
from nomaflow_worker.sandbox.lease_page import LeasePage

_LEAVING_SECONDS = 10.0
# What a step may need that is slow to import or to make.
_PREPARED = (postgres, trust.context())


@dataclass(frozen=True, slots=True)
class House:
    """What every guardian and child of this nursery shares."""

    plugins: Path
    scratch: Path
    uid: int | None
    tasks: int
    lease: LeasePage


class Nursery:
    """Forks on order until the worker is gone."""

    def __init__(self, control: socket.socket, house: House) -> None:
        self._control = control
        self._house = house
        self._wakeup = guardian.wake_on_child_death()
        self._guardians: set[int] = set()

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wakeup:
                    self._tidy()
                elif not self._take_order():
                    self._leave()
                    return

    def _take_order(self) -> bool:
        """Fork for the two sockets that came; False when the worker is gone."""
        try:
            order, fds, _, _ = socket.recv_fds(self._control, 1, 2)
        except OSError:
            return False
        if not order:
            return False
        guarding, channel = (socket.socket(fileno=fd) for fd in fds)
        try:
            pid = os.fork()
        except OSError as error:
            # The worker sees both sockets close and says so.
            sys.stderr.write(f"nomaflow: no process could be started: {error}\n")
        else:
            if pid == 0:
                self._control.close()
                os.close(self._wakeup)
                _guard(guarding, channel, self._house)
            self._guardians.add(pid)
        guarding.close()
        channel.close()
        return True

    def _tidy(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 1024)
        self._guardians -= processes.reap().dead.keys()
        # A guardian that was killed leaves us what it guarded.
        while strangers := set(processes.children(os.getpid())) - self._guardians:
            for stranger in strangers:
                for pid in (stranger, *processes.descendants(stranger)):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
            self._guardians -= processes.reap().dead.keys()

    def _leave(self) -> None:
        """The guardians end by themselves now; see them out."""
        until = time.monotonic() + _LEAVING_SECONDS
        self._tidy()
        while self._guardians and time.monotonic() < until:
            select.select([self._wakeup], [], [], 0.1)
            self._tidy()
        shutil.rmtree(self._house.scratch, ignore_errors=True)


def _guard(control: socket.socket, channel: socket.socket, house: House) -> NoReturn:
    """In the forked guardian: fork the child, watch it, and end when nothing of it is left."""
    try:
        os.setsid()
        isolation.name_process("nf-guardian")
        isolation.adopt_orphans()
        wakeup = guardian.wake_on_child_death()
        scratch = Path(tempfile.mkdtemp(dir=house.scratch))
        if house.uid is not None:
            os.chown(scratch, house.uid, -1)
        out, err, cancel = os.pipe(), os.pipe(), os.pipe()
        ourselves = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(wakeup)
            control.close()
            house.lease.close()
            for ours in (out[0], err[0], cancel[1]):
                os.close(ours)
            _be_born(ourselves, house, scratch, (out[1], err[1]))
            child.serve(channel, cancel[0], house.plugins, scratch)
        channel.close()
        for theirs in (out[1], err[1], cancel[0]):
            os.close(theirs)
        for ours in (out[0], err[0], cancel[1]):
            os.set_blocking(ours, False)
        levels = {out[0]: "INFO", err[0]: "WARNING"}
        guardian.Guardian(control, house.lease, pid, scratch, levels, cancel[1], wakeup).watch()
        os._exit(0)
    except BaseException:  # noqa: BLE001  nothing may return into the nursery's loop
        traceback.print_exc()
    finally:
        os._exit(1)


def _be_born(parent: int, house: House, scratch: Path, outputs: tuple[int, int]) -> None:
    """In the forked child: a session, streams, a folder and a user of its own."""
    os.setsid()
    isolation.name_process("nf-step")
    guardian.forget_wakeup(signal.set_wakeup_fd(-1))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in zip((nothing, *outputs), (0, 1, 2), strict=True):
        os.dup2(source, target)
        os.close(source)
    os.chdir(scratch)
    isolation.give_up_rights(house.uid, house.tasks)
    isolation.die_with(parent)


def main() -> None:
    """`python -m nomaflow_worker.sandbox.nursery <socket> <lease page> <settings as JSON>`."""
    control = socket.socket(fileno=int(sys.argv[1]))
    lease = LeasePage(int(sys.argv[2]))
    settings: dict[str, Any] = json.loads(sys.argv[3])
    isolation.ignore_stop_signals()
    isolation.name_process("nf-nursery")
    isolation.adopt_orphans()
    plugins, scratch, uid = Path(settings["plugins"]), Path(settings["scratch"]), settings["user"]
    why_not = isolation.obstacle(uid, plugins) if uid is not None else None
    if why_not:
        uid = None
    tasks = processes.tasks_of_user(os.getuid() if uid is None else uid)
    nursery = Nursery(control, House(plugins, scratch, uid, tasks, lease))
    with contextlib.suppress(OSError):  # a worker that is gone already is noticed by serving
        control.sendall(wire.frame({"ready": {"obstacle": why_not}}))
    gc.collect()
    # What is here now is never garbage: a child's collector need not touch these pages.
    gc.freeze()
    nursery.serve()


if __name__ == "__main__":
    main()
