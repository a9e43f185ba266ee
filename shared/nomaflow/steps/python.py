"""The `python` step: call a function of the project's plugins in a child process."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

from pydantic import AliasChoices, Field, field_validator

from nomaflow.errors import StepError
from nomaflow.steps.base import Step, StepResult, StepRunContext
from nomaflow.steps.calls import PythonCall
from nomaflow.steps.counting import counted

CALLABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PythonStep(Step):
    """Call `module:function` with the step's context and keyword arguments."""

    type_name: ClassVar[str] = "python"
    title: ClassVar[str] = "Python function"
    dry_runs: ClassVar[bool] = True

    callable: str = Field(
        max_length=255,
        description="The function, as `module.path:function` under the project's plugins folder.",
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("kwargs", "op_kwargs"),
        description="Keyword arguments; one the function does not take is an error.",
    )
    env: tuple[str, ...] = Field(
        (), description="Names of .env the function may read from os.environ."
    )
    memory_mb: int = Field(1024, ge=64, description="Memory the child process may use, in MB.")
    cpu_seconds: int = Field(
        0, ge=0, description="CPU time the child process may use; 0 means no bound."
    )

    @field_validator("callable")
    @classmethod
    def _shape(cls, value: str) -> str:
        if "${" not in value and not CALLABLE.fullmatch(value):
            raise ValueError(f"write the function as `module.path:function`, got {value!r:.80}")
        return value

    @field_validator("env")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not ENV_NAME.fullmatch(name):
                raise ValueError(
                    f"`env` lists names of .env such as GITHUB_TOKEN, got {name!r:.80}"
                )
        return value

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Call the function; what it returns decides the output (P08)."""
        if not CALLABLE.fullmatch(self.callable):
            raise StepError(
                f"{self.callable!r:.80} is not a function's place; write `module.path:function`",
                retryable=False,
            )
        kwargs = {name: ctx.params.get(name, value) for name, value in self.kwargs.items()}
        returned = await ctx.call_python(
            PythonCall(self.callable, kwargs, self.env, self.memory_mb, self.cpu_seconds)
        )
        result = result_of(self.callable, returned)
        if result.rows_affected is None and result.output.get("rows_affected") is not None:
            said = json.dumps(result.output["rows_affected"], ensure_ascii=False)
            ctx.log.warning(
                f"{self.callable} returned rows_affected = {said:.80}, which is no whole number: "
                "the run counts no rows for this step"
            )
        return result


def result_of(name: str, returned: Any) -> StepResult:
    """What a returned value means: a dict is the output, an int counts rows, None is empty.

    StepError for anything else, and for a dict that JSON cannot hold (P08).
    """
    match returned:
        case None:
            return StepResult()
        case bool():
            raise StepError(
                f"{name} returned {returned}; return a dict, a number of rows, or None",
                retryable=False,
            )
        case int():
            return StepResult(
                {"rows_affected": returned}, f"{counted(returned)} affected", returned
            )
        case dict():
            return _dict_result(name, returned)
        case _:
            kind = type(returned).__name__
            raise StepError(
                f"{name} returned a {kind}; return a dict, a number of rows, or None",
                retryable=False,
            )


def _dict_result(name: str, returned: dict[Any, Any]) -> StepResult:
    for key in returned:
        if not isinstance(key, str):
            raise StepError(
                f"{name} returned a dict with the key {key!r}; keys must be text", retryable=False
            )
    try:
        json.dumps(returned, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StepError(
            f"{name} returned a dict that JSON cannot hold: {error}", retryable=False
        ) from None
    count = returned.get("rows_affected")
    affected = count if isinstance(count, int) and not isinstance(count, bool) else None
    shown = [
        f"{key}: {value}"
        for key, value in returned.items()
        if isinstance(value, int | float | str | bool)
    ]
    return StepResult(returned, " · ".join(shown)[:200], affected)
