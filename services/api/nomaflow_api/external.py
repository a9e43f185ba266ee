"""Runs that outside scripts execute: start, sign of life, finish, the newest success, removal."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

from nomaflow.errors import Code, NomaflowError
from nomaflow.job.spec import SpecErrors
from nomaflow.outside import external_runs, names
from nomaflow.store import external, removal
from nomaflow_api.auth import Permission
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.graph.base import UserError, mistakes, uuid_of
from nomaflow_api.graph.enums import ExternalResult, RunStatus
from nomaflow_api.graph.runs import Run, RunPayload, as_run
from nomaflow_api.graph.scalars import BigInt

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow_api.context import Context


@strawberry.input
class ExternalRunStartInput:
    job: str = strawberry.field(description="Free text; one name per script and destination")
    source: str
    destination: str
    idempotency_key: str | None = strawberry.field(
        default=ABSENT, description="Same key and job: the first run comes back, created = false"
    )
    started_at: datetime | None = strawberry.field(
        default=ABSENT, description="The script's own start; omit = now, by the server's clock"
    )
    heartbeat_seconds: float | None = strawberry.field(
        default=ABSENT,
        description="How often it will give a sign of life; after three missed ones it is stale",
    )


@strawberry.input
class ExternalRunFinishInput:
    run: strawberry.ID
    status: ExternalResult
    records_processed: BigInt | None = ABSENT
    message: str | None = ABSENT


@strawberry.type
class MostRecent:
    run: Run
    started_at: datetime
    unix: float = strawberry.field(description="startedAt in seconds since 1970")


@strawberry.type
class DeleteRunsPayload:
    deleted: int
    errors: list[UserError]


async def _most_recent(
    info: Asked,
    job: str,
    status: RunStatus | None = RunStatus.SUCCEEDED,
    source: str | None = ABSENT,
    destination: str | None = ABSENT,
) -> MostRecent | None:
    info.context.need(Permission.SEE)
    if any(names.wrong_name(text) for text in (job, source, destination) if text):
        return None  # no script can have reported under such a name
    wanted = (status or RunStatus.SUCCEEDED).value
    row = await external.most_recent(
        info.context.db,
        names.name_of(job),
        wanted,
        names.name_of(source) if source else None,
        names.name_of(destination) if destination else None,
    )
    run = as_run(row)
    if row is None or run is None or row.started_at is None:
        return None
    return MostRecent(run=run, started_at=row.started_at, unix=row.started_at.timestamp())


@strawberry.type
class ExternalQueries:
    most_recent: MostRecent | None = strawberry.field(
        resolver=_most_recent,
        description=(
            "Start time of the newest successful run of that name, engine or external; null if "
            "it never succeeded. Newest by its end; dry runs do not count"
        ),
    )


async def _runs_delete(info: Asked, job: str, confirm: str) -> DeleteRunsPayload:
    context = info.context
    context.need(Permission.ADMIN)
    if confirm != job:
        error = NomaflowError(
            Code.INVALID,
            f"`confirm` must repeat the job's name exactly: `{job}`; nothing was deleted",
            ("confirm",),
        )
        return DeleteRunsPayload(deleted=0, errors=mistakes(error))
    deleted = await removal.of_name(context.db, job)
    return DeleteRunsPayload(deleted=deleted, errors=[])


@strawberry.type
class ExternalMutations:
    @strawberry.mutation
    async def external_run_start(self, info: Asked, input: ExternalRunStartInput) -> RunPayload:
        context = info.context
        context.need(Permission.RUN)
        wish = external_runs.Start(
            job=input.job,
            source=input.source,
            destination=input.destination,
            trigger=context.caller.trigger,
            triggered_by=context.caller.word,
            principal=context.caller.principal.name,
            idempotency_key=None if input.idempotency_key is ABSENT else input.idempotency_key,
            started_at=input.started_at or None,
            heartbeat_seconds=None
            if input.heartbeat_seconds is ABSENT
            else input.heartbeat_seconds,
        )
        minutes = context.backing.options.external_stale_minutes
        try:
            run_id, created = await external_runs.start(
                context.db, context.backing.bell, wish, stale_minutes=minutes
            )
        except (NomaflowError, SpecErrors) as error:
            return RunPayload(run=None, created=False, errors=mistakes(error))
        return await _answer(context, run_id, created=created)

    @strawberry.mutation
    async def external_run_heartbeat(
        self, info: Asked, run: strawberry.ID, message: str | None = ABSENT
    ) -> RunPayload:
        context = info.context
        context.need(Permission.RUN)
        run_id = uuid_of("Run", run)
        try:
            await external_runs.heartbeat(
                context.db, context.backing.bell, run_id, _masked(context, message)
            )
        except NomaflowError as error:
            return await _answer(context, run_id, error)
        return await _answer(context, run_id)

    @strawberry.mutation
    async def external_run_finish(self, info: Asked, input: ExternalRunFinishInput) -> RunPayload:
        context = info.context
        context.need(Permission.RUN)
        run_id = uuid_of("Run", input.run)
        records = input.records_processed
        try:
            await external_runs.finish(
                context.db,
                context.backing.bell,
                context.backing.project.alerts(),
                run_id,
                succeeded=input.status is ExternalResult.SUCCEEDED,
                records=None if records is ABSENT or records is None else int(records),
                message=_masked(context, input.message),
                url=context.backing.options.url,
            )
        except NomaflowError as error:
            return await _answer(context, run_id, error)
        return await _answer(context, run_id)

    runs_delete: DeleteRunsPayload = strawberry.mutation(
        resolver=_runs_delete,
        description=(
            "Deletes the history of exactly that job name; confirm must repeat it. Runs that "
            "Nomaflow's own workers are carrying out stay"
        ),
    )


async def _answer(
    context: Context, run_id: UUID, error: NomaflowError | None = None, *, created: bool = False
) -> RunPayload:
    run = as_run(await context.load.runs.find(run_id))
    return RunPayload(run=run, created=created, errors=mistakes(error) if error else [])


def _masked(context: Context, message: str | None) -> str | None:
    """Keep the project's secrets out of history, whoever writes them."""
    if not message or message is ABSENT:
        return None
    return str(context.backing.secrets.masked(message))
