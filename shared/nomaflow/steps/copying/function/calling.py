"""Calling a plugin's function with every row of a copy, in the child process that runs it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from operator import length_hint
from typing import Any
from uuid import UUID

from nomaflow.errors import StepError
from nomaflow.steps.copying.function.given import Reader
from nomaflow.steps.copying.function.taken import Writer
from nomaflow.steps.copying.function.words import HEAD, Given, Wanted
from nomaflow.steps.copying.kinds import Word

Told = list[list[Any]]
Ask = Callable[[Told], Awaitable[Mapping[str, Any]]]
"""Tell the copy the columns of the first row that was kept; answers how rows are wanted."""

# What a new target's column holds when a function made it, by the class of its first value.
_MADE: tuple[tuple[type, Word, int | None], ...] = (
    (bool, Word.BOOL, None),
    (int, Word.INTEGER, 64),
    (float, Word.FLOAT, 64),
    (bytes, Word.BYTES, None),
    (Decimal, Word.DECIMAL, None),
    (datetime, Word.MOMENT, 6),
    (date, Word.DATE, None),
    (UUID, Word.UUID, None),
    (dict, Word.JSON, None),
    (list, Word.JSON, None),
)


class RowError(Exception):
    """The function raised its cause for one row of the source, the first having the number 1."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


class Calling:
    """One function and the rows it has been called with so far."""

    def __init__(
        self, name: str, function: Callable[..., Any], given: Mapping[str, Any], ask: Ask
    ) -> None:
        self._name = name
        self._function = function
        self._given = Given.from_json(given)
        self._ask = ask
        self._reader = Reader(self._given)
        self._each = _each(self._given.names)
        self._columns: frozenset[Any] = frozenset()
        self._writer: Writer | None = None
        self._row = 1

    async def answer(self, portion: bytes) -> bytes:
        """Call the function with every row of a portion; what it answered, to be sent back.

        RowError for what it raised; StepError naming the row for an answer that is no row.
        """
        given = self._reader.read(portion, self._row)
        answers = await self._called(given.values)
        kept: list[bool] | None = None
        rows = answers
        if None in answers:
            kept = [answer is not None for answer in answers]
            rows = [answer for answer in answers if answer is not None]
        written = b""
        if rows:
            writer = self._writer or await self._prepared(rows[0])
            try:
                if set(map(len, rows)) != {len(self._columns)} or not self._have_all(writer, rows):
                    raise self._misfit(answers)
                written = writer.write(rows, kept, given, self._row)
            except KeyError:
                raise self._misfit(answers) from None
        self._row += len(answers)
        return HEAD.pack(len(answers), len(rows)) + written

    async def _prepared(self, row: Mapping[str, Any]) -> Writer:
        for name in row:
            if not isinstance(name, str):
                raise self._error(f"answered a row with the key {name!r}; column names are text")
        self._columns = frozenset(row)
        told = Wanted.from_json(await self._ask([[name, *_made(row[name])] for name in row]))
        self._writer = Writer(self._name, self._given, told)
        return self._writer

    async def _called(self, columns: Sequence[Sequence[Any]]) -> list[Any]:
        first = iter(columns[0])
        last = self._row + len(columns[0]) - 1
        if inspect.iscoroutinefunction(self._function):
            answers: list[Any] = []
            for each in zip(first, *columns[1:], strict=True):
                try:
                    row = dict(zip(self._given.names, each, strict=True))
                    answers.append(await self._function(row))
                except BaseException as error:
                    raise RowError(last - length_hint(first)) from error
        else:
            try:
                answers = self._each(self._function, (first, *columns[1:]))
            except BaseException as error:
                raise RowError(last - length_hint(first)) from error
        if not set(map(type, answers)) <= {dict, type(None)}:
            answers = [await self._odd(self._row + n, answer) for n, answer in enumerate(answers)]
        return answers

    async def _odd(self, row: int, answer: Any) -> Any:
        """An answer that is no plain dict: an awaitable one, another mapping, or wrong."""
        if inspect.isawaitable(answer):
            try:
                answer = await answer
            except BaseException as error:
                raise RowError(row) from error
        if answer is not None and not isinstance(answer, Mapping):
            raise self._error(
                f"answered {type(answer).__name__} for row {row}: return a dict, or None to drop "
                "the row"
            )
        return answer

    def _have_all(self, writer: Writer, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether each row has the columns of the first; a writer of all of them sees to it."""
        return writer.names == self._columns or all(map(self._columns.issuperset, rows))

    def _misfit(self, answers: Sequence[Any]) -> StepError:
        """Every row needs the columns of the first, and one has not."""
        for row, answer in enumerate(answers, self._row):
            if answer is not None and answer.keys() != self._columns:
                odd = ", ".join(sorted(map(str, answer.keys() ^ self._columns)))
                return self._error(
                    f"answered other columns for row {row} than before ({odd}); every row needs "
                    "the same keys"
                )
        return self._error("answered rows that change while they are read")

    def _error(self, words: str) -> StepError:
        return StepError(f"{self._name} {words}", retryable=False)


def _made(value: Any) -> tuple[Word, int | None]:
    return next(
        ((word, size) for kind, word, size in _MADE if isinstance(value, kind)), (Word.TEXT, None)
    )


def _each(names: Sequence[str]) -> Callable[[Callable[..., Any], Sequence[Any]], list[Any]]:
    """Call a function with a dict of each row: written out, since dict(zip()) costs three times.

    The names are in it as literals of their own, whatever is in them.
    """
    cells = ", ".join(f"c{number}" for number in range(len(names)))
    row = ", ".join(f"{name!r}: c{number}" for number, name in enumerate(names))
    made = f"lambda function, columns: [function({{{row}}}) for {cells}, in zip(*columns)]"
    called: Callable[[Callable[..., Any], Sequence[Any]], list[Any]] = eval(made)  # noqa: S307
    return called
