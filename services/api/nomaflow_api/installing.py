"""Installing over GraphQL: bootstrap jobs in their order, carried on by whichever API is alive."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import strawberry

from nomaflow import installation
from nomaflow.errors import Code, NomaflowError
from nomaflow.installation import By
from nomaflow.job.spec import SpecErrors
from nomaflow_api.auth import Permission
from nomaflow_api.context import Asked
from nomaflow_api.graph.base import UserError, mistakes
from nomaflow_api.graph.runs import Run, as_run
from nomaflow_api.installer import LOOK_SECONDS

if TYPE_CHECKING:
    from nomaflow_api.context import Context

ANSWER_SECONDS = 5.0
"""So long `installRun` waits for the end; what takes longer is read by `installation`."""


async def _runs(root: installation.Installation, info: Asked) -> list[Run]:
    found = [await info.context.load.runs.find(run.run_id) for run in root.runs]
    return [run for run in map(as_run, found) if run is not None]


@strawberry.type(description="Bootstrap jobs, begun one after the other")
class Installation:
    forced: bool = strawberry.field(description="Also jobs that had succeeded before")
    done: bool = strawberry.field(description="Nothing more will be begun")
    runs: list[Run] = strawberry.field(resolver=_runs, description="What it began, in order")
    remaining: list[str] = strawberry.field(
        resolver=lambda root: list(root.remaining), description="Jobs not begun, in order"
    )


@strawberry.type
class RunListPayload:
    runs: list[Run]
    done: bool = strawberry.field(
        description="false: it goes on; `installation` tells how it stands"
    )
    errors: list[UserError]


async def _installation(info: Asked) -> Installation | None:
    info.context.need(Permission.SEE)
    return cast("Installation | None", await installation.current(info.context.db))


async def _install_run(info: Asked, force: bool | None = False) -> RunListPayload:  # noqa: FBT001, FBT002  an argument of the graph
    context = info.context
    context.need(Permission.RUN)
    caller = context.caller
    by = By(caller.trigger, caller.word, caller.principal.name)
    bell = context.backing.bell
    try:
        begun = await installation.begin(context.db, bell, forced=bool(force), by=by)
    except (NomaflowError, SpecErrors) as error:
        return RunListPayload(runs=[], done=True, errors=mistakes(error))
    context.backing.installer.hint()
    there = await _awaited(context, begun)
    return RunListPayload(runs=await _runs(there, info), done=there.done, errors=_stopped(there))


async def _awaited(context: Context, begun: installation.Installation) -> installation.Installation:
    """Wait a little for its end, so that short installations are answered whole."""
    there = begun
    with suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            while not there.done:
                await asyncio.sleep(LOOK_SECONDS)
                there = await installation.reread(context.db, there)
    return there


def _stopped(there: installation.Installation) -> list[UserError]:
    run = there.stopped_by
    if run is None:
        return []
    left = ", ".join(f"`{name}`" for name in there.remaining[:20]) or "nothing"
    message = f"job `{run.job}` is {run.status}, so the installation ends; not begun: {left}"
    return mistakes(NomaflowError(Code.INVALID_STATE, message))


@strawberry.type
class InstallQueries:
    installation: Installation | None = strawberry.field(
        resolver=_installation, description="The newest installation of the last seven days"
    )


@strawberry.type
class InstallMutations:
    install_run: RunListPayload = strawberry.mutation(
        resolver=_install_run,
        description="Bootstrap jobs by ascending install_step; skips those that succeeded unless "
        "forced; stops at the first failure. Answers after five seconds at the latest and goes on "
        "by itself, also when this program is started anew; asked again meanwhile, it joins.",
    )
