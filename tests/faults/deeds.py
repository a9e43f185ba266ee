"""What the python steps of the scenarios do; copied into the project of each test."""

import ctypes
import os
import socket
import sys
import time


def _teller(ctx, step):
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.connect(("127.0.0.1", int(os.environ["JUDGE_PORT"])))

    def tell(what):
        ear.send(f"{ctx.run_id} {step} {os.getpid()} {what}".encode())

    return tell


def work(ctx, *, step="python", seconds=0.1, **_):
    """Blocks, as plain functions do, and says every 20 ms that it is alive."""
    tell = _teller(ctx, step)
    tell("began")
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        time.sleep(0.02)
        tell("alive")
    tell("ended")
    return {"slept": float(seconds)}


def spins(ctx, *, step="python", **_):
    """Never gives the processor back."""
    tell = _teller(ctx, step)
    tell("began")
    said = time.monotonic()
    while True:
        if time.monotonic() - said > 0.02:
            said = time.monotonic()
            tell("alive")


def leaves(ctx, **_):
    sys.exit(3)


def crashes(ctx, **_):
    ctypes.string_at(0)


def floods(ctx, *, megabytes=20, **_):
    for _ in range(int(megabytes) * 64):
        sys.stdout.write(("x" * 1023 + "\n") * 16)
