"""The enums of the schema: the words of the TOML and of the database, in capitals."""

from __future__ import annotations

from enum import Enum

import strawberry

from nomaflow.errors import Code as ErrorCode
from nomaflow.lifecycle import RunStatus, StepStatus
from nomaflow.store.history import Order as RunOrder
from nomaflow_api.auth import Permission

__all__ = [
    "CatchUpPolicy",
    "ErrorCode",
    "ExternalResult",
    "JobOrigin",
    "LogLevel",
    "OverlapPolicy",
    "Permission",
    "RunKind",
    "RunOrder",
    "RunStatus",
    "SchedulerState",
    "StepStatus",
]

# These already have a home; here they only get their names in the schema.
strawberry.enum(RunStatus)
strawberry.enum(StepStatus)
strawberry.enum(Permission)
strawberry.enum(ErrorCode, name="ErrorCode")
strawberry.enum(RunOrder, name="RunOrder", description="FINISHED_* list only runs that are over.")


@strawberry.enum
class RunKind(Enum):
    JOB = "job"
    EXTERNAL = "external"
    SYSTEM = "system"


@strawberry.enum
class ExternalResult(Enum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@strawberry.enum
class SchedulerState(Enum):
    ACTIVE = "active"
    STANDBY = "standby"
    ERROR = "error"
    DISABLED = "disabled"


@strawberry.enum
class CatchUpPolicy(Enum):
    NONE = "none"
    LAST = "last"
    ALL = "all"


@strawberry.enum
class LogLevel(Enum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@strawberry.enum
class OverlapPolicy(Enum):
    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"
    REPLACE = "replace"


@strawberry.enum
class JobOrigin(Enum):
    FILE = "file"
    API = "api"
