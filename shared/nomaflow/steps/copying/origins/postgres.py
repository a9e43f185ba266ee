"""PostgreSQL as the source of a copy into another database, or into a function first."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import lines
from nomaflow.steps.copying.kinds import Field, Word
from nomaflow.steps.copying.naming import quoted
from nomaflow.steps.copying.origins.base import (
    MYSQL,
    Origin,
    Put,
    Rows,
    Spelling,
    batch_size,
)
from nomaflow.steps.copying.postgres import reading
from nomaflow.steps.copying.postgres.catalog import Column
from nomaflow.steps.copying.postgres.columns import COMPLAINT
from nomaflow.steps.copying.postgres.kinds import field_of
from nomaflow.steps.copying.postgres.reading import Reading

BATCH = 2_000

_COMPLAINT = re.compile(rf'"{COMPLAINT}(\d+):(.*?)"(?: \(SQLSTATE|;)', re.DOTALL)
# Elements that a list of Python's holds as they are.
_LISTS = frozenset({"_bool", "_int2", "_int4", "_int8", "_text", "_varchar", "_uuid", "_numeric"})

Spell = Callable[[Column, Field, int], str]


class PostgresOrigin(Origin):
    """A described table or query of PostgreSQL."""

    dialect = "postgresql"

    def __init__(self, connector: PostgresConnector, described: Reading) -> None:
        super().__init__()
        self._connector = connector
        self._reading = described
        self._columns = {column.name: column for column in described.columns}
        self.shown = described.shown
        self.fields = tuple(field_of(column) for column in described.columns)
        self.key = described.key

    async def count(self) -> int:
        return await reading.count(self._connector, self._reading)

    async def estimate(self) -> int | None:
        return self._reading.estimated_rows

    async def send(self, names: Sequence[str], spelling: Spelling, put: Put) -> int:
        """By COPY of the text form, which other databases read as it is."""

        def spell(column: Column, field: Field, number: int) -> str:
            return _text(column, field, number, spelling)

        async def put_for_mysql(portion: bytes) -> None:
            await put(lines.for_load_data(portion))

        output = put_for_mysql if spelling is MYSQL else put
        connection = await self._connector.raw()
        async with reading.snapshot(self._connector, self._reading) as tail:
            select = f"SELECT {self._values(names, spell)} {tail}\n"
            try:
                with self._connector.translated():
                    status = await connection.copy_from_query(select, output=output, format="text")
            except StepError as error:
                raise self._explained(error) from error.__cause__
        return int(status.rpartition(" ")[2])

    async def rows(self, names: Sequence[str]) -> AsyncGenerator[Rows, None]:
        async with self._connector.transaction(read_only=True):
            select = f"SELECT {self._values(names, _storable)} {self._reading.tail}\n"
            try:
                size = await batch_size(self._connector, select, self._reading.params, BATCH)
                async with aclosing(
                    self._connector.batches(select, self._reading.params, size)
                ) as found:
                    async for _, rows in found:
                        yield rows
            except StepError as error:
                raise self._explained(error) from error.__cause__

    def _values(self, names: Sequence[str], spell: Spell) -> str:
        values = [
            f"{spell(self._columns[name], self.field(name), number)} AS c{number}"
            for number, name in enumerate(names)
        ]
        self._asked = tuple(names)
        return ", ".join(values)

    def _explained(self, error: StepError) -> StepError:
        found = _COMPLAINT.search(error.message)
        if found is None:
            return error
        column = self._columns[self._asked[int(found.group(1))]]
        return StepError(
            f"the source column {column.name!r} ({column.declared}) holds {found.group(2)!r}, "
            "which the other side cannot hold; convert the value in `source.query`"
        )


def _complaint(name: str, number: int) -> str:
    return f"('{COMPLAINT}{number}:' || left({name}::text, 200))::int4::text"


def _text(  # noqa: PLR0911  a line per kind of value
    column: Column, field: Field, number: int, spelling: Spelling
) -> str:
    """The neutral text of a value."""
    name = quoted(column.name)
    match field.kind.word:
        case Word.BOOL:
            return f"{name}::int"
        case Word.FLOAT if field.kind.size == 32:  # noqa: PLR2004  bits
            return f"{name}::float8"  # all the digits that say which float it is
        case Word.BYTES:
            return f"'{spelling.hex_prefix}' || encode({name}, 'hex')"
        case Word.INSTANT:
            plain = f"({name} AT TIME ZONE 'UTC')::text || '{spelling.zone}'"
            return f"CASE WHEN isfinite({name}) THEN {plain} ELSE {name}::text END"
        case Word.OTHER if column.type_name in _LISTS or (
            column.type_name.startswith("_") and spelling.arrays_as_json
        ):
            shape = f"array_lower({name}, 1)"
            return (
                f"CASE WHEN COALESCE({shape}, 1) = 1 THEN to_json({name})::text "
                f"ELSE {_complaint(name, number)} END"
            )
        case Word.INTEGER | Word.DECIMAL | Word.FLOAT:
            return name
        case _:
            return f"{name}::text"


def _storable(column: Column, field: Field, number: int) -> str:
    """A number, text or bytes as SQLite keeps them."""
    name = quoted(column.name)
    match field.kind.word:
        case Word.INTEGER:
            return f"{name}::bigint" if column.type_name == "oid" else name
        case Word.FLOAT:
            # SQLite would take a NaN for NULL.
            plain = f"{name}::float8"
            return (
                f"CASE WHEN {name} = 'NaN' THEN {_complaint(name, number)}::float8 ELSE {plain} END"
            )
        case Word.BYTES:
            return name
        case Word.DECIMAL:
            return f"{name}::text"
        case _:
            return _text(column, field, number, Spelling())
