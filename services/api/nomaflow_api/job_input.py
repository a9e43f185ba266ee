"""A job as clients declare it, and the same in the words of TOML, which one validator reads."""

from __future__ import annotations

from enum import Enum
from typing import Any

import strawberry

from nomaflow_api.context import ABSENT
from nomaflow_api.graph.enums import CatchUpPolicy, LogLevel, OverlapPolicy
from nomaflow_api.graph.scalars import Json


@strawberry.input
class RetryInput:
    attempts: int | None = ABSENT
    backoff: str | None = ABSENT
    base_seconds: float | None = ABSENT
    max_seconds: float | None = ABSENT
    jitter: bool | None = ABSENT
    retry_on: list[str] | None = ABSENT
    no_retry_statuses: list[int] | None = ABSENT


@strawberry.input
class ScheduleInput:
    name: str | None = ABSENT
    cron: str | None = ABSENT
    every_seconds: float | None = ABSENT
    fire_on_start: bool | None = ABSENT
    max_fires: int | None = ABSENT
    timezone: str | None = ABSENT
    enabled: bool | None = ABSENT
    params: Json | None = ABSENT
    catch_up: CatchUpPolicy | None = ABSENT
    catch_up_limit: int | None = ABSENT
    catch_up_window_minutes: int | None = ABSENT
    jitter_seconds: float | None = ABSENT
    calendar: str | None = strawberry.field(
        default=ABSENT, description="Instead of the job's; an empty text is no calendar"
    )
    preset: str | None = ABSENT


@strawberry.input
class DependencyInput:
    job: str
    since: str | None = strawberry.field(
        default=ABSENT, description="Only a success counts that is from `today`, or not older"
    )
    by: str | None = strawberry.field(
        default=ABSENT, description="Until when a due time waits: `09:00`, or `30m`"
    )


@strawberry.input
class StepInput:
    name: str
    type: str
    config: Json = strawberry.field(
        description="The type's own fields, as in TOML; see stepTypes { jsonSchema }"
    )
    enabled: bool | None = ABSENT
    timeout_seconds: float | None = ABSENT
    retry: RetryInput | None = ABSENT
    when: str | None = ABSENT
    continue_on_error: bool | None = ABSENT
    on_interrupt: str | None = ABSENT


@strawberry.input
class JobInput:
    name: str
    app: str | None = ABSENT
    description: str | None = ABSENT
    tags: list[str] | None = ABSENT
    enabled: bool | None = ABSENT
    schedule: str | None = strawberry.field(
        default=ABSENT, description="Short form: one cron in one timezone"
    )
    timezone: str | None = ABSENT
    schedules: list[ScheduleInput] | None = ABSENT
    params: Json | None = ABSENT
    overlap: OverlapPolicy | None = ABSENT
    catch_up: CatchUpPolicy | None = ABSENT
    catch_up_limit: int | None = ABSENT
    catch_up_window_minutes: int | None = ABSENT
    jitter_seconds: float | None = ABSENT
    calendar: str | None = ABSENT
    depends_on: list[str] | None = strawberry.field(
        default=ABSENT, description="Jobs that must have succeeded when they last ended"
    )
    dependencies: list[DependencyInput] | None = strawberry.field(
        default=ABSENT, description="The same with a time limit; instead of `dependsOn`"
    )
    install_step: int | None = ABSENT
    queue_depth: int | None = ABSENT
    lock: str | None = ABSENT
    worker: str | None = ABSENT
    priority: int | None = ABSENT
    timeout_seconds: float | None = ABSENT
    log_level: LogLevel | None = ABSENT
    param_schema: Json | None = ABSENT
    retry: RetryInput | None = ABSENT
    alerts: Json | None = ABSENT
    presets: Json | None = ABSENT
    steps: list[StepInput]

    def as_toml(self) -> dict[str, Any]:
        """Return the same declaration as a table of jobs.toml."""
        raw = _table(self, leave_out=("steps", "schedules", "dependencies"))
        if self.dependencies:
            raw["dependencies"] = [_table(one) for one in self.dependencies]
        if self.schedules:
            raw["schedules"] = [_schedule(one, n) for n, one in enumerate(self.schedules, 1)]
        raw["steps"] = [_step(one) for one in self.steps]
        return raw


INPUT_NAMES = {
    "queue_depth": "queueDepth",
    "catch_up": "catchUp",
    "catch_up_limit": "catchUpLimit",
    "catch_up_window_minutes": "catchUpWindowMinutes",
    "jitter_seconds": "jitterSeconds",
    "depends_on": "dependsOn",
    "install_step": "installStep",
    "timeout_seconds": "timeoutSeconds",
    "log_level": "logLevel",
    "param_schema": "paramSchema",
    "base_seconds": "baseSeconds",
    "max_seconds": "maxSeconds",
    "retry_on": "retryOn",
    "no_retry_statuses": "noRetryStatuses",
    "every": "everySeconds",
    "every_seconds": "everySeconds",
    "fire_on_start": "fireOnStart",
    "max_fires": "maxFires",
    "continue_on_error": "continueOnError",
    "on_interrupt": "onInterrupt",
    "step_kwargs": "stepKwargs",
    "step_enabled": "stepEnabled",
    "idempotency_key": "idempotencyKey",
    "from_step": "fromStep",
}
"""TOML's words that inputs spell otherwise, for the paths of mistakes."""


def _table(given: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        name: _plain(value)
        for name, value in vars(given).items()
        if name not in leave_out and value is not ABSENT and value is not None
    }


def _plain(value: Any) -> Any:
    if isinstance(value, RetryInput):
        return _table(value)
    return value.value if isinstance(value, Enum) else value


def _schedule(given: ScheduleInput, number: int) -> dict[str, Any]:
    raw = _table(given)
    raw.setdefault("name", "default" if number == 1 else f"schedule-{number}")
    return raw


def _step(given: StepInput) -> dict[str, Any]:
    common = _table(given, leave_out=("config",))
    config = given.config if isinstance(given.config, dict) else {"config": given.config}
    return {**config, **common}
