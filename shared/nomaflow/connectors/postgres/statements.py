"""Statements of one PostgreSQL connection: their parameters' types asked for, prepared and kept."""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from nomaflow.connectors import statement
from nomaflow.connectors.postgres.binding import as_text, bind
from nomaflow.errors import StepError

_KEPT = 100
_AMBIGUOUS = (
    asyncpg.exceptions.IndeterminateDatatypeError,
    asyncpg.exceptions.AmbiguousParameterError,
)
_NUMBER = re.compile(r"\$(\d+)")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a statement is sent: numbered so, with these casts, its parameters of these types."""

    parsed: statement.Statement
    apart: bool
    casts: Mapping[int, str]
    types: Sequence[Any]

    def order(self) -> tuple[str, ...]:
        return self.parsed.order(apart=self.apart)

    @property
    def text(self) -> str:
        """The statement as the server was asked about it."""
        return self.parsed.numbered(self.casts, apart=self.apart)


@dataclass(frozen=True, slots=True)
class Ready:
    """A prepared statement and the values to run it with."""

    prepared: Any
    values: Sequence[Any]


class Statements:
    """What has been asked of the server so far."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}
        self._prepared: OrderedDict[str, Any] = OrderedDict()

    def names(self, sql: str | None) -> tuple[str, ...]:
        """Which names `$1`, `$2` ... stand for, for the words of an error."""
        shape = self._shapes.get(sql or "")
        return shape.order() if shape else ()

    def forget(self) -> None:
        """Ask the server anew the next time."""
        self._shapes.clear()
        self._prepared.clear()

    async def ready(self, connection: Any, sql: str, params: Mapping[str, Any]) -> Ready:
        """Prepare `sql` for these values; StepError for a parameter that has none."""
        shape = self._shapes.get(sql) or await self.shape(connection, sql)
        order = shape.order()
        for name in order:
            if name not in params:
                raise StepError(f"the SQL text uses `:{name}`, and no such parameter is given")
        bound = [
            bind(name, params[name], server)
            if number not in shape.casts
            else as_text(name, params[name])
            for number, (name, server) in enumerate(zip(order, shape.types, strict=True), 1)
        ]
        casts = dict(shape.casts)
        casts.update({n: value.cast for n, value in enumerate(bound, 1) if value.cast})
        text = shape.parsed.numbered(casts, apart=shape.apart)
        return Ready(await self.prepare(connection, text), [value.value for value in bound])

    async def shape(self, connection: Any, sql: str) -> Shape:
        """Ask the server what types the parameters have.

        A name that PostgreSQL cannot give one type at every place (`:since IS NULL OR t > :since`)
        is numbered once per place, and a place with no type of its own is text.
        """
        parsed = statement.parse(sql)
        apart = False
        casts: dict[int, str] = {}
        while True:
            try:
                text = parsed.numbered(casts, apart=apart)
                prepared = await self._try_prepare(connection, text, risky=bool(parsed.names))
            except _AMBIGUOUS as error:
                found = _NUMBER.search(str(error))
                if not apart and len(parsed.names) > len(parsed.order()):
                    apart = True
                elif found is not None and int(found.group(1)) not in casts:
                    casts[int(found.group(1))] = "::text"
                else:
                    raise
            else:
                shape = Shape(parsed, apart, casts, prepared.get_parameters())
                if len(self._shapes) >= _KEPT:
                    self._shapes.clear()
                self._shapes[sql] = shape
                return shape

    async def _try_prepare(self, connection: Any, text: str, *, risky: bool) -> Any:
        if risky and connection.is_in_transaction():
            async with connection.transaction():  # a refusal must not end the outer transaction
                return await self.prepare(connection, text)
        return await self.prepare(connection, text)

    async def prepare(self, connection: Any, text: str) -> Any:
        """The driver's prepared statement for a text whose parameters are numbered."""
        prepared = self._prepared.get(text)
        if prepared is None:
            # Named, so that the server keeps to what it described, or says that it cannot: an
            # unnamed one is parsed anew each time, and rows of a changed table are misread.
            prepared = await connection.prepare(text, name=f"nomaflow_{next(_numbers)}")
            self._prepared[text] = prepared
            if len(self._prepared) > _KEPT:
                self._prepared.popitem(last=False)
        else:
            self._prepared.move_to_end(text)
        return prepared
