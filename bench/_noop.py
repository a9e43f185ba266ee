"""A step type that does nothing but say when, and programs that know it."""

import cProfile
import importlib
import os
import sys
import time

from nomaflow.steps import registry
from nomaflow.steps.base import Step, StepResult


class Noop(Step):
    """CLOCK_MONOTONIC is one clock for all processes of a machine."""

    type_name = "noop"
    title = "Nothing"

    async def run(self, ctx):  # noqa: ARG002  every step gets it
        return StepResult({"at": time.monotonic_ns()}, "", None)


def register() -> None:
    registry.OURS = (*registry.OURS, Noop)


def job(steps: int) -> str:
    """A job of that many, as it stands in a jobs.toml."""
    links = ", ".join(f'{{ name = "s{n}", type = "noop" }}' for n in range(steps))
    return f'[[jobs]]\nname = "noop-{steps}"\noverlap = "allow"\nsteps = [{links}]\n'


HOMES = {"worker": "nomaflow_worker.main", "api": "nomaflow_api.__main__"}


def main(program: str) -> int:
    """Be the program, with this step type; PROFILE=file keeps where its time went."""
    register()
    begin = importlib.import_module(HOMES[program]).main
    if not (kept := os.environ.get("PROFILE")):
        return begin()
    with cProfile.Profile() as profile:
        status = begin()
    profile.dump_stats(kept)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
