"""One try of one step: prepared, bounded in time, and turned into an outcome whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from nomaflow.errors import StepError
from nomaflow.in_force.known_connectors import names_in
from nomaflow.store import logs
from nomaflow_worker.context import Context
from nomaflow_worker.showing import Showing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow.job.spec import StepSpec
    from nomaflow.lifecycle import StepState
    from nomaflow.steps.base import EarlierStep, StepResult
    from nomaflow.store.claims import Claimed
    from nomaflow_worker.journal import Journal
    from nomaflow_worker.rendering import Prepared
    from nomaflow_worker.tools import Tools

log = structlog.get_logger(__name__)

STOP_GRACE_SECONDS = 1.5
"""A step that has not ended so long after it was told to is left behind: its run goes on."""
INPUT_SHOWN_AFTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a try: a result, an error, or neither when it was stopped from outside."""

    result: StepResult | None = None
    error: BaseException | None = None
    shown: Mapping[str, Any] | None = None
    """The settings it ran with, for history; not masked yet."""


def _tell(awaited: asyncio.Future[None] | None) -> None:
    if awaited is not None and not awaited.done():
        awaited.set_result(None)


class Attempt:
    """Runs one try as a task of its own, so that `stop` ends the step and not its chain."""

    def __init__(
        self,
        tools: Tools,
        claimed: Claimed,
        journal: Journal,
        outputs: Mapping[str, EarlierStep],
    ) -> None:
        self._tools, self._claimed, self._journal = tools, claimed, journal
        self._outputs = outputs
        self.state: Mapping[str, str] = {}
        """The job's watermarks as they were when the chain began."""
        self._task: asyncio.Task[Outcome] | None = None
        self._over: asyncio.Future[None] | None = None
        """Done when the step has ended, or has to be left behind."""
        self._left_behind: set[asyncio.Task[Outcome]] = set()
        self._context: Context | None = None
        self._noting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle

    def stop(self) -> None:
        """End the step: its context says so, its task is cancelled."""
        if self._context is not None:
            self._context.cancel()
        if self._task is not None and self._over is not None:
            self._task.cancel()
            asyncio.get_running_loop().call_later(STOP_GRACE_SECONDS, _tell, self._over)

    async def run(self, step: StepSpec, state: StepState, prepared: Prepared) -> Outcome:
        """Run the step once; never raises for what the step does, and never waits in vain."""
        loop = asyncio.get_running_loop()
        over = self._over = loop.create_future()
        task = self._task = asyncio.create_task(self._run(step, state, prepared), name=step.name)
        task.add_done_callback(lambda _: _tell(over))
        self._timer = loop.call_later(
            INPUT_SHOWN_AFTER_SECONDS, self._take_time, step, state, prepared
        )
        try:
            await over
        finally:
            self._task = None
            self._timer.cancel()
        if task.done():
            return Outcome(shown=prepared.shown) if task.cancelled() else task.result()
        return self._leave_behind(task, step, prepared)

    def _leave_behind(
        self, task: asyncio.Task[Outcome], step: StepSpec, prepared: Prepared
    ) -> Outcome:
        """Go on without a step that ignores its cancellation; a type's fault, said as such."""
        log.error("a step ignores its cancellation", step=step.name, type=step.type)
        self._left_behind.add(task)
        task.add_done_callback(self._left_behind.discard)
        task.cancel()
        late = StepError(f"timeout after {step.timeout_seconds:g} s", category="timeout")
        return Outcome(error=late, shown=prepared.shown)

    async def _run(self, step: StepSpec, state: StepState, prepared: Prepared) -> Outcome:
        shown = prepared.shown
        self._context = Context(
            self._tools,
            self._claimed,
            self._journal,
            prepared,
            step=step.name,
            position=state.position,
            attempt=state.attempt,
            outputs=self._outputs,
            timeout_seconds=step.timeout_seconds,
            policy=self._tools.http_policy(self._claimed),
            state=self.state,
        )
        limit = asyncio.timeout(step.timeout_seconds)
        try:
            async with limit:
                await self._tools.connections.look(self._tools.db, names_in(shown))
                result = await prepared.step.carry_out(self._context)
            marks = {**result.watermarks, **self._context.proposed}
            if self._tools.secrets.masker().value(marks) != marks:
                raise StepError(
                    f"a watermark of step `{step.name}` holds the value of a secret, which would "
                    "stay in history",
                    retryable=False,
                )
            if marks and self._claimed.dry_run:
                moved = ", ".join(f"{name} to {value}" for name, value in marks.items())
                said = f"would move the watermarks: {moved}"
                self._context.log.info(said)
                marks = {}
            if marks != result.watermarks:
                result = replace(result, watermarks=marks)
            return Outcome(result=result, shown=shown)
        except asyncio.CancelledError:
            return Outcome(shown=shown)
        except TimeoutError as error:
            late = StepError(f"timeout after {step.timeout_seconds:g} s", category="timeout")
            return Outcome(error=late if limit.expired() else error, shown=shown)
        except Exception as error:  # noqa: BLE001  a step's failure is a fact, not our fault
            return Outcome(error=error, shown=shown)
        finally:
            context, self._context = self._context, None
            await context.close()

    def _take_time(self, step: StepSpec, state: StepState, prepared: Prepared) -> None:
        """Show the settings of a step that takes its time, and wait on until it is overdue."""
        self._noting = asyncio.create_task(self._write_input(state.position, prepared.shown))
        left = step.timeout_seconds + STOP_GRACE_SECONDS - INPUT_SHOWN_AFTER_SECONDS
        self._timer = asyncio.get_running_loop().call_later(left, _tell, self._over)

    async def _write_input(self, position: int, shown: Mapping[str, Any]) -> None:
        tools = self._tools
        brief = Showing(tools).brief(shown)
        with contextlib.suppress(OSError, TimeoutError, *tools.db.Error):
            await logs.note(
                tools.db,
                self._claimed.run_id,
                self._claimed.held.fence,
                position,
                shown_input=brief,
            )
