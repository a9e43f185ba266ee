"""The words of a job: other spellings that load, and fields that a later version will honour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JOB_ALIASES = {"id": "name", "dependencies": "depends_on"}
STEP_ALIASES = {"timeout": "timeout_seconds", "condition": "when", "op_kwargs": "kwargs"}
RETRY_ALIASES = {"max_attempts": "attempts", "initial_delay_seconds": "base_seconds"}
PRESET_ALIASES = {"op_kwargs": "kwargs", "step_kwargs": "kwargs", "step_enabled": "steps"}
SCHEDULE_ALIASES = {
    "interval": "every",
    "every_seconds": "every",
    "emitOnStart": "fire_on_start",
    "maxEmissions": "max_fires",
    "payload": "params",
}
STEP_COMMON = frozenset(
    {"name", "type", "enabled", "timeout_seconds"}
    | {"retry", "when", "continue_on_error", "on_interrupt"}
)

# Fields that a later version brings, each with the values that ask for nothing. When a feature
# arrives its line goes and the model gets the field.
NOT_YET: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "alerts": {
        "on_success": (False,),
        "on_partial": (False,),
        "on_aborted": (False,),
        "on_skipped": (False,),
        "on_missed": (False,),
        "trigger": ([],),
        "on_recovery": (False,),
        "after_failures": (1,),
        "stale_after_hours": (),
    },
}
NOT_YET_STEP_TYPES: tuple[str, ...] = ()

ROW_TYPES = {
    "string": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "decimal": {"type": "number"},
    "bool": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
}
ROW_FIELDS = frozenset({"name", "type", "default", "description", "required"})
