"""What a job is, whoever declares it: one model for TOML files and for mutations.

`JobSpec.parse` reads either vocabulary of the seeds, `canonical()` gives the one form that history
keeps and that parses back to an equal job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from nomaflow.job import checks, form, words
from nomaflow.job.parts import (
    AlertSpec,
    CatchUp,
    CatchUpLimit,
    CatchUpWindow,
    DependencySpec,
    Jitter,
    LogLevel,
    Name,
    Params,
    Part,
    PresetSpec,
    ScheduleSpec,
    StepSpec,
    Timeout,
)
from nomaflow.job.problems import Problem, SpecErrors, sentence
from nomaflow.job.vocabulary import Reading
from nomaflow.retry import RetryPolicy

__all__ = [
    "AlertSpec",
    "DependencySpec",
    "JobSpec",
    "PresetSpec",
    "Problem",
    "ScheduleSpec",
    "SpecErrors",
    "StepSpec",
]

MOST_STEPS = 200
LARGEST_JOB = 262_144  # characters of JSON, as much as a whole file may have


class JobSpec(Part):
    """A job: a chain of steps, when it runs, and what to do when it goes wrong."""

    name: Name = Field(description="Letters, digits, `-` and `_`; unique. Also `id`.")
    app: Name = Field(
        "_default", description="Groups jobs; in plugins/<app>/jobs.toml it is <app>."
    )
    description: str = Field("", max_length=10_000, description="Words for people.")
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (), max_length=50, description="Labels to search and group by."
    )
    enabled: bool = Field(
        default=True, description="false: clocks do not fire; people and the API still can."
    )
    timezone: str = Field(
        "UTC", description="IANA zone of `schedule` and of date substitutions; default UTC."
    )
    schedules: tuple[ScheduleSpec, ...] = Field(
        (), max_length=50, description="More clocks, each with its own parameters."
    )
    catch_up: CatchUp = Field(
        "none",
        description="What fires of the due times that nobody could fire: none, the last, or all.",
    )
    catch_up_limit: CatchUpLimit = Field(
        10, description='How many due times `catch_up = "all"` makes up for at most, the newest.'
    )
    catch_up_window_minutes: CatchUpWindow | None = Field(
        None,
        description="Older due times are not made up for; default: any age for last, 24 h for all.",
    )
    jitter_seconds: Jitter = Field(
        0, description="Fire up to so much later, each clock always by the same amount."
    )
    calendar: Name | None = Field(
        None, description="A calendar of calendars.toml; when it is closed, due times are skipped."
    )
    depends_on: tuple[DependencySpec, ...] = Field(
        (),
        max_length=50,
        description="Jobs that must have succeeded last, else the run is skipped. Also "
        "`dependencies`.",
    )
    install_step: int | None = Field(
        None, ge=0, le=2**31 - 1, description="Its place among the jobs that an installation runs."
    )
    overlap: Literal["skip", "queue", "allow", "replace"] = Field(
        "skip",
        description="What a fire does while a run is in flight. Also `single_instance`.",
    )
    queue_depth: int = Field(
        1, ge=1, le=1000, description='How many runs may wait when `overlap = "queue"`.'
    )
    lock: Name | None = Field(
        None, description="Jobs that name the same lock never run at the same time."
    )
    worker: Name = Field("default", description="The worker tag that may run it.")
    priority: int = Field(0, ge=-1000, le=1000, description="Higher runs are claimed first.")
    timeout_seconds: Timeout = Field(14_400, description="The longest a whole run may take.")
    log_level: LogLevel = Field("INFO", description="What the run's log keeps; DEBUG adds SQL.")
    params: Params = Field(
        default_factory=dict, description="Shared parameters, `${kw:name}` in every step."
    )
    param_schema: Params | None = Field(
        None, description="JSON Schema of the parameters: types, choices, descriptions."
    )
    retry: RetryPolicy | None = Field(None, description="How often each step is tried.")
    alerts: AlertSpec | None = Field(None, description="Whom to tell what about the runs.")
    presets: tuple[PresetSpec, ...] = Field(
        (), max_length=50, description="Saved ways of running the job."
    )
    steps: tuple[StepSpec, ...] = Field(
        min_length=1, max_length=MOST_STEPS, description="What the job does, in order."
    )

    @classmethod
    def parse(
        cls,
        raw: Mapping[str, Any],
        *,
        where: str = "",
        timezone: str = "UTC",
        step_defaults: Mapping[str, Any] | None = None,
    ) -> JobSpec:
        """Read a job as a person wrote it, in TOML words; SpecErrors lists all that is wrong.

        `where` names the source in the error's text, `timezone` is the zone of a job that names
        none, `step_defaults` is merged under each step that has such a field (J13).
        """
        reading = Reading()
        plain = reading.job(raw, timezone=timezone, defaults=step_defaults or {})
        if plain is None:
            raise SpecErrors(reading.problems, where)
        problems = list(reading.problems)
        text = json.dumps(plain)
        if len(text) > LARGEST_JOB:
            message = f"the job is larger than {LARGEST_JOB // 1024} KB"
            raise SpecErrors([*problems, Problem((), message)], where)
        found = checks.problems(plain)
        try:
            spec = cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            found = [*_of_pydantic(error, plain, reading), *found]
        problems += [Problem(reading.as_written(p.path), p.message, p.code) for p in found]
        if problems:
            raise SpecErrors(_distinct(problems), where)
        return spec

    @classmethod
    def restore(cls, definition: Mapping[str, Any]) -> JobSpec:
        """Return the job of a canonical form that was checked when it was declared.

        Only its shape is looked at: a revision that history keeps stays readable when a zone is
        renamed, a package with a step type is gone, or a later version asks for more.
        """
        plain = Reading().job(definition, timezone="UTC", defaults={})
        return cls.model_validate_json(json.dumps(plain), strict=True)

    def canonical(self) -> dict[str, Any]:
        """Return the job as plain JSON in canonical words; it parses back to an equal job.

        Defaults are left out but for those a reader looks for first: timeouts, retries, the zone.
        """
        # A step's policy lies over the job's, so what it leaves open must stay open.
        retries = [
            step.retry.model_dump(exclude_unset=True) if step.retry else None for step in self.steps
        ]
        whole = self.model_dump(mode="json")
        return form.canonical(whole, self.model_dump(mode="json", exclude_defaults=True), retries)

    def to_toml(self) -> str:
        """Write the job as a `[[jobs]]` table of jobs.toml."""
        return form.to_toml(self.canonical())

    def retry_for(self, step: StepSpec) -> RetryPolicy:
        """Return the policy of a step: its own fields over the job's over one try."""
        policy = self.retry or RetryPolicy()
        if step.retry is None:
            return policy
        own = {name: getattr(step.retry, name) for name in step.retry.model_fields_set}
        return policy.model_copy(update=own)

    def step(self, name: str) -> StepSpec | None:
        """Return the step of that name, if any."""
        return next((step for step in self.steps if step.name == name), None)

    def preset(self, name: str) -> PresetSpec | None:
        """Return the preset of that name, if any."""
        return next((preset for preset in self.presets if preset.name == name), None)

    @property
    def clocks(self) -> tuple[ScheduleSpec, ...]:
        """Every clock of the job: its schedules, and those of its presets (J22)."""
        return self.schedules + tuple(
            ScheduleSpec(
                name=preset.name,
                cron=preset.schedule,
                timezone=preset.timezone or self.timezone,
                preset=preset.name,
            )
            for preset in self.presets
            if preset.schedule is not None
        )

    def fires_when_disabled(self, clock: str) -> bool:
        """Tell whether that clock is a preset's own, which the job's switch does not stop."""
        preset = self.preset(clock)
        return preset is not None and preset.schedule is not None

    @property
    def needs_parameters(self) -> bool:
        """Tell whether a form is worth showing before a run: steps, params or kwargs (T10)."""
        return (
            len(self.steps) > 1
            or bool(self.params or self.param_schema)
            or any(step.kwargs for step in self.steps)
        )


FIELDS: Mapping[str, frozenset[str]] = {
    "job": frozenset(JobSpec.model_fields) | {"schedule", *words.JOB_ALIASES, "single_instance"},
    "schedules": frozenset(ScheduleSpec.model_fields) | {"every"},
    "presets": frozenset(PresetSpec.model_fields),
    "depends_on": frozenset(DependencySpec.model_fields),
    "alerts": frozenset(AlertSpec.model_fields),
    "retry": frozenset(RetryPolicy.model_fields),
    "steps": frozenset(StepSpec.model_fields) - {"config"},
}


def _of_pydantic(
    error: ValidationError, plain: Mapping[str, Any], reading: Reading
) -> list[Problem]:
    found = []
    for one in error.errors(include_url=False):
        path = tuple(str(part) for part in one["loc"])
        if one["type"] == "too_short" and one["input"]:
            continue  # pydantic counts only the entries that are right; the wrong one is told
        tables = [part for part in path[:-1] if part in FIELDS]
        known = FIELDS[tables[-1]] if tables else FIELDS["job"]
        message = sentence({**one, "loc": reading.as_written(path)}, sorted(known))
        if path[0] == "steps" and len(path) > 2:  # noqa: PLR2004  a field inside a step
            name = plain["steps"][int(path[1])].get("name", f"number {int(path[1]) + 1}")
            message = f"step `{name}`: {message}"
        found.append(Problem(path, message))
    return found


def _distinct(problems: list[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
