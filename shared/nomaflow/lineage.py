"""Jobs that call jobs: what a run must agree with above it before it may be born."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow.errors import Code, NomaflowError
from nomaflow.lifecycle import RunStatus
from nomaflow.store import family

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from nomaflow.job.spec import JobSpec
    from nomaflow.store.database import Connection
    from nomaflow.store.family import Ancestor, Wait

DEEPEST = 10
"""Runs one above the other, the first one included."""


async def of_child(
    connection: Connection, job_id: UUID, spec: JobSpec, parent: UUID, *, detached: bool = False
) -> JobSpec:
    """Return the job as a child of `parent` runs it, without a named lock that is held above.

    Whoever holds that lock waits for this very run; nobody waits for a detached one. Raises
    NomaflowError: CYCLE when the job is one of those above, or when the child and those who wait
    for it would wait for each other's locks for ever; LIMIT_EXCEEDED when they are too many;
    INVALID_STATE when the parent is over.
    """
    above = await family.ancestors(connection, parent)
    if not above or above[0].status != RunStatus.RUNNING:
        raise NomaflowError(
            Code.INVALID_STATE, f"its parent run {parent} is not running any more", ("parent",)
        )
    _refuse_circles(spec, [run.job_name for run in reversed(above)])
    waiting = [] if detached else _waiting(above)
    if spec.lock is not None and spec.lock in {run.lock for run in waiting}:
        spec = spec.model_copy(update={"lock": None})
    await _refuse_deadlock(connection, job_id, spec, waiting)
    return spec


def _refuse_circles(spec: JobSpec, names: list[str]) -> None:
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


def _waiting(above: Sequence[Ancestor]) -> list[Ancestor]:
    """Those above who wait for the child: up to the first that nobody waits for itself."""
    waiting: list[Ancestor] = []
    for run in above:
        waiting.append(run)
        if run.detached:
            break
    return waiting


async def _refuse_deadlock(
    connection: Connection, job_id: UUID, spec: JobSpec, waiting: Sequence[Ancestor]
) -> None:
    """Refuse a child that would wait for one who waits for a lock, or a turn, held above it.

    A circle of waits is closed by the birth of a child, never by a run that takes a lock: whoever
    takes one has called nobody yet. So it is enough to look here, one birth after the other.
    """
    queues = spec.overlap == "queue"  # skip refuses, replace ends the others, allow never waits
    if (spec.lock is None and not queues) or not any(run.lock or run.serial for run in waiting):
        return
    await family.one_birth_at_a_time(connection)
    came_by: dict[UUID, Wait] = {}
    ahead = await family.holders(connection, spec.lock, job_id if queues else None)
    above = {run.run_id for run in waiting}
    while ahead:
        new = {wait.awaited: wait for wait in ahead if wait.awaited not in came_by}
        came_by |= new
        if met := next((run_id for run_id in new if run_id in above), None):
            raise NomaflowError(Code.CYCLE, _in_words(spec, came_by, met), ("job",))
        ahead = await family.waits(connection, list(new))


def _in_words(spec: JobSpec, came_by: Mapping[UUID, Wait], met: UUID) -> str:
    """Say who waits for whom, from the child to the run above it."""
    waits = [came_by[met]]
    while (waiter := waits[0].waiter) is not None:
        waits.insert(0, came_by[waiter])
    words = ", which waits for ".join(_awaited(wait) for wait in waits)
    return (
        f"job `{spec.name}` would wait for ever: for {words}, which waits for this very call; "
        "let jobs that call each other take their locks in one order, or share one"
    )


def _awaited(wait: Wait) -> str:
    run = f"run {wait.awaited} of job `{wait.job_name}`"
    if wait.is_child:
        return run
    held = "the turn" if wait.lock is None else f"lock `{wait.lock}`"
    return f"{held} of {run}"
