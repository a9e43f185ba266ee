"""The rows as a function gets them: portions of text as columns of Python's values."""

from __future__ import annotations

import json
import marshal
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, cast
from uuid import UUID

from nomaflow.errors import StepError
from nomaflow.steps.copying import lines
from nomaflow.steps.copying.cells import Texts
from nomaflow.steps.copying.function.words import Given
from nomaflow.steps.copying.kinds import Field, Word

Read = Callable[[str], Any]

_DURATION = re.compile(r"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_LENGTH = re.compile(r"\(.*\)")
_FLAGS = {"1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Portion:
    """Some rows by the column; `texts` are the same cells as they came, where they came as text.

    `is_plain`: the texts hold nothing that COPY would escape, and no NULL.
    """

    values: Sequence[Sequence[Any]]
    texts: Sequence[Texts] | None = None
    is_plain: bool = False


class Reader:
    """Reads portions of one copy."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._reads = [_read(field) for field in given.fields]

    def read(self, portion: bytes, first_row: int) -> Portion:
        """StepError naming column, row and value for a value that Python has no word for."""
        if self._given.form == "values":
            # From the worker, never from a child: marshal must not be fed by those who may lie.
            return Portion(marshal.loads(portion))  # noqa: S302
        texts, is_plain = lines.columns(portion, len(self._reads))
        values = [
            self._values(number, column, first_row, is_plain=is_plain)
            for number, column in enumerate(texts)
        ]
        return Portion(values, texts, is_plain)

    def _values(
        self, number: int, texts: Texts, first_row: int, *, is_plain: bool
    ) -> Sequence[Any]:
        read = self._reads[number]
        if read is None:
            return texts
        try:
            if is_plain:
                return list(map(read, cast("Sequence[str]", texts)))
            return [None if text is None else read(text) for text in texts]
        except (ValueError, InvalidOperation):
            raise self._beyond(self._given.fields[number], read, texts, first_row) from None

    @staticmethod
    def _beyond(field: Field, read: Read, texts: Texts, first_row: int) -> StepError:
        for row, text in enumerate(texts, first_row):
            try:
                if text is not None:
                    read(text)
            except (ValueError, InvalidOperation):
                return StepError(
                    f"the source column {field.name!r} ({field.declared}) holds {text!r:.200} in "
                    f"row {row}, which Python has no {field.kind.word} for; convert the value in "
                    "`source.query`",
                    retryable=False,
                )
        raise AssertionError("a column that could not be read can be read")


def _read(field: Field) -> Read | None:
    """How a cell's text becomes a value; None: it is the value."""
    if field.kind.word is Word.OTHER:
        return _LISTS.get(_LENGTH.sub("", field.declared))
    return _READS.get(field.kind.word)


def _flag(text: str) -> Any:
    return _FLAGS[text] if text in _FLAGS else int(text)  # MySQL's tinyint(1) holds a 2 as well


def _time(text: str) -> time | timedelta:
    """A time of day; MySQL's reach from -838 to 838 hours, PostgreSQL's to 24:00."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    sign, hours, minutes, seconds, fraction = found.groups()
    if not sign and int(hours) < 24:  # noqa: PLR2004  hours of a day
        return time.fromisoformat(text)
    length = timedelta(
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int((fraction or "0").ljust(6, "0")),
    )
    return -length if sign else length


def _list(element: Callable[[Any], Any]) -> Read:
    def every(value: Any) -> Any:
        if isinstance(value, list):
            return [every(part) for part in value]
        return None if value is None else element(value)

    return lambda text: every(json.loads(text, parse_float=Decimal))


_READS: dict[Word, Read] = {
    Word.BOOL: _flag,
    Word.INTEGER: int,
    Word.DECIMAL: Decimal,
    Word.FLOAT: float,
    Word.BYTES: bytes.fromhex,
    Word.DATE: date.fromisoformat,
    Word.TIME: _time,
    Word.MOMENT: datetime.fromisoformat,
    Word.INSTANT: datetime.fromisoformat,
    Word.UUID: UUID,
}
# Arrays whose elements a list of Python's holds as they are; they come as JSON.
_LISTS: dict[str, Read] = {
    "boolean[]": _list(bool),
    "smallint[]": _list(int),
    "integer[]": _list(int),
    "bigint[]": _list(int),
    "text[]": _list(str),
    "character varying[]": _list(str),
    "uuid[]": _list(UUID),
    "numeric[]": _list(Decimal),
}
