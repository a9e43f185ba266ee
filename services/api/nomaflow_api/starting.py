"""One wish to run a job, or a run again, however it came in: its shape is checked here, no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nomaflow import dispatch, replay
from nomaflow.birth import Request
from nomaflow.dispatch import Started
from nomaflow.errors import Code
from nomaflow.job.spec import Problem, SpecErrors
from nomaflow.replay import Again
from nomaflow_api.auth import Permission

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow_api.auth import Caller
    from nomaflow_api.backing import Backing

LONGEST_KEY = 200


async def start(backing: Backing, caller: Caller, job: str, wish: Mapping[str, Any]) -> Started:
    """Start a run of `job` as wished.

    A wish may hold params, step_kwargs, step_enabled, preset, log_level, dry_run and
    idempotency_key. Raises SpecErrors for wrong shapes and what `dispatch.start` raises.
    """
    problems = _shape(wish)
    if problems:
        raise SpecErrors(problems)
    return await dispatch.start(
        backing.db,
        backing.bell,
        Request(
            job=job,
            trigger=caller.trigger,
            triggered_by=caller.word,
            principal=caller.principal.name,
            params=wish.get("params") or {},
            step_kwargs=wish.get("step_kwargs") or {},
            step_enabled=wish.get("step_enabled") or {},
            preset=wish.get("preset"),
            log_level=wish.get("log_level"),
            dry_run=bool(wish.get("dry_run")),
            idempotency_key=wish.get("idempotency_key"),
            may_edit=caller.may(Permission.EDIT),
        ),
    )


async def again(backing: Backing, caller: Caller, run_id: UUID, wish: Mapping[str, Any]) -> Started:
    """Run an earlier run again as wished.

    A wish may hold from_step, params, step_kwargs, step_enabled, log_level and dry_run. Raises
    SpecErrors for wrong shapes and what `replay.start` raises.
    """
    problems = _shape(wish)
    if problems:
        raise SpecErrors(problems)
    return await replay.start(
        backing.db,
        backing.bell,
        Again(
            run_id=run_id,
            triggered_by=caller.word,
            principal=caller.principal.name,
            from_step=wish.get("from_step"),
            params=wish.get("params") or {},
            step_kwargs=wish.get("step_kwargs") or {},
            step_enabled=wish.get("step_enabled") or {},
            log_level=wish.get("log_level"),
            dry_run=wish.get("dry_run"),
            may_edit=caller.may(Permission.EDIT),
        ),
    )


def _shape(wish: Mapping[str, Any]) -> list[Problem]:
    found: list[Problem] = []
    for name in ("params", "step_kwargs", "step_enabled"):
        value = wish.get(name)
        if value is not None and not isinstance(value, Mapping):
            found.append(_wrong(name, "an object of names and values", value))
    for step, kwargs in _items(wish.get("step_kwargs")):
        if not isinstance(kwargs, Mapping):
            found.append(_wrong(("step_kwargs", step), "an object of names and values", kwargs))
    for step, enabled in _items(wish.get("step_enabled")):
        if not isinstance(enabled, bool):
            found.append(_wrong(("step_enabled", step), "true or false", enabled))
    key = wish.get("idempotency_key")
    if key is not None and not 1 <= len(key) <= LONGEST_KEY:
        message = f"must be text of 1 to {LONGEST_KEY} characters"
        found.append(Problem(("idempotency_key",), f"`idempotency_key` {message}"))
    return found


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _wrong(name: str | tuple[str, str], wanted: str, value: Any) -> Problem:
    path = (name,) if isinstance(name, str) else name
    return Problem(
        path, f"`{'.'.join(path)}` must be {wanted}, not {type(value).__name__}", Code.INVALID
    )
