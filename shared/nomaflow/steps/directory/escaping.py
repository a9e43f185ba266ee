"""Tokens inside a text that has a grammar of its own: each is one value there (SEC-L01)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nomaflow.language import template


def within(value: Any, render: Callable[[Any], Any], escape: Callable[[str], str]) -> Any:
    """Render a text, each token escaped; one that is a single token is taken as it is."""
    parts = list(template.pieces(value)) if isinstance(value, str) else [value]
    if len(parts) == 1:
        return render(value)
    return "".join(
        part if isinstance(part, str) else escape(template.as_text(render(part.text)))
        for part in parts
    )
