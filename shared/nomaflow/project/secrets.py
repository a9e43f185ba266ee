"""The secrets a program knows, as a mask: the project's `.env`, and its own tokens and URLs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nomaflow.masking import Masker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow.project.folder import Project


@dataclass(slots=True)
class Secrets:
    """The mask, made anew when `.env` changes (T12); `always` are secrets that are in no file."""

    project: Project
    always: tuple[str, ...] = ()
    _env: Mapping[str, str] | None = None
    _masker: Masker = field(default_factory=lambda: Masker(()))

    def masker(self) -> Masker:
        """Return the mask for the values known now."""
        env = self.project.env()
        if env is not self._env:
            public = {env[name] for name in self.project.public_env if name in env}
            self._masker = Masker((*env.values(), *self.always), public)
            self._env = env
        return self._masker

    def masked(self, value: Any) -> Any:
        """Return a value as it may be logged or shown."""
        return self.masker().value(value)
