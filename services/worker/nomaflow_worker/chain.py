"""One claimed run, from its first open step to its last move.

The chain asks `lifecycle` what follows from what happened, writes that one move, and only then
goes on. When the claim is lost it stops and says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import structlog

from nomaflow import dispatch, lifecycle, moves
from nomaflow.errors import ClaimLostError, NomaflowError, StepError
from nomaflow.lifecycle import RunStatus, StepStatus
from nomaflow.steps.base import EarlierStep
from nomaflow_worker import alarms, beginning
from nomaflow_worker.attempt import Attempt, Outcome
from nomaflow_worker.journal import Journal
from nomaflow_worker.lookahead import Lookahead
from nomaflow_worker.record import LostClaimError, Record, UnwritableError
from nomaflow_worker.showing import Showing

if TYPE_CHECKING:
    from nomaflow.job.spec import JobSpec, StepSpec
    from nomaflow.lifecycle import Held, Move, StepState
    from nomaflow.steps.base import StepResult
    from nomaflow.store.claims import Claimed
    from nomaflow_worker.tools import Tools

log = structlog.get_logger(__name__)

STOPPING = "its worker is stopping"
CALL = "call_job"
CALLERS = (CALL, "python")
"""Types whose steps may have started runs that are still in flight when the step is over."""


class Stop(Enum):
    """Why a chain must not go on."""

    ABORT = auto()
    TIME_UP = auto()
    SURRENDER = auto()
    LOST = auto()


class Chain:
    """Executes one run; `stop` and `drain` may be called at any moment from the same loop."""

    def __init__(self, tools: Tools, claimed: Claimed) -> None:
        self.tools, self.claimed = tools, claimed
        self.outputs: dict[str, EarlierStep] = {}
        self.stopping: Stop | None = None
        self.draining = False
        limits = tools.limits
        self.journal = Journal(
            tools.db,
            tools.bell,
            claimed.run_id,
            claimed.held.fence,
            tools.secrets.masker,
            level=claimed.log_level,
            already=claimed.log_lines,
            max_lines=limits.log_max_lines,
            max_bytes=limits.truncate_bytes,
        )
        self.record = Record(tools.db, tools.bell, tools.committer, claimed.held, self.journal)
        self._attempt = Attempt(tools, claimed, self.journal, self.outputs)
        self._showing = Showing(tools)
        self._stop_words = ""
        self._nudged = asyncio.Event()
        self._shown: Any = None
        self._calls = False
        self._log = log.bind(run_id=str(claimed.run_id), job=claimed.job_name)

    @property
    def held(self) -> Held:
        """The run as history holds it."""
        return self.record.held

    def stop(self, why: Stop, words: str = "") -> None:
        """End the chain; the first reason counts, except that a lost claim beats all."""
        if self.stopping is None or why is Stop.LOST:
            self.stopping, self._stop_words = why, words
        self.record.lost = self.record.lost or why is Stop.LOST
        self._attempt.stop()
        self._nudged.set()

    def drain(self) -> None:
        """Hand the rest of the chain back at the next boundary between steps or tries.

        A step that only waits for another run is such a boundary itself.
        """
        self.draining = True
        if self._calls:
            self.stop(Stop.SURRENDER)
        self._nudged.set()

    async def run(self) -> None:
        """Execute until the run is over, handed back, or lost."""
        clock: asyncio.TimerHandle | None = None
        try:
            spec = await beginning.definition(self.tools, self.record, self.claimed)
            left = max(spec.timeout_seconds - self.claimed.elapsed_seconds, 0)
            clock = asyncio.get_running_loop().call_later(
                left, self.stop, Stop.TIME_UP, f"timeout after {spec.timeout_seconds:g} s"
            )
            if (by := self.claimed.abort_requested_by) is not None:
                self.stop(Stop.ABORT, lifecycle.abort_words(by, self.claimed.abort_reason))
            await self._live(spec)
        except LostClaimError:
            self._log.warning("the run is no longer this worker's; nothing more is written")
        except Exception as error:  # noqa: BLE001  nothing may leave a run without an owner
            self._log.exception("the run could not be carried on")
            with contextlib.suppress(LostClaimError, UnwritableError):
                await self.record.write(moves.give_up(self.held, self._showing.failure(error)))
                await self._end_children("its parent run could not be carried on")
        finally:
            if clock is not None:
                clock.cancel()
            await self.journal.stop()

    async def _live(self, spec: JobSpec) -> None:
        marks = await beginning.state(self.tools, self.record, self.claimed, spec)
        self._attempt.state = marks
        self._ahead = Lookahead(self.tools, self.claimed, spec, self.outputs, marks)
        steps = {step.name: step for step in spec.steps}
        if any(s.status in lifecycle.FINAL_STEP for s in self.held.steps):
            self.outputs |= await beginning.remember(self.tools, self.record, self.held.run_id)
        if self.claimed.rescued and self.claimed.opened is None:
            await self._rescue(spec, steps)
        while self.held.status is RunStatus.RUNNING:
            state = self.held.current
            if state is None:
                await self._write(moves.finish(self.held), spec)
            elif self.stopping is not None:
                await self._end(spec, steps[state.name], state)
            elif state.status is StepStatus.RETRYING:
                await self._write(moves.reopen(self.held), spec)
            else:
                await self._one_try(spec, steps[state.name], state)

    # What a try leads to

    async def _one_try(self, spec: JobSpec, step: StepSpec, state: StepState) -> None:
        tries = f"attempt {state.attempt} of {spec.retry_for(step).attempts}"
        self._say("INFO", f"step `{step.name}` started ({step.type}, {tries})", step)
        self._shown = None
        try:
            if not self._ahead.wanted(step):
                self._say("INFO", f"step `{step.name}` skipped: its condition is false", step)
                onward = self._ahead.onward(self.held, step)
                move = moves.skip(self.held, lifecycle.SKIPPED_CONDITION, onward)
                await self._write(move, spec)
                return
            prepared = self._ahead.ready(step, state)
        except (NomaflowError, StepError) as error:
            outcome = Outcome(error=error)
        else:
            self._calls = step.type == CALL
            if self._calls and self.draining:
                self.stop(Stop.SURRENDER)
                return
            outcome = await self._attempt.run(step, state, prepared)
            self._calls = False
        self._shown = self._showing.brief(outcome.shown)
        if isinstance(outcome.error, ClaimLostError):
            self.stop(Stop.LOST)  # frozen for so long that anyone may have claimed the run
        if self.stopping is not None and outcome.result is None:
            return
        await self.journal.tell_progress()
        move = (
            self._failed(spec, step, outcome)
            if outcome.result is None
            else self._succeeded(step, outcome.result)
        )
        await self._write(move, spec)
        if move.status is RunStatus.RUNNING and move.wait_seconds > 0:
            await self._back_off(spec, move.wait_seconds)

    def _succeeded(self, step: StepSpec, result: StepResult) -> Move:
        self.outputs[step.name] = EarlierStep(
            step.name, "succeeded", result.output, result.rows_affected
        )
        done = self._showing.result(result, self._shown)
        words = f" · {done.summary}" if done.summary else ""
        self._say("INFO", f"step `{step.name}` succeeded{words}", step)
        return moves.succeed(self.held, done, self._ahead.onward(self.held, step))

    def _failed(self, spec: JobSpec, step: StepSpec, outcome: Outcome) -> Move:
        error = outcome.error or StepError("the step ended without a result")
        output = error.output if isinstance(error, StepError) else None
        # Also without an output: conditions and functions ask how a step ended.
        self.outputs[step.name] = EarlierStep(step.name, "failed", output or {})
        failure = self._showing.failure(error)
        self._say("ERROR", f"step `{step.name}` failed: {failure.message}", step)
        if failure.traceback:
            self._say("DEBUG", failure.traceback, step)
        move = moves.fail(
            self.held,
            failure,
            spec.retry_for(step),
            shown=self._shown,
            output=self._showing.brief(output),
            continue_on_error=step.continue_on_error,
            onward=self._ahead.onward(self.held, step) if step.continue_on_error else None,
        )
        if move.steps[0].status is StepStatus.RETRYING:
            del self.outputs[step.name]  # its next try is no later step
            self._say("WARNING", f"step `{step.name}`: {move.steps[0].reason}", step)
        return move

    async def _back_off(self, spec: JobSpec, seconds: float) -> None:
        """Wait for the next try here when it is soon; else give the slot back until then."""
        if seconds <= self.tools.limits.hold_wait_seconds and not self.draining:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._nudged.wait()
            if self.stopping is not None or not self.draining:
                return
        state = self.held.current
        reason = f"waiting: {state.reason}" if state and state.reason else "waiting for a retry"
        move = moves.release(self.held, reason, not_before_seconds=seconds)
        await self._write(move, spec)

    # Being stopped, and going on where another was

    async def _end(self, spec: JobSpec, step: StepSpec, state: StepState) -> None:
        """Answer a stop: the run is aborted, handed back, or not ours any more."""
        match self.stopping:
            case Stop.ABORT | Stop.TIME_UP:
                move = moves.abort(self.held, self._stop_words, shown=self._shown)
            case Stop.SURRENDER if step.type == CALL and state.status is StepStatus.RUNNING:
                move = moves.stand_aside(self.held, f"handed back: {STOPPING}")
            case Stop.SURRENDER if state.status is StepStatus.RUNNING:
                repeatable = self._ahead.repeatable(step, state)
                policy = spec.retry_for(step)
                if step.type in CALLERS and not repeatable:
                    await self._end_children(f"step `{step.name}` of its parent run was stopped")
                move = moves.surrender(self.held, policy, repeatable=repeatable, why=STOPPING)
            case Stop.SURRENDER:
                move = moves.release(self.held, f"handed back: {STOPPING}")
            case _:
                raise LostClaimError
        await self._write(move, spec)

    async def _rescue(self, spec: JobSpec, steps: dict[str, StepSpec]) -> None:
        """Go on with the step that a dead worker left running."""
        state = self.held.current
        if state is None or state.status is not StepStatus.RUNNING:
            return
        step = steps[state.name]
        await beginning.end_left_behind(self.tools, self.record, self.held.run_id, state)
        if self.stopping is not None:
            return
        why = "its worker is gone"
        self._say("WARNING", f"step `{step.name}` was interrupted: {why}", step)
        repeatable = self._ahead.repeatable(step, state)
        if step.type in CALLERS and not repeatable:
            await self._end_children(f"step `{step.name}` of its parent run was interrupted")
        move = moves.interrupt(
            self.held,
            spec.retry_for(step),
            repeatable=repeatable,
            why=why,
            worker=self.claimed.left_by,
        )
        await self._write(move, spec)
        if move.status is RunStatus.RUNNING and move.wait_seconds > 0:
            await self._back_off(spec, move.wait_seconds)

    # Small things said often

    async def _write(self, move: Move, spec: JobSpec) -> None:
        if self.draining:
            move = moves.hand_over(move, f"handed back: {STOPPING}")
        if not move.is_final:
            await self.record.write(move)
            return
        said = (move.reason or "").removeprefix(f"{move.status.value}: ")
        level = "ERROR" if move.status is RunStatus.FAILED else "INFO"
        self._say(level, f"run {move.status.value}: {said}".removesuffix(": "), None)
        await self.record.write(move, alarms.on_final(self.tools, self.claimed, spec, move))
        if move.status is not RunStatus.SUCCEEDED and any(s.type in CALLERS for s in spec.steps):
            ended = move.reason or move.status.value
            await self._end_children(f"its parent run {self.claimed.run_id} ended: {ended}")

    async def _end_children(self, why: str) -> None:
        """End the runs that a step of this one started and does not wait for any more."""
        with contextlib.suppress(OSError, TimeoutError, *self.tools.db.Error):
            await dispatch.abort_children(
                self.tools.db, self.tools.bell, self.claimed.run_id, by="nomaflow", reason=why
            )

    def _say(self, level: str, message: str, step: StepSpec | None) -> None:
        self.journal.write(level, message, step.name if step else None)
