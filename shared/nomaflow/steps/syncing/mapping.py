"""Items to rows: each column of the map is an expression, asked of many items at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nomaflow.errors import StepError
from nomaflow.language import expression
from nomaflow.language.expression import ExpressionError
from nomaflow.steps.syncing import closures

LARGE = 500
"""From so many items on a page is mapped in a thread, so that other runs go on."""

Columns = list[list[Any]]
"""The values of each column, in the order of the map."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A slice of a page: its items, and its columns or what is wrong with them."""

    items: Sequence[Any]
    columns: Columns
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ItemMap:
    """The map of a step, with the parameters that `param('x')` reads."""

    expressions: Mapping[str, str]
    params: Mapping[str, Any]

    async def batches(self, items: Sequence[Any], size: int) -> list[Batch]:
        """Cut a page into batches of `size` items and map each; a bad item spoils only its own."""
        if len(items) < LARGE:
            return self._batches(items, size)
        return await asyncio.to_thread(self._batches, items, size)

    def sample(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """A few items as rows, for people; StepError for one that cannot be mapped."""
        (batch,) = self._batches(items, max(len(items), 1)) or [Batch([], [])]
        if batch.error is not None:
            raise StepError(batch.error, retryable=False)
        values = zip(*batch.columns, strict=True)
        return [dict(zip(self.expressions, row, strict=True)) for row in values]

    def _batches(self, items: Sequence[Any], size: int) -> list[Batch]:
        now = datetime.now(UTC)
        made = {
            column: closures.of(expression.compile(text), self.params, now)
            for column, text in self.expressions.items()
        }
        return [
            _mapped(items[start : start + size], start, made)
            for start in range(0, len(items), size)
        ]


def _mapped(items: Sequence[Any], start: int, made: Mapping[str, closures.Closure]) -> Batch:
    columns: Columns = []
    for column, apply in made.items():
        try:
            columns.append([apply(item) for item in items])
        except ExpressionError:
            return Batch(items, [], _first_error(items, start, column, apply))
    return Batch(items, columns)


def _first_error(items: Sequence[Any], start: int, column: str, apply: closures.Closure) -> str:
    for number, item in enumerate(items, start + 1):
        try:
            apply(item)
        except ExpressionError as error:
            return f"item {number} of the page: column `{column}`: {error.message}"
    raise AssertionError("the items have failed a moment ago")
