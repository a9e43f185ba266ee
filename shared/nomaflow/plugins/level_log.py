"""The four words of a log, over one way of writing a line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any


class LevelLog(ABC):
    """Answers to `StepLog`; a subclass says where a line goes."""

    def debug(self, message: str, **fields: Any) -> None:
        """Kept only when the run's level is DEBUG."""
        self.write("DEBUG", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """The ordinary line."""
        self.write("INFO", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Something a person should know of although the step goes on."""
        self.write("WARNING", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Something that went wrong."""
        self.write("ERROR", message, fields)

    @abstractmethod
    def write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Take one line of the given level."""
