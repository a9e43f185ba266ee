"""A parameter's list or mapping as JSON text, whichever database it is for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from nomaflow.errors import StepError


def written(name: str, value: Any, spell: Callable[[Any], Any]) -> str:
    """The JSON of a value; `spell` says what JSON has no word for as the database writes it.

    StepError for what has no JSON form: a set, an endless number, a key that is no text.
    """

    def write(part: Any) -> Any:
        if isinstance(part, Mapping):
            return dict(part)
        if isinstance(part, set | frozenset):
            raise TypeError("a set has no JSON form")
        return spell(part)

    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, default=write)
    except (TypeError, ValueError) as error:
        raise StepError(f"parameter `{name}` cannot be written as JSON: {error}") from None
