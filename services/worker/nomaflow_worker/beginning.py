"""What a chain begins with: the definition of its run, and what an earlier chain left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow.errors import StepError
from nomaflow.in_force import definitions
from nomaflow.steps.base import EarlierStep
from nomaflow.store import logs, step_outputs, watermarks
from nomaflow_worker import rendering
from nomaflow_worker.context import application

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from nomaflow.job.spec import JobSpec
    from nomaflow.lifecycle import StepState
    from nomaflow.store.claims import Claimed
    from nomaflow_worker.record import Record
    from nomaflow_worker.tools import Tools


async def definition(tools: Tools, record: Record, claimed: Claimed) -> JobSpec:
    """Read what the run was born with; StepError when its job is gone."""
    job_id, revision = claimed.job_id, claimed.job_revision
    if job_id is None or revision is None:
        raise StepError("the job of this run was removed before it could run")
    return await record.read(lambda: definitions.of_run(tools.db, job_id, revision))


async def state(tools: Tools, record: Record, claimed: Claimed, spec: JobSpec) -> Mapping[str, str]:
    """Read the job's watermarks once, where something may look at them."""
    if not rendering.reads_state(claimed, spec):
        return {}
    return await record.read(lambda: watermarks.of_job(tools.db, claimed.job_name))


async def remember(tools: Tools, record: Record, run_id: UUID) -> dict[str, EarlierStep]:
    """Read what earlier steps put out, whole: this chain did not run them itself."""
    found = await record.read(lambda: step_outputs.of_run(tools.db, run_id))
    return {
        name: EarlierStep(name, earlier["status"], earlier["output"], earlier["rows_affected"])
        for name, earlier in found.items()
    }


async def end_left_behind(tools: Tools, record: Record, run_id: UUID, state: StepState) -> None:
    """End server processes that still work for a step nobody carries out any more."""
    found = await record.read(lambda: logs.backends_of(tools.db, run_id, state.position))
    await tools.connections.look(tools.db, {backend["connector"] for backend in found})
    for backend in found:
        name = backend.get("application") or application(run_id, state.name)
        await tools.connections.terminate(backend["connector"], backend["pid"], name)
