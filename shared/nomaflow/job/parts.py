"""The parts of a job: its clocks, presets, alerts, steps, and the jobs it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nomaflow.retry import RetryPolicy

LONGEST_TIMEOUT = 30 * 86_400

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Timeout = Annotated[float, Field(ge=0.1, le=LONGEST_TIMEOUT)]
Name = Annotated[str, Field(min_length=1, max_length=128)]
CatchUp = Literal["none", "last", "all"]
CatchUpLimit = Annotated[int, Field(ge=1, le=1000)]
CatchUpWindow = Annotated[float, Field(gt=0, le=366 * 1440)]
Jitter = Annotated[float, Field(ge=0, le=3600)]
Params = dict[str, Any]


class Part(BaseModel):
    """Frozen, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScheduleSpec(Part):
    """A clock of a job, with its own parameters."""

    name: Name = Field(description="Unique in the job; the short form `schedule` is `default`.")
    cron: str | None = Field(
        None, description="A cron expression of 5 fields, or 6 with seconds last, or @daily ..."
    )
    every_seconds: float | None = Field(
        None, description="Instead of `cron`: an interval such as 10s, 5m, 1h, 1d."
    )
    timezone: str = Field(
        "UTC", description="The IANA zone of the cron expression; default: the job's timezone."
    )
    enabled: bool = Field(default=True, description="false: this clock does not fire.")
    params: Params = Field(
        default_factory=dict, description="Parameters of the runs that this clock starts."
    )
    fire_on_start: bool = Field(
        default=False, description="Fire at once when the schedule is first seen."
    )
    max_fires: int = Field(0, ge=0, le=2**31 - 1, description="Stop after so many fires; 0: never.")
    preset: Name | None = Field(
        None, description="The preset whose parameters and switches lie under this clock's."
    )
    catch_up: CatchUp | None = Field(None, description="Instead of the job's `catch_up`.")
    catch_up_limit: CatchUpLimit | None = Field(
        None, description="Instead of the job's `catch_up_limit`."
    )
    catch_up_window_minutes: CatchUpWindow | None = Field(
        None, description="Instead of the job's `catch_up_window_minutes`."
    )
    jitter_seconds: Jitter | None = Field(
        None, description="Instead of the job's `jitter_seconds`."
    )
    calendar: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Instead of the job's `calendar`; an empty text is no calendar."
    )


class DependencySpec(Part):
    """Another job that must have succeeded before this one may run."""

    job: Name = Field(description="The other job's name.")
    since: Name | None = Field(
        None,
        description="Only a success counts that is not older: `today`, or a time such as 24h.",
    )
    by: Name | None = Field(
        None,
        description="A due time waits for it, until this time of day (09:00) or this long (30m).",
    )


class PresetSpec(Part):
    """A saved way of running the job: parameters, kwargs of steps, steps switched on or off."""

    name: Name = Field(description="Unique in the job.")
    params: Params = Field(default_factory=dict, description="Parameters over the job's.")
    kwargs: dict[str, Params] = Field(
        default_factory=dict, description="Keyword arguments by step name."
    )
    steps: dict[str, bool] = Field(
        default_factory=dict, description="Steps to switch on or off, by name."
    )
    log_level: LogLevel | None = Field(None, description="Log level of these runs.")
    schedule: str | None = Field(
        None,
        description="The preset's own cron; it fires even when the job is disabled.",
    )
    timezone: str | None = Field(
        None, description="The IANA zone of `schedule`; default: the job's timezone."
    )


class AlertSpec(Part):
    """Whom to tell what about the job's runs."""

    on_failure: bool = Field(
        default=True, description="A run failed, after its last retry; true once `alerts` exists."
    )
    on_long_run_minutes: float | None = Field(
        None, gt=0, le=44_640, description="Warn once when a run takes longer; the run goes on."
    )
    recipients: tuple[Name, ...] = Field(
        (),
        max_length=50,
        description="Channels of alerts.toml, `#channel`, addresses; empty: the default channel.",
    )


class StepSpec(Part):
    """A link of the chain: what all steps share, and `config`, the settings of its type."""

    name: Name = Field(description="Unique in the job; letters, digits, spaces, `-` and `_`.")
    type: Name = Field(description="What kind of step it is.")
    enabled: bool = Field(default=True, description="false: recorded as skipped, the run goes on.")
    timeout_seconds: Timeout = Field(
        3600, description="The longest one attempt may take. Also `timeout`."
    )
    retry: RetryPolicy | None = Field(
        None, description="Fields that differ from the job's retry policy."
    )
    when: str | None = Field(
        None,
        min_length=1,
        description="JMESPath expression; unless it is true the step is skipped. Also `condition`.",
    )
    continue_on_error: bool = Field(
        default=False, description="true: a failure makes the run partial and later steps run."
    )
    on_interrupt: Literal["retry", "fail"] | None = Field(
        None,
        description="When a worker dies meanwhile: repeat the step or fail; default by type.",
    )
    config: Params = Field(
        default_factory=dict, description="The fields of the step's type, substitutions unrendered."
    )

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The step's own keyword arguments, over the job's parameters."""
        return self.config.get("kwargs") or {}
