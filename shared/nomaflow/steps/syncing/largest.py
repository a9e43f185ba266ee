"""The largest value of a column: numbers by size, times by instant, other text by its letters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

_NUMBER, _TIME, _TEXT = range(3)


@dataclass(slots=True)
class Largest:
    """Grows with what it sees; `value` is the text as the source wrote it."""

    value: str | None = None

    def see(self, values: Iterable[Any]) -> None:
        """Take the largest of these and of what was seen before."""
        for value in values:
            if value is None or isinstance(value, bool):
                continue
            text = value.isoformat() if isinstance(value, datetime) else str(value)
            if self.value is None or _rank(text) > _rank(self.value):
                self.value = text


def _rank(text: str) -> tuple[int, Any]:
    try:
        number = Decimal(text)
        if number.is_finite():
            return (_NUMBER, number)
    except InvalidOperation:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return (_TEXT, text)
    return (_TIME, found if found.tzinfo else found.replace(tzinfo=UTC))
