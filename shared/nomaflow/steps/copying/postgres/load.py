"""Bringing the source's rows into a table of the target's server."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from nomaflow.connectors.postgres import PostgresConnector
from nomaflow.errors import StepError
from nomaflow.steps.base import StepRunContext
from nomaflow.steps.copying.postgres import columns, passage, reading
from nomaflow.steps.copying.postgres.columns import COMPLAINT, Crossing, Pair
from nomaflow.steps.copying.naming import listed, qualified
from nomaflow.steps.copying.postgres.passage import Format, Into, Passed
from nomaflow.steps.copying.postgres.reading import Reading

_EVENT_SECONDS = 0.25
_LINE_SECONDS = 1.0
# data exception, undefined object (regclass), feature not supported (NaN to bigint)
_VALUE_ERRORS = ("22", "42P01", "42704", "0A000")
_COMPLAINT = re.compile(rf'"{COMPLAINT}(\d+):(.*?)"(?: \(SQLSTATE|;)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Load:
    """One copy's rows: where they are read, through which connections, and how each crosses."""

    ctx: StepRunContext
    source: PostgresConnector
    target: PostgresConnector
    reading: Reading
    one_server: bool
    batch_size: int
    crossings: tuple[Crossing, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The target columns that are filled."""
        return tuple(crossing.pair.target.name for crossing in self.crossings)

    @property
    def form(self) -> Format:
        return "text" if any(crossing.needs_text for crossing in self.crossings) else "binary"

    async def paired(self, pairs: Sequence[Pair], *, same_database: bool) -> Load:
        """The same load with its columns decided; StepError for types that cannot be converted."""
        crossings = tuple(
            columns.crossing(pair, number, same_database=same_database)
            for number, pair in enumerate(pairs)
        )
        connection = await self.source.raw()
        for crossing in crossings:
            if crossing.probe is not None:
                await _check(connection, crossing)
        return replace(self, crossings=crossings)

    async def fill(self, into: Into) -> Passed:
        """Read every row of the source into a table, within the target's current transaction."""
        heard = Progress(self.ctx, self.reading.estimated_rows, self.batch_size)
        try:
            if self.one_server:
                passed = await self._inside(into)
            else:
                async with reading.snapshot(self.source, self.reading) as tail:
                    values = ", ".join(crossing.value for crossing in self.crossings)
                    passed = await passage.copy(
                        self.source,
                        f"SELECT {values} {tail}\n",
                        self.target,
                        into,
                        form=self.form,
                        heard=heard,
                    )
        except StepError as error:
            raise self._explained(error) from error.__cause__
        heard.finish(passed.written)
        return passed

    async def _inside(self, into: Into) -> Passed:
        """Source and target are one database: the rows never leave the server."""
        tail = await reading.filled(self.target, self.reading)
        values = ", ".join(crossing.typed for crossing in self.crossings)
        table = qualified(into.schema, into.table)
        connection = await self.target.raw()
        with self.target.translated():
            status = await connection.execute(
                f"INSERT INTO {table} ({listed(into.columns)}) OVERRIDING SYSTEM VALUE "
                f"SELECT {values} {tail}\n"
            )
        rows = int(status.rpartition(" ")[2])
        return Passed(rows, rows)

    def _explained(self, error: StepError) -> StepError:
        """A value that would have changed on the way, or could not be read, with its column."""
        found = _COMPLAINT.search(error.message)
        if found is None:
            return self._suspected(error)
        pair = self.crossings[int(found.group(1))].pair
        return StepError(
            f"the source column {pair.source.name!r} ({pair.source.declared}) holds "
            f"{found.group(2)!r}, which the target column {pair.target.name!r} "
            f"({pair.target.declared}) cannot hold without loss; widen it, or convert the value "
            "in `source.query`"
        )

    def _suspected(self, error: StepError) -> StepError:
        """The server refused a value and did not say of which column: those it had to convert."""
        converted = [
            f"{pair.source.name!r} ({pair.source.declared} to {pair.target.declared})"
            for pair in (crossing.pair for crossing in self.crossings)
            if pair.source.declared != pair.target.declared
        ]
        cause = getattr(error.__cause__, "sqlstate", None) or ""
        if not converted or "column" in error.message or not cause.startswith(_VALUE_ERRORS):
            return error
        return StepError(f"{error.message}; converted columns: {', '.join(converted)}")


class Progress:
    """Tells listeners four times a second and the log once a second how far a copy has come."""

    def __init__(self, ctx: StepRunContext, total: int | None, batch_size: int) -> None:
        self._ctx = ctx
        self._total = total
        self._batch = batch_size
        self._started = self._event = self._line = time.monotonic()

    def __call__(self, rows: int) -> None:
        now = time.monotonic()
        if now - self._event < _EVENT_SECONDS:
            return
        self._event = now
        self._tell(rows, self._total, last=False)
        if now - self._line >= _LINE_SECONDS:
            self._line = now
            self._ctx.log.info(self._sentence(rows, self._total, "about "))

    def finish(self, rows: int) -> None:
        """Every row has passed; the count is exact now."""
        self._tell(rows, rows, last=True)
        self._ctx.log.info(self._sentence(rows, rows, ""))

    def _tell(self, rows: int, total: int | None, *, last: bool) -> None:
        self._ctx.progress(
            rows,
            total,
            "rows",
            self._sentence(rows, total, "" if last else "about "),
            batch=-(-rows // self._batch),
            batches=None if total is None else -(-max(total, rows) // self._batch),
            is_last=last,
        )

    def _sentence(self, rows: int, total: int | None, about: str) -> str:
        seconds = max(time.monotonic() - self._started, 0.001)
        batches = f" of {-(-max(total, rows) // self._batch)}" if total else ""
        said = f"batch {-(-rows // self._batch)}{batches} · {about}{rows:,} rows"
        return f"{said} · {rows / seconds:,.0f} rows/s".replace(",", " ")


async def _check(connection: Any, crossing: Crossing) -> None:
    try:
        await connection.execute(crossing.probe)
    except asyncpg.PostgresError as error:
        pair = crossing.pair
        raise StepError(
            f"the source column {pair.source.name!r} ({pair.source.declared}) cannot be converted "
            f"to the target column {pair.target.name!r} ({pair.target.declared}) without a "
            f"possible loss; convert it in `source.query` ({error})"
        ) from None
