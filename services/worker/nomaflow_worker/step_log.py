"""What a step says, as lines of its run's journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow.plugins.level_log import LevelLog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from nomaflow_worker.journal import Journal


class StepLog(LevelLog):
    """Lines of one step into the run's journal; fields follow the message as `key=value`."""

    def __init__(self, journal: Journal, step: str) -> None:
        self._journal = journal
        self._step = step

    def write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Write one line now."""
        self.line(level, message, fields)

    def line(
        self, level: str, message: str, fields: Mapping[str, Any], at: datetime | None = None
    ) -> None:
        """Write one line; an unknown level counts as INFO."""
        tail = "".join(f" {key}={value}" for key, value in fields.items())
        known = level if level in {"DEBUG", "INFO", "WARNING", "ERROR"} else "INFO"
        self._journal.write(known, f"{message}{tail}", self._step, at)
