"""What a plugin's function may ask for by the mere name of a parameter (the second vocabulary)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from nomaflow.step_context import EarlierStep, StepContext


class Connectors(Mapping[str, Any]):
    """`connectors["ops-db"]` is `ctx.get_connector("ops-db")`."""

    def __init__(self, ctx: StepContext, names: Collection[str]) -> None:
        self._ctx = ctx
        self._names = names

    def __getitem__(self, name: str) -> Any:
        return self._ctx.get_connector(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def offers(
    ctx: StepContext,
    *,
    kwargs: Mapping[str, Any],
    connectors: Collection[str],
    last_step: EarlierStep | None,
) -> dict[str, Callable[[], Any]]:
    """A way to each value, by name; `last_step` is the one just before, None at the first."""
    by_name = Connectors(ctx, connectors)
    return {
        "connectors": lambda: by_name,
        "pools": lambda: by_name,
        "params": lambda: ctx.params,
        "settings": lambda: _settings(ctx),
        "step_kwargs": lambda: kwargs,
        "previous_step": lambda: last_step,
        "logger": lambda: ctx.log,
        "run_id": lambda: ctx.run_id,
        "job_id": lambda: ctx.job_id,
        "step_name": lambda: ctx.step_name,
        "session_user": lambda: ctx.session_user,
        "dry_run": lambda: ctx.dry_run,
    }


def _settings(ctx: StepContext) -> Mapping[str, Any]:
    """The facts of the run as one table, for functions that want it whole."""
    return MappingProxyType(
        {
            "run_id": ctx.run_id,
            "job_id": ctx.job_id,
            "step_name": ctx.step_name,
            "attempt": ctx.attempt,
            "trigger": ctx.trigger,
            "triggered_by": ctx.triggered_by,
            "session_user": ctx.session_user,
            "scheduled_for": ctx.scheduled_for,
            "dry_run": ctx.dry_run,
            "log_level": ctx.log_level,
        }
    )
