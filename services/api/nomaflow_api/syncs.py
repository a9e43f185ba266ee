"""Syncs: setting a watermark, retrying failed batches."""

from __future__ import annotations

import re

import strawberry

from nomaflow import batch_retry
from nomaflow.errors import Code, NomaflowError
from nomaflow.job.spec import SpecErrors
from nomaflow.store import jobs, watermarks
from nomaflow_api.auth import Permission
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.graph.base import mistakes, uuid_of
from nomaflow_api.graph.jobs import JobPayload, as_job
from nomaflow_api.graph.runs import as_run
from nomaflow_api.graph.sync import FailedBatchRetryPayload

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
LONGEST_VALUE = 4_000


@strawberry.type
class SyncMutations:
    @strawberry.mutation(  # type: ignore[untyped-decorator]
        description="Null forgets it: the next run reads its default"
    )
    async def watermark_set(
        self, info: Asked, job: str, name: str, value: str | None = ABSENT
    ) -> JobPayload:
        context = info.context
        context.need(Permission.EDIT)
        try:
            found = await jobs.find(context.db, job)
            if found is None:
                raise NomaflowError(Code.NOT_FOUND, f"there is no job `{job[:128]}`", ("job",))
            _check(name, value or None)
            if value is ABSENT or value is None:
                await watermarks.reset(context.db, found.name, name)
            else:
                await watermarks.set(context.db, found.name, name, value)
        except NomaflowError as error:
            return JobPayload(job=None, errors=mistakes(error))
        return JobPayload(job=as_job(found), errors=[])

    @strawberry.mutation(  # type: ignore[untyped-decorator]
        description=(
            "Runs of their own write them again, one for each failed run: of the given run, or of "
            "all runs of a job, the oldest first; `limit` counts batches"
        )
    )
    async def failed_batch_retry(
        self,
        info: Asked,
        run: strawberry.ID | None = ABSENT,
        job: str | None = ABSENT,
        step: str | None = ABSENT,
        limit: int | None = batch_retry.LIMIT,
    ) -> FailedBatchRetryPayload:
        context = info.context
        context.need(Permission.RUN)
        asked = batch_retry.Asked(
            triggered_by=context.caller.word,
            principal=context.caller.principal.name,
            run_id=uuid_of("Run", run) if run else None,
            job=job or None,
            step=step or None,
            limit=batch_retry.LIMIT if limit is None else limit,
        )
        try:
            retried = await batch_retry.start(context.db, context.backing.bell, asked)
        except (NomaflowError, SpecErrors) as error:
            return FailedBatchRetryPayload(run=None, runs=[], retried=0, errors=mistakes(error))
        found = [as_run(await context.load.runs.find(run_id)) for run_id in retried.run_ids]
        runs = [one for one in found if one is not None]
        first = runs[0] if runs else None
        return FailedBatchRetryPayload(run=first, runs=runs, retried=retried.batches, errors=[])


def _check(name: str, value: str | None) -> None:
    if not _NAME.fullmatch(name):
        raise NomaflowError(
            Code.INVALID, "a watermark's name is 1 to 128 letters, digits, `-` or `_`", ("name",)
        )
    if value is not None and (len(value) > LONGEST_VALUE or not value.isprintable()):
        raise NomaflowError(
            Code.INVALID,
            f"a watermark's value is one line of at most {LONGEST_VALUE} characters",
            ("value",),
        )
