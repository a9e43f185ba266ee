"""Jobs that call jobs: what a run must agree with above it before it may be born."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow.errors import Code, NomaflowError
from nomaflow.lifecycle import RunStatus
from nomaflow.store import family

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.job.spec import JobSpec
    from nomaflow.store.database import Connection

DEEPEST = 10
"""Runs one above the other, the first one included."""


async def of_child(connection: Connection, spec: JobSpec, parent: UUID) -> JobSpec:
    """Return the job as a child of `parent` runs it, without a named lock that is held above.

    Whoever holds that lock waits for this very run. Raises NomaflowError: CYCLE when the job is
    one of those above, LIMIT_EXCEEDED when they are too many, INVALID_STATE when the parent is
    over.
    """
    above = await family.ancestors(connection, parent)
    if not above or above[0].status != RunStatus.RUNNING:
        raise NomaflowError(
            Code.INVALID_STATE, f"its parent run {parent} is not running any more", ("parent",)
        )
    names = [run.job_name for run in reversed(above)]
    if spec.name in names:
        circle = " → ".join([*names[names.index(spec.name) :], spec.name])
        raise NomaflowError(Code.CYCLE, f"jobs call each other in a circle: {circle}", ("job",))
    if len(names) >= DEEPEST:
        chain = " → ".join([*names, spec.name])
        raise NomaflowError(
            Code.LIMIT_EXCEEDED,
            f"jobs call each other more than {DEEPEST} deep: {chain}",
            ("job",),
        )
    if spec.lock is not None and spec.lock in {run.lock for run in above}:
        return spec.model_copy(update={"lock": None})
    return spec
