"""A step's settings just before it runs: parameters merged, tokens filled, secrets in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nomaflow.clock import schedule
from nomaflow.errors import NomaflowError, StepError
from nomaflow.job import parameters
from nomaflow.language import template
from nomaflow.steps import registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from nomaflow.job.spec import JobSpec, StepSpec
    from nomaflow.steps.base import EarlierStep, Step, StepLog
    from nomaflow.store.claims import Claimed


# What a step is, not how it runs: who may run one job may not run another function or job by it.
_FIXED = frozenset({"kwargs", "callable", "job"})
_STATEFUL = frozenset({"http_sync", "python"})
"""Step types that look at watermarks without a token in their settings."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A step ready to run, the parameters it sees, and its settings for history (unmasked)."""

    step: Step
    params: Mapping[str, Any]
    shown: Mapping[str, Any]


def prepare(
    claimed: Claimed,
    spec: JobSpec,
    step: StepSpec,
    attempt: int,
    outputs: Mapping[str, EarlierStep],
    env: Mapping[str, str],
    state: Mapping[str, str],
) -> Prepared:
    """Merge (T08), render and check one step; StepError names what is wrong and where."""
    overrides = claimed.overrides
    fire_kwargs = overrides.get("step_kwargs", {}).get(step.name, {})
    fire_params = overrides.get("params", {})
    # A value that this fire replaces is never filled in: its token may be why the last run failed.
    own = {name: {**fire_params, **fire_kwargs}.get(name, v) for name, v in step.kwargs.items()}
    try:
        scope = _scope(claimed, spec, step, attempt, outputs, env, state)
        shared = parameters.resolve({**spec.params, **fire_params}, scope)
        scope = replace(scope, kw=shared) if shared else scope
        merged = parameters.merge(
            shared,
            {},
            template.render(own, scope),
            {name: shared[name] for name in fire_params},
            template.render(fire_kwargs, scope),
        )
        scope = replace(scope, kw=merged) if merged else scope
        kind = registry.step_type(step.type)
        config = {**step.config, **_settings_among(kind, fire_kwargs)}
        if own:
            config["kwargs"] = own
        ready = kind.prepare(config, lambda value: template.render(value, scope))
    except ValidationError as error:
        raise StepError(_sentence(error), retryable=False) from None
    except NomaflowError as error:
        raise StepError(error.message, retryable=False) from None
    shown = ready.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    if step.type == "python":
        shown["kwargs"] = dict(merged)
    return Prepared(ready, merged, shown)


def reads_state(claimed: Claimed, spec: JobSpec) -> bool:
    """Tell whether anything of a run may look at its job's watermarks."""
    if any(step.type in _STATEFUL or "state" in (step.when or "") for step in spec.steps):
        return True
    written = [spec.params, claimed.overrides, *((s.config, s.kwargs) for s in spec.steps)]
    try:
        return bool(template.references(written, "state"))
    except NomaflowError:  # the step that holds it will say so when it runs
        return True


def condition_data(
    claimed: Claimed,
    spec: JobSpec,
    outputs: Mapping[str, EarlierStep],
    state: Mapping[str, str],
) -> dict[str, Any]:
    """What `when` sees: params, earlier steps, the one just before, the run."""
    steps = {
        name: {"status": earlier.status, "output": earlier.output}
        for name, earlier in outputs.items()
    }
    return {
        "params": {**spec.params, **claimed.overrides.get("params", {})},
        "steps": steps,
        "previous_step": next(reversed(steps.values()), None),
        "state": dict(state),
        "run": _run_words(claimed, spec),
    }


def _settings_among(kind: type[Step], fire_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides that are settings of the step's type itself (a copy's batch_size)."""
    return {
        name: value
        for name, value in fire_kwargs.items()
        if name in kind.model_fields and name not in _FIXED
    }


def _scope(
    claimed: Claimed,
    spec: JobSpec,
    step: StepSpec,
    attempt: int,
    outputs: Mapping[str, EarlierStep],
    env: Mapping[str, str],
    state: Mapping[str, str],
) -> template.Scope:
    previous = list(outputs.values())[-1] if outputs else None
    return template.Scope(
        env=env,
        env_lack=_lack(claimed),
        outputs={name: earlier.output for name, earlier in outputs.items()},
        previous=previous.output if previous else None,
        state=state,
        ctx={**_run_words(claimed, spec), "step": step.name, "attempt": attempt},
        now=job_time(claimed, spec),
    )


def environ(
    claimed: Claimed, env: Mapping[str, str], names: Sequence[str], log: StepLog
) -> dict[str, str]:
    """What a child finds in `os.environ` of the `names` that its step lists.

    StepError for a name that a job made through the API may not read (SEC-V01).
    """
    for name in names:
        if name in env:
            continue
        if claimed.reads_listed_env:
            raise StepError(f"`env` names `{name}`: {_lack(claimed)} `{name}`", retryable=False)
        said = f"{_lack(claimed)} `{name}`, which `env` names: the function has none"
        log.warning(said)
    return {name: env[name] for name in names if name in env}


def _lack(claimed: Claimed) -> str:
    """Begin the sentence about a name that this run's definition cannot read."""
    if claimed.reads_listed_env:
        return (
            "a job made through the API reads only the names of .env that NOMAFLOW_API_ENV_ALLOW "
            "lists, and there is none called"
        )
    return template.ENV_LACK


def _run_words(claimed: Claimed, spec: JobSpec) -> dict[str, Any]:
    scheduled = claimed.scheduled_for or claimed.queued_at
    return {
        "run_id": str(claimed.run_id),
        "job_name": claimed.job_name,
        "job_id": claimed.job_name,
        "triggered_by": claimed.triggered_by,
        "scheduled_for": scheduled.isoformat(),
        "started_at": claimed.started_at.isoformat(),
        "dry_run": claimed.dry_run,
        "timezone": _zone_of(claimed, spec),
    }


def _zone_of(claimed: Claimed, spec: JobSpec) -> str:
    for clock in spec.schedules:
        if clock.name == claimed.schedule_name:
            return clock.timezone
    return spec.timezone


def job_time(claimed: Claimed, spec: JobSpec) -> datetime:
    """The run's scheduled time (else its start) in the job's zone: what date words count from."""
    moment = claimed.scheduled_for or claimed.started_at
    return moment.astimezone(schedule.zone(_zone_of(claimed, spec)))


def _sentence(error: ValidationError) -> str:
    parts = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"])
        parts.append(f"`{where}`: {registry.sentence(dict(problem))}")
    return "a setting does not fit: " + "; ".join(parts)
