"""Runs: reading history, starting a run, ending one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import strawberry

from nomaflow import dispatch
from nomaflow.errors import NomaflowError
from nomaflow.job.spec import SpecErrors
from nomaflow.store.history import RunFilter
from nomaflow_api import starting
from nomaflow_api.auth import Permission
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.graph import run_lists
from nomaflow_api.graph.base import mistakes, uuid_of
from nomaflow_api.graph.enums import LogLevel, RunOrder
from nomaflow_api.graph.run_lists import RunFilterInput
from nomaflow_api.graph.runs import Run, RunConnection, RunPayload, as_run
from nomaflow_api.graph.scalars import Json
from nomaflow_api.job_input import INPUT_NAMES

if TYPE_CHECKING:
    from nomaflow_api.context import Context


@strawberry.input
class RunTriggerInput:
    job: str
    params: Json | None = ABSENT
    step_kwargs: Json | None = strawberry.field(default=ABSENT, description="{step: {key: value}}")
    step_enabled: Json | None = strawberry.field(default=ABSENT, description="{step: true | false}")
    preset: str | None = ABSENT
    log_level: LogLevel | None = ABSENT
    dry_run: bool | None = False
    idempotency_key: str | None = strawberry.field(
        default=ABSENT,
        description="Same key and job within 7 days: the first run comes back, created = false",
    )


@strawberry.input
class RunReplayInput:
    run: strawberry.ID
    from_step: str | None = strawberry.field(
        default=ABSENT,
        description="Keep the outputs of earlier steps and start here; omit = from the first",
    )
    params: Json | None = ABSENT
    step_kwargs: Json | None = ABSENT
    step_enabled: Json | None = ABSENT
    log_level: LogLevel | None = ABSENT
    dry_run: bool | None = strawberry.field(default=ABSENT, description="Omit = as that run was")


async def _run(context: Context, run_id: UUID) -> Run | None:
    return as_run(await context.load.runs.find(run_id))


def _wish(given: RunTriggerInput | RunReplayInput) -> dict[str, Any]:
    wish = {k: v for k, v in vars(given).items() if v is not ABSENT and k not in {"job", "run"}}
    if given.log_level:
        wish["log_level"] = given.log_level.value
    return wish


@strawberry.type
class RunQueries:
    @strawberry.field
    async def run(self, info: Asked, id: strawberry.ID) -> Run | None:
        info.context.need(Permission.SEE)
        return await _run(info.context, uuid_of("Run", id))

    @strawberry.field
    async def runs(
        self,
        info: Asked,
        first: int | None = 50,
        after: str | None = ABSENT,
        last: int | None = ABSENT,
        before: str | None = ABSENT,
        filter: RunFilterInput | None = ABSENT,
        order_by: RunOrder | None = RunOrder.QUEUED_DESC,
    ) -> RunConnection:
        info.context.need(Permission.SEE)
        asked = run_lists.Asked(first=first, after=after, last=last, before=before)
        wanted = filter.as_filter() if filter else RunFilter()
        return await run_lists.connection(info, wanted, asked, order_by or RunOrder.QUEUED_DESC)


@strawberry.type
class RunMutations:
    @strawberry.mutation
    async def run_trigger(self, info: Asked, input: RunTriggerInput) -> RunPayload:
        context = info.context
        context.need(Permission.RUN)
        wish = _wish(input)
        try:
            started = await starting.start(context.backing, context.caller, input.job, wish)
        except (NomaflowError, SpecErrors) as error:
            return RunPayload(run=None, created=False, errors=mistakes(error, INPUT_NAMES))
        run = await _run(context, started.run_id)
        return RunPayload(run=run, created=started.created, errors=[])

    @strawberry.mutation
    async def run_replay(self, info: Asked, input: RunReplayInput) -> RunPayload:
        context = info.context
        context.need(Permission.RUN)
        run_id = uuid_of("Run", input.run)
        wish = _wish(input)
        try:
            started = await starting.again(context.backing, context.caller, run_id, wish)
        except (NomaflowError, SpecErrors) as error:
            return RunPayload(run=None, created=False, errors=mistakes(error, INPUT_NAMES))
        run = await _run(context, started.run_id)
        return RunPayload(run=run, created=started.created, errors=[])

    @strawberry.mutation
    async def run_abort(
        self, info: Asked, run: strawberry.ID, reason: str | None = ABSENT
    ) -> RunPayload:
        context = info.context
        context.need(Permission.ABORT)
        run_id = uuid_of("Run", run)
        try:
            await dispatch.abort(
                context.db,
                context.backing.bell,
                run_id,
                by=context.caller.word,
                reason=reason or None,
            )
        except NomaflowError as error:
            found = await _run(context, run_id)
            return RunPayload(run=found, created=False, errors=mistakes(error))
        return RunPayload(run=await _run(context, run_id), created=False, errors=[])
