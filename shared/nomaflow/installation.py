"""Bootstrap: jobs with an install step, one after the other until the first failure (J26).

Whoever looks decides what comes next from history alone, and starts it under the installation's
key, which makes it once. So any program may carry an installation on, also one that was started
after another died in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from nomaflow import dispatch
from nomaflow.birth import Request
from nomaflow.errors import Code, NomaflowError
from nomaflow.job.spec import SpecErrors
from nomaflow.store import installations
from nomaflow.store.installations import PREFIX, InstallJob, InstallRun

if TYPE_CHECKING:
    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Database

log = structlog.get_logger(__name__)

IN_FLIGHT = frozenset({"queued", "running"})


@dataclass(frozen=True, slots=True)
class By:
    """Who asked for an installation, as its runs say it."""

    trigger: str
    triggered_by: str
    principal: str


@dataclass(frozen=True, slots=True)
class Installation:
    """One installation as it stands now.

    `planned` is how many runs it was to begin; `jobs` are those that have an install step now.
    """

    key: str
    forced: bool
    planned: int
    by: By
    jobs: tuple[InstallJob, ...] = ()
    runs: tuple[InstallRun, ...] = ()

    @property
    def next_job(self) -> str | None:
        """The job to begin now; None while one runs, and when there is nothing left to begin."""
        if len(self.runs) >= self.planned or any(run.status != "succeeded" for run in self.runs):
            return None
        return next(iter(self._left()), None)

    @property
    def stopped_by(self) -> InstallRun | None:
        """The run that ended it, since it did not succeed."""
        return next((r for r in self.runs if r.status not in IN_FLIGHT | {"succeeded"}), None)

    @property
    def done(self) -> bool:
        """Tell whether nothing more will be begun."""
        in_flight = any(run.status in IN_FLIGHT for run in self.runs)
        return not in_flight and self.next_job is None

    @property
    def remaining(self) -> tuple[str, ...]:
        """Jobs that were not begun, in order."""
        if len(self.runs) >= self.planned:
            return ()
        return tuple(self._left())

    def _left(self) -> list[str]:
        began = {run.job for run in self.runs}
        return [
            job.name
            for job in self.jobs
            if job.name not in began and (self.forced or not job.succeeded)
        ]


async def current(db: Database) -> Installation | None:
    """Return the newest installation of the last days; None when there is none."""
    key = await installations.newest_key(db, dispatch.IDEMPOTENT_DAYS)
    if key is None:
        return None
    runs = await installations.runs(db, key)
    if not runs:
        return None
    return _read(key, await installations.jobs(db), runs)


async def reread(db: Database, there: Installation) -> Installation:
    """Return the same installation as it stands now."""
    runs = await installations.runs(db, there.key)
    jobs = await installations.jobs(db)
    return replace(there, jobs=tuple(jobs), runs=tuple(runs))


def _read(key: str, jobs: Sequence[InstallJob], runs: Sequence[InstallRun]) -> Installation | None:
    _, _, rest = key.removeprefix(PREFIX).partition(":")
    word, _, planned = rest.partition(":")
    if word not in ("forced", "missing") or not planned.isdigit():
        return None  # somebody else's key that happens to begin like ours
    first = runs[0]
    by = By(first.trigger, first.triggered_by, first.principal)
    return Installation(key, word == "forced", int(planned), by, tuple(jobs), tuple(runs))


async def begin(db: Database, bell: Bell, *, forced: bool, by: By) -> Installation:
    """Begin an installation, or join the one that is under way.

    Raises NomaflowError BUSY when the other kind is under way, and what `dispatch.start` raises
    for the first job.
    """
    async with db.transaction() as connection:
        await installations.alone(connection)
        there = await current(db)
        if there is not None and not there.done:
            if there.forced != forced:
                kind = "of all jobs" if there.forced else "of what is missing"
                raise NomaflowError(
                    Code.BUSY, f"an installation {kind} is under way; wait until it is over"
                )
            return there
        jobs = await installations.jobs(db)
        planned = [job for job in jobs if forced or not job.succeeded]
        word = "forced" if forced else "missing"
        key = f"{PREFIX}{uuid4()}:{word}:{len(planned)}"
        new = Installation(key, forced, len(planned), by, tuple(jobs))
        if planned:
            await _start(db, bell, new, planned[0].name)
        runs = await installations.runs(db, key)
    return Installation(key, forced, len(planned), by, tuple(jobs), tuple(runs))


async def carry(db: Database, bell: Bell) -> bool:
    """Begin what comes next of the newest installation; answers whether it is under way.

    A job that finds itself busy is tried again at the next look.
    """
    there = await current(db)
    if there is None or there.done:
        return False
    if (name := there.next_job) is not None:
        try:
            await _start(db, bell, there, name)
        except (NomaflowError, SpecErrors) as error:
            log.warning("an installation cannot go on yet", job=name, reason=str(error))
    return True


async def _start(db: Database, bell: Bell, installation: Installation, name: str) -> None:
    by = installation.by
    await dispatch.start(
        db,
        bell,
        Request(
            job=name,
            trigger=by.trigger,
            triggered_by=by.triggered_by,
            principal=by.principal,
            idempotency_key=installation.key,
        ),
    )
