"""Jobs: reading the catalogue, and declaring, changing, switching and deleting a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import strawberry

from nomaflow.errors import NomaflowError
from nomaflow.in_force import catalog, known_connectors
from nomaflow.in_force.env_names import EnvReach
from nomaflow.job.spec import SpecErrors
from nomaflow.store import job_pages, jobs, problems
from nomaflow.store.job_pages import JobFilter
from nomaflow.store.jobs import JobRow
from nomaflow_api.auth import Permission
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.graph import cursors
from nomaflow_api.graph.base import mistakes
from nomaflow_api.graph.enums import RunStatus
from nomaflow_api.graph.jobs import Job, JobConnection, JobDeletePayload, JobPayload, as_job
from nomaflow_api.job_input import INPUT_NAMES, JobInput

if TYPE_CHECKING:
    from nomaflow_api.context import Context

_NAME = "job-name"


@strawberry.input(name="JobFilter")
class JobFilterInput:
    name: str | None = ABSENT
    search: str | None = ABSENT
    app: str | None = ABSENT
    tags: list[str] | None = ABSENT
    enabled: bool | None = ABSENT
    last_status: list[RunStatus] | None = ABSENT

    def as_filter(self) -> JobFilter:
        """Return it in the words of the store."""
        return JobFilter(
            name=self.name or None,
            search=self.search or None,
            app=self.app or None,
            tags=self.tags or None,
            enabled=None if self.enabled is ABSENT else self.enabled,
            last_status=[s.value for s in self.last_status] if self.last_status else None,
        )


def _read_name(text: str) -> tuple[str]:
    match cursors.decode(_NAME, text):
        case [str(name)]:
            return (name,)
    raise cursors.bad_cursor()


def _cursor(job: JobRow) -> str:
    return cursors.encode(_NAME, job.name)


@strawberry.type
class JobQueries:
    @strawberry.field
    async def job(self, info: Asked, name: str) -> Job | None:
        info.context.need(Permission.SEE)
        return as_job(await jobs.find(info.context.db, name))

    @strawberry.field
    async def jobs(
        self,
        info: Asked,
        first: int | None = 50,
        after: str | None = ABSENT,
        filter: JobFilterInput | None = ABSENT,
    ) -> JobConnection:
        info.context.need(Permission.SEE)
        db = info.context.db
        asked = cursors.window(first=first, after=after or None, read=_read_name)
        wanted = filter.as_filter() if filter else JobFilter()
        page = await job_pages.page(db, wanted, asked)
        await info.context.load.ahead_of_jobs(page.rows, info)
        found = cursors.Connection(
            nodes=page.rows,
            page=page,
            window=asked,
            cursor=_cursor,
            count=lambda: job_pages.count(db, wanted),
        )
        return cast("JobConnection", found)


async def _look_for_what_it_names(context: Context, job: JobRow) -> None:
    """Tell in the catalogue's problems of jobs, functions and connectors that are not there.

    Also when it is the one that another job missed.
    """
    steps = job.definition.get("steps", [])
    named = set(known_connectors.names_in(steps)) - {known_connectors.DEFAULT}
    python = any(step.get("type") == "python" for step in steps)
    told = await problems.all_of_them(context.db)
    missed = any(f"depends on `{job.name}`" in problem.message for problem in told)
    if named or python or missed or job.definition.get("depends_on"):
        await _look_again(context)


def _env_reach(context: Context) -> EnvReach:
    """Which names of `.env` this caller may give a job."""
    return EnvReach(context.caller.may(Permission.ADMIN), context.backing.options.api_env)


async def _look_again(context: Context) -> None:
    backing = context.backing
    await catalog.sync(context.db, backing.bell, backing.project, timezone=backing.timezone)


@strawberry.type
class JobMutations:
    @strawberry.mutation
    async def job_create(self, info: Asked, input: JobInput) -> JobPayload:
        context = info.context
        context.need(Permission.EDIT)
        try:
            row = await catalog.create(
                context.db,
                context.backing.bell,
                input.as_toml(),
                by=context.caller.word,
                timezone=context.backing.timezone,
                env=_env_reach(context),
            )
        except (NomaflowError, SpecErrors) as error:
            return JobPayload(job=None, errors=mistakes(error, INPUT_NAMES))
        await _look_for_what_it_names(context, row)
        return JobPayload(job=as_job(row), errors=[])

    @strawberry.mutation
    async def job_update(
        self,
        info: Asked,
        input: JobInput,
        expected_revision: int | None = ABSENT,
    ) -> JobPayload:
        context = info.context
        context.need(Permission.EDIT)
        try:
            row = await catalog.update(
                context.db,
                context.backing.bell,
                input.as_toml(),
                by=context.caller.word,
                expected_revision=None if expected_revision is ABSENT else expected_revision,
                timezone=context.backing.timezone,
                env=_env_reach(context),
            )
        except (NomaflowError, SpecErrors) as error:
            return JobPayload(job=None, errors=mistakes(error, INPUT_NAMES))
        await _look_for_what_it_names(context, row)
        return JobPayload(job=as_job(row), errors=[])

    @strawberry.mutation
    async def job_delete(self, info: Asked, name: str) -> JobDeletePayload:
        context = info.context
        context.need(Permission.EDIT)
        try:
            await catalog.delete(context.db, context.backing.bell, name, by=context.caller.word)
        except NomaflowError as error:
            return JobDeletePayload(name=None, errors=mistakes(error))
        await _look_again(context)
        return JobDeletePayload(name=name, errors=[])

    @strawberry.mutation
    async def job_enable(self, info: Asked, name: str, enabled: bool) -> JobPayload:  # noqa: FBT001
        context = info.context
        context.need(Permission.EDIT)
        try:
            row = await catalog.enable(
                context.db, context.backing.bell, name, enabled=enabled, by=context.caller.word
            )
        except NomaflowError as error:
            return JobPayload(job=None, errors=mistakes(error))
        return JobPayload(job=as_job(row), errors=[])
