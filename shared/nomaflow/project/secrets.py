"""The secrets a program knows, as a mask: the project's `.env`, and its own tokens and URLs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nomaflow.masking import Masker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nomaflow.project.folder import Project

MOST_LEARNED = 100


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

    def masker(self) -> Masker:
        """Return the mask for the values known now."""
        env = self.project.env()
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
