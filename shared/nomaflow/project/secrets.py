"""The secrets a program knows, as a mask: the project's `.env`, and its own tokens and URLs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nomaflow.masking import Masker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nomaflow.project.folder import Project

MOST_LEARNED = 100
LOOK_SECONDS = 0.02
"""Between two looks at `.env` for the mask alone; every line of a log asks for it."""


@dataclass(slots=True)
class Secrets:
    """The mask, made anew when `.env` changes (T12); `always` are secrets that are in no file.

    Access tokens that requests fetch are `learn`ed: the newest hundred stay masked. Secrets of
    connectors made through the API are `keep`t, those they had before too.
    """

    project: Project
    always: tuple[str, ...] = ()
    _learned: tuple[str, ...] = ()
    _kept: frozenset[str] = frozenset()
    _env: Mapping[str, str] | None = None
    _masker: Masker = field(default_factory=lambda: Masker(()))
    _looked: float = float("-inf")

    def masker(self) -> Masker:
        """Return the mask for the values known now."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self.project.env()
        env = self.project.env_as_read  # whoever read a new value meanwhile, it is masked at once
        if env is not self._env:
            public = {env[name] for name in self.project.public_env if name in env}
            self._masker = Masker(
                (*env.values(), *self.always, *self._learned, *self._kept), public
            )
            self._env = env
        return self._masker

    def learn(self, secret: str) -> None:
        """Mask `secret` too from now on."""
        if secret not in self._learned:
            self._learned = (*self._learned, secret)[-MOST_LEARNED:]
            self._env = None

    def keep(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, for as long as this program runs."""
        if new := set(secrets) - self._kept:
            self._kept |= new
            self._env = None

    def masked(self, value: Any) -> Any:
        """Return a value as it may be logged or shown."""
        return self.masker().value(value)
