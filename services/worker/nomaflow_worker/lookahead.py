"""What comes next in a chain: conditions asked, the next step made ready before it is opened.

Looking ahead lets one move close a step and open the next with its settings already shown, so a
chain of n steps costs n + 2 commits and a step that is passed over is never seen running.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nomaflow import lifecycle
from nomaflow.errors import NomaflowError, StepError
from nomaflow.language import expression
from nomaflow.lifecycle import Onward
from nomaflow_worker import rendering
from nomaflow_worker.showing import Showing

if TYPE_CHECKING:
    from nomaflow.job.spec import JobSpec, StepSpec
    from nomaflow.lifecycle import Held, StepState
    from nomaflow.steps.base import EarlierStep
    from nomaflow.store.claims import Claimed
    from nomaflow_worker.tools import Tools


class Lookahead:
    """Makes the steps of one run ready; `outputs` grows as the chain goes on."""

    def __init__(
        self,
        tools: Tools,
        claimed: Claimed,
        spec: JobSpec,
        outputs: Mapping[str, EarlierStep],
        state: Mapping[str, str],
    ) -> None:
        self._tools, self._claimed, self._spec = tools, claimed, spec
        self._outputs, self._state = outputs, state
        self._showing = Showing(tools)
        self._ready: tuple[int, rendering.Prepared] | None = None

    def onward(self, held: Held, after: StepSpec) -> Onward:
        """Pass over steps whose condition is false and name the next to open, with its input."""
        states = {state.name: state for state in held.steps}
        skips: list[tuple[int, str]] = []
        for step in self._spec.steps:
            state = states[step.name]
            earlier = state.position <= states[after.name].position
            if earlier or state.status in lifecycle.FINAL_STEP:
                continue
            try:
                if not self.wanted(step):
                    skips.append((state.position, lifecycle.SKIPPED_CONDITION))
                    continue
                prepared = self.prepare(step, 1)
            except (NomaflowError, StepError):  # the step itself will say so when it runs
                return Onward(tuple(skips), state.position)
            self._ready = (state.position, prepared)
            return Onward(tuple(skips), state.position, self._showing.brief(prepared.shown))
        return Onward(tuple(skips))

    def ready(self, step: StepSpec, state: StepState) -> rendering.Prepared:
        """The step as `onward` made it ready a moment ago; a later try is made ready afresh."""
        kept, self._ready = self._ready, None
        if kept is not None and kept[0] == state.position and state.tries == 1:
            return kept[1]
        return self.prepare(step, state.attempt)

    def wanted(self, step: StepSpec) -> bool:
        """Ask the step's condition; a step without one is always wanted."""
        if step.when is None:
            return True
        data = rendering.condition_data(self._claimed, self._spec, self._outputs, self._state)
        return expression.compile(step.when).is_true(data)

    def repeatable(self, step: StepSpec, state: StepState) -> bool:
        """Whether an interrupted try may simply be made again: the job's word, else the type's."""
        if step.on_interrupt is not None:
            return step.on_interrupt == "retry"
        try:
            return self.prepare(step, state.attempt).step.interrupt_default() == "retry"
        except (NomaflowError, StepError):
            return False

    def prepare(self, step: StepSpec, attempt: int) -> rendering.Prepared:
        """Merge and render one step for one try."""
        env = self._tools.env_for(self._claimed)
        return rendering.prepare(
            self._claimed, self._spec, step, attempt, self._outputs, env, self._state
        )
