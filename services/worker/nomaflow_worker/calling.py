"""A step that calls another job: the child run is born once for each try, waited for, and ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from nomaflow import dispatch
from nomaflow.birth import Request
from nomaflow.errors import Code, NomaflowError, StepError
from nomaflow.job.problems import SpecErrors
from nomaflow.steps.calls import ChildEnd
from nomaflow.store import family

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from nomaflow.dispatch import Started
    from nomaflow.steps.base import StepLog
    from nomaflow.steps.calls import JobCall
    from nomaflow.store.claims import Claimed
    from nomaflow_worker.keeping import Keeper
    from nomaflow_worker.tools import Tools


class Calling:
    """The calls of one try of one step; `in_process` when a python child waits for them."""

    def __init__(
        self,
        tools: Tools,
        claimed: Claimed,
        position: int,
        attempt: int,
        keeper: Keeper,
        *,
        in_process: bool = False,
    ) -> None:
        self._tools, self._claimed = tools, claimed
        self._position, self._attempt, self._keeper = position, attempt, keeper
        self._in_process = in_process

    async def whole(self, call: JobCall, log: StepLog, stopped: Callable[[], bool]) -> ChildEnd:
        """Start the child, or find the one that this try started before, and wait for its end.

        When the step is cancelled for its own timeout the child is ended; when the run is stopped
        (`stopped` says so) it is left: an abort has found it already, and a run that goes on
        elsewhere finds it again.
        """
        self._refuse_secrets(call)
        # Whole even when this step is told to stop: a child born unseen would be nobody's.
        starting = asyncio.create_task(self._start(call))
        try:
            started = await asyncio.shield(starting)
            did = "started" if started.created else "waits on for"
            said = f"{did} run {started.run_id} of job `{call.job}`"
            log.info(said)
            await self._tools.children.ended(
                self._tools.db,
                started.run_id,
                self._claimed.run_id,
                in_process=self._in_process,
            )
        except asyncio.CancelledError:
            await asyncio.wait({starting}, timeout=1)
            starting.cancel()
            if not stopped():
                await self._end(f"its parent run {self._claimed.run_id} no longer waits for it")
            raise
        return await self._end_of(started.run_id, call.job)

    async def begin(self, call: JobCall, log: StepLog) -> ChildEnd:
        """Start a run that nobody waits for, or find the one that this try started before."""
        self._refuse_secrets(call)
        started = await asyncio.shield(asyncio.create_task(self._start(call)))
        said = f"started run {started.run_id} of job `{call.job}`, and does not wait for it"
        log.info(said)
        return ChildEnd(started.run_id, started.status.value, started.reason, None, {})

    async def rehearse(self, call: JobCall) -> None:
        """Refuse what cannot be started, and start nothing."""
        self._refuse_secrets(call)
        try:
            await self._keeper.insist(
                lambda: dispatch.rehearse(self._tools.db, self._request(call))
            )
        except (NomaflowError, SpecErrors) as error:
            raise StepError(str(error), retryable=False) from None

    async def _start(self, call: JobCall) -> Started:
        """Give birth, or find what an answer that was lost had given birth to."""
        tools, request = self._tools, self._request(call)
        try:
            return await self._keeper.insist(lambda: dispatch.start(tools.db, tools.bell, request))
        except NomaflowError as error:
            raise StepError(error.message, retryable=error.code is Code.BUSY) from None
        except SpecErrors as error:
            raise StepError(str(error), retryable=False) from None

    def _request(self, call: JobCall) -> Request:
        run = self._claimed
        mark = f":{call.mark}" if call.mark else ""
        return Request(
            job=call.job,
            trigger="call_job",
            triggered_by=f"call_job:{run.job_name}@{run.run_id}",
            principal=run.principal,
            params=call.params,
            log_level="DEBUG" if run.log_level == "DEBUG" else None,
            dry_run=run.dry_run,
            idempotency_key=f"call_job:{run.run_id}:{self._position}:{self._attempt}{mark}",
            parent_run_id=run.run_id,
            detached=call.detached,
        )

    async def _end_of(self, run_id: UUID, job: str) -> ChildEnd:
        end = await self._keeper.insist(lambda: family.end_of(self._tools.db, run_id))
        if end is None:
            raise StepError(f"run {run_id} of job `{job}` was deleted before its end was read")
        return ChildEnd(run_id, end.status, end.reason, end.rows_affected, end.output)

    async def _end(self, why: str) -> None:
        tools = self._tools
        with contextlib.suppress(OSError, TimeoutError, *tools.db.Error):
            await dispatch.abort_children(
                tools.db, tools.bell, self._claimed.run_id, by="nomaflow", reason=why
            )

    def _refuse_secrets(self, call: JobCall) -> None:
        if self._tools.secrets.masker().value(call.params) != call.params:
            raise StepError(
                f"a parameter for job `{call.job}` holds the value of a secret, which would stay "
                "in its history: let that job read `${env:NAME}` itself",
                retryable=False,
            )
