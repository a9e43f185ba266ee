"""What history keeps of a step's settings, results and errors: masked, and brief where big."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow import lifecycle
from nomaflow.errors import Failure
from nomaflow_worker import preview

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow.steps.base import StepResult
    from nomaflow_worker.tools import Tools

LONGEST_SUMMARY = 500


class Showing:
    """Takes out the secrets that are known at this moment."""

    def __init__(self, tools: Tools) -> None:
        self._secrets, self._limit = tools.secrets, tools.limits.truncate_bytes

    def brief(self, value: Mapping[str, Any] | None) -> Any:
        """Return a table of settings or output as it may be shown; None as it is."""
        if value is None:
            return None
        return preview.of(self._secrets.masker().value(dict(value)), self._limit)

    def failure(self, error: BaseException) -> Failure:
        """Describe an error."""
        return Failure(**self._secrets.masker().value(Failure.of(error).as_json()))

    def result(self, result: StepResult, settings: Any) -> lifecycle.Result:
        """Return what the step did; its output whole beside the preview of a big one."""
        masker = self._secrets.masker()
        masked = masker.value(result.output)
        shown = masked if result.shown is None else masker.value(dict(result.shown))
        brief = preview.of(shown, self._limit)
        return lifecycle.Result(
            output=brief,
            whole_output=None if brief is masked else masked,
            summary=masker.text(result.summary)[:LONGEST_SUMMARY],
            rows_affected=result.rows_affected,
            input=settings,
            reason=masker.text(result.reason) if result.reason else None,
            watermarks=masker.value(dict(result.watermarks)) or None,
        )
