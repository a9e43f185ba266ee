"""Who wants a run and what it is born with: the definition, and what this one fire adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from nomaflow import lifecycle
from nomaflow.errors import Code, NomaflowError
from nomaflow.job import parameters
from nomaflow.job.problems import SpecErrors
from nomaflow.lifecycle import RunStatus
from nomaflow.store.births import NewRun, NewStep

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.job.spec import JobSpec
    from nomaflow.store.schedules import ScheduleRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Someone wants a job to run now; `triggered_by` is the exact word of history (T01)."""

    job: str
    trigger: str
    triggered_by: str
    principal: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    step_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    step_enabled: Mapping[str, bool] = field(default_factory=dict)
    preset: str | None = None
    log_level: str | None = None
    dry_run: bool = False
    idempotency_key: str | None = None
    may_edit: bool = True
    """Whether whoever asks might change the job itself, and so what its steps do in this run."""
    parent_run_id: UUID | None = None
    detached: bool = False
    """The parent does not wait for it, and its end is not the parent's."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one fire adds to the definition: its clock's, its preset's and its caller's words."""

    params: Mapping[str, Any] = field(default_factory=dict)
    step_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    step_enabled: Mapping[str, bool] = field(default_factory=dict)
    log_level: str | None = None
    preset: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The run's `overrides`: only what differs from the definition (T09)."""
        words = {
            "params": dict(self.params),
            "step_kwargs": {k: dict(v) for k, v in self.step_kwargs.items()},
            "step_enabled": dict(self.step_enabled),
            "preset": self.preset,
            "log_level": self.log_level,
        }
        return {k: v for k, v in words.items() if v}


def wishes(spec: JobSpec, request: Request) -> Wishes:
    """Check what a caller asks for and lay it over the preset it names.

    Raises SpecErrors for values that do not fit (T07), NOT_FOUND for an unknown preset.
    """
    preset = spec.preset(request.preset) if request.preset else None
    problems = parameters.validate_overrides(
        spec,
        request.params,
        request.step_kwargs,
        request.step_enabled,
        preset,
        may_edit=request.may_edit,
    )
    if problems:
        raise SpecErrors(problems)
    asked = Wishes(
        request.params, request.step_kwargs, request.step_enabled, request.log_level, None
    )
    if request.preset is None:
        return asked
    if preset is None:
        known = ", ".join(f"`{p.name}`" for p in spec.presets) or "none"
        raise NomaflowError(
            Code.NOT_FOUND,
            f"job `{spec.name}` has no preset `{request.preset}`; it has {known}",
            ("preset",),
        )
    params, kwargs, enabled = parameters.with_preset(
        preset, request.params, request.step_kwargs, request.step_enabled
    )
    return Wishes(params, kwargs, enabled, request.log_level or preset.log_level, preset.name)


def wishes_of_clock(spec: JobSpec, clock: ScheduleRow) -> Wishes:
    """What a schedule adds: its parameters over those of the preset it names."""
    preset = spec.preset(clock.preset) if clock.preset else None
    if preset is None:
        return Wishes(params=clock.params)
    params, kwargs, enabled = parameters.with_preset(preset, clock.params, {}, {})
    return Wishes(params, kwargs, enabled, preset.log_level, preset.name)


class Named(Protocol):
    """What a run takes over from its job, besides the definition."""

    @property
    def id(self) -> UUID: ...

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> int: ...


def of(job: Named, spec: JobSpec, asked: Wishes, **facts: Any) -> NewRun:
    """Return the run as it will be written; steps switched off are recorded as skipped (X16)."""
    return NewRun(
        job_name=job.name,
        job_id=job.id,
        job_revision=job.revision,
        params=parameters.coerce({**spec.params, **asked.params}, parameters.schema_of(spec)),
        overrides=asked.as_json(),
        log_level=asked.log_level or spec.log_level,
        worker_tag=spec.worker,
        priority=spec.priority,
        steps=tuple(
            NewStep(
                step.name,
                step.type,
                None
                if asked.step_enabled.get(step.name, step.enabled)
                else lifecycle.SKIPPED_DISABLED,
            )
            for step in spec.steps
        ),
        **facts,
    )


def skipped(born: NewRun, reason: str) -> NewRun:
    """Return the same run as one that never runs: a row with a reason and no steps (S13)."""
    return replace(born, status=RunStatus.SKIPPED, reason=reason, steps=())
