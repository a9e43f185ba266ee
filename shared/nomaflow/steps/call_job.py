"""The `call_job` step: run another job as a child of this run, and wait for it (J27)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from nomaflow.errors import StepError
from nomaflow.language import template
from nomaflow.steps.base import Interrupt, Step, StepResult, StepRunContext
from nomaflow.steps.calls import ChildEnd, JobCall
from nomaflow.steps.counting import counted

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


class CallJobStep(Step):
    """Run another job with its own history, and go on with what it put out."""

    type_name: ClassVar[str] = "call_job"
    title: ClassVar[str] = "Another job"
    dry_runs: ClassVar[bool] = True

    job: str = Field(description="The job to run; it must exist when the step runs.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="Parameters over the ones that job declares."
    )

    @field_validator("job")
    @classmethod
    def _named(cls, value: str) -> str:
        if "${" not in value and not _NAME.fullmatch(value):
            raise ValueError(f"write the name of a job, got {value!r:.80}")
        return value

    @field_validator("params")
    @classmethod
    def _no_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not template.problems(value) and (names := template.references(value, "env")):
            raise ValueError(
                f"a run's parameters may not name secrets: let that job read "
                f"`${{env:{min(names)[0]}}}` itself"
            )
        return value

    @classmethod
    def prepare(cls, config: Mapping[str, Any], render: Callable[[Any], Any]) -> CallJobStep:
        """Render the settings; parameters become literal for the child (rendered once)."""
        rendered = {key: render(value) for key, value in config.items()}
        if "params" in rendered:
            rendered["params"] = template.escape(rendered["params"])
        return cls.model_validate(rendered)

    def interrupt_default(self) -> Interrupt:
        """The child goes on when the parent's worker dies, and is found again."""
        return "retry"

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Wait for the child; StepError unless it succeeded, or is partial by its own will."""
        end = await ctx.call_job(JobCall(self.job, self.params))
        refuse_failed(self.job, end)
        rows = "" if end.rows_affected is None else f" · {counted(end.rows_affected)}"
        undone = f"called job `{self.job}`, whose run {end.run_id} is partial"
        return StepResult(
            output_of(self.job, end),
            f"{self.job}: {end.status}{rows}",
            end.rows_affected,
            reason=undone if end.status == "partial" else None,
        )


def output_of(job: str, end: ChildEnd) -> dict[str, Any]:
    """Say how a child ended, for who called it."""
    return {
        "job": job,
        "run_id": str(end.run_id),
        "status": end.status,
        "reason": end.reason,
        "rows_affected": end.rows_affected,
        "output": dict(end.output),
    }


def refuse_failed(job: str, end: ChildEnd) -> None:
    """Raise StepError for a child that failed, was aborted, or might not run."""
    if end.status not in _BECAME:
        return
    why = f": {end.reason}" if end.reason else ""
    raise StepError(
        f"run {end.run_id} of job `{job}` {_BECAME[end.status]}{why}",
        retryable=end.status != "aborted",  # whoever ended it did not want it again
        output=output_of(job, end),
    )


_BECAME = {"failed": "failed", "aborted": "was aborted", "skipped": "did not run"}
