"""Bringing the source's rows into a table of the target's server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import asyncpg

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.base import StepRunContext
from nomaflow.steps.copying.naming import listed, qualified
from nomaflow.steps.copying.orders import Passed
from nomaflow.steps.copying.postgres import columns, diagnosis, passage, reading, streams
from nomaflow.steps.copying.postgres.columns import COMPLAINT, Crossing, Pair
from nomaflow.steps.copying.postgres.diagnosis import ARRIVALS
from nomaflow.steps.copying.postgres.passage import Format, Into
from nomaflow.steps.copying.postgres.reading import Reading
from nomaflow.steps.copying.postgres.streams import Lane, Streams
from nomaflow.steps.copying.progress import Progress, Sum

Put = Callable[[bytes], Awaitable[None]]
# data exception, undefined object (regclass), feature not supported (NaN to bigint)
_VALUE_ERRORS = ("22", "42P01", "42704", "0A000")
_COMPLAINT = re.compile(rf'"{COMPLAINT}(\d+):(.*?)"(?: \(SQLSTATE|;)', re.DOTALL)


class Arrivals(Protocol):
    """Rows that do not come by a COPY of PostgreSQL's own, as lines of COPY's text form."""

    @property
    def dropped(self) -> int:
        """Rows so far that a transform did not pass on."""

    async def send(self, columns: Sequence[str], put: Put) -> int:
        """Give away the lines of these source columns; how many there were."""

    async def estimate(self) -> int | None:
        """About how many rows will come, or None."""


@dataclass(frozen=True, slots=True)
class Load:
    """One copy's rows: where they are read, through which connections, and how each crosses.

    With `arrivals` the reading is a temporary table of the target's connection with the types
    the rows have, which only takes those rows that need a conversion there.
    """

    ctx: StepRunContext
    source: SqlConnector
    target: PostgresConnector
    reading: Reading
    one_server: bool
    batch_size: int
    streams: Streams = 1
    arrivals: Arrivals | None = None
    crossings: tuple[Crossing, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The target columns that are filled."""
        return tuple(crossing.pair.target.name for crossing in self.crossings)

    @property
    def form(self) -> Format:
        return "text" if any(crossing.needs_text for crossing in self.crossings) else "binary"

    @property
    def origin(self) -> PostgresConnector:
        """Where the reading is: the source, or the target when the rows arrive there first."""
        if self.arrivals is None and isinstance(self.source, PostgresConnector):
            return self.source
        return self.target

    def only(self, names: Sequence[str]) -> Load:
        """The same load with no other target columns than these."""
        kept = tuple(found for found in self.crossings if found.pair.target.name in names)
        return replace(self, crossings=kept)

    async def paired(self, pairs: Sequence[Pair], *, same_database: bool) -> Load:
        """The same load with its columns decided; StepError for types that cannot be converted."""
        crossings = tuple(
            columns.crossing(pair, number, same_database=same_database)
            for number, pair in enumerate(pairs)
        )
        connection = await self.origin.raw()
        for crossing in crossings:
            if crossing.probe is not None:
                await _check(connection, crossing)
        return replace(self, crossings=crossings)

    async def streams_for(self, *, stashed: bool) -> int:
        """How many streams this copy uses."""
        if self.one_server or self.arrivals is not None:
            return 1
        return await streams.wanted(self.streams, self.origin, self.reading, stashed=stashed)

    async def fill(self, into: Into, lanes: Sequence[Lane] = ()) -> Passed:
        """Read every row of the source into a table, within the target's current transaction."""
        heard = Progress(self.ctx, self.reading.estimated_rows, self.batch_size)
        try:
            if self.arrivals is not None:
                passed = await self._arrived(self.arrivals, into, heard)
            elif self.one_server:
                passed = await self._inside(into)
            else:
                passed = await self._streamed(into, heard, lanes)
        except StepError as error:
            raise await self._explained(error) from error.__cause__
        heard.finish(passed.written)
        return passed

    async def _streamed(self, into: Into, heard: Progress, given: Sequence[Lane]) -> Passed:
        lanes = given or (Lane(self.origin, self.target),)
        values = ", ".join(crossing.value for crossing in self.crossings)
        whole = Sum(heard, len(lanes))
        async with streams.snapshots(lanes, self.reading) as tails:
            heard.total = await reading.estimate(self.origin, self.reading, tails[0])
            parts = [
                passage.copy(
                    lane.source,
                    f"SELECT {values} {tail}\n",
                    lane.target,
                    into,
                    form=self.form,
                    heard=whole.part(number),
                )
                for number, (lane, tail) in enumerate(zip(lanes, tails, strict=True))
            ]
            passed = await _together(parts)
        return Passed(sum(part.read for part in passed), sum(part.written for part in passed))

    async def _arrived(self, arrivals: Arrivals, into: Into, heard: Progress) -> Passed:
        """Straight into the table where COPY reads every value as it should be, else by a stop."""
        heard.total = await arrivals.estimate()
        names = [crossing.pair.source.name for crossing in self.crossings]

        async def read(put: Put) -> int:
            return await arrivals.send(names, put)

        if all(crossing.reads_as_text for crossing in self.crossings):
            passed = await passage.write(read, self.target, into, form="text", heard=heard)
            return replace(passed, dropped=arrivals.dropped)
        stop = Into("pg_temp", ARRIVALS, tuple(names))
        passed = await passage.write(read, self.target, stop, form="text", heard=heard)
        connection = await self.target.raw()
        try:
            async with self.target.transaction():
                moved = await self._inside(into)
        except StepError as error:
            if COMPLAINT not in error.message and not connection.is_closed():
                found = await self._found(self.target, self.reading.tail, error)
                raise found or error from error.__cause__
            raise
        with self.target.translated():
            await connection.execute(f"TRUNCATE {qualified('pg_temp', ARRIVALS)}")
        return Passed(passed.read, moved.written, arrivals.dropped)

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

    async def _explained(self, error: StepError) -> StepError:
        """A value that would have changed on the way, or could not be read, with its column."""
        found = _COMPLAINT.search(error.message)
        if found is None:
            return await self._suspected(error)
        pair = self.crossings[int(found.group(1))].pair
        return StepError(
            f"the source column {pair.source.name!r} ({pair.source.declared}) holds "
            f"{found.group(2)!r}, which the target column {pair.target.name!r} "
            f"({pair.target.declared}) cannot hold without loss; widen it, or convert the value "
            "in `source.query`"
        )

    async def _suspected(self, error: StepError) -> StepError:
        """The server refused a value without telling it: it is looked for in the source again."""
        state = getattr(error.__cause__, "sqlstate", None) or ""
        is_told = "the source column" in error.message or "of the source" in error.message
        if not state.startswith(_VALUE_ERRORS) or (is_told and self.form == "text"):
            return error
        if self.arrivals is None and (found := await self._reread(error)) is not None:
            return found
        if is_told:
            return error
        converted = [
            f"{pair.source.name!r} ({pair.source.declared} to {pair.target.declared})"
            for pair in (crossing.pair for crossing in self.crossings)
            if pair.source.declared != pair.target.declared
        ]
        if not converted or "column" in error.message:
            return error
        return StepError(f"{error.message}; converted columns: {', '.join(converted)}")

    async def _reread(self, error: StepError) -> StepError | None:
        """By another connection of the source: the one that the copy read with has stopped."""
        async with streams.another(self.ctx, self.origin.name) as connector:
            if connector is None:
                return None
            try:
                async with reading.snapshot(connector, self.reading) as tail:
                    await (await connector.raw()).execute("SET LOCAL synchronize_seqscans = off")
                    return await self._found(connector, tail, error)
            except StepError:
                return None  # the first failure is the one to tell

    async def _found(
        self, connector: PostgresConnector, tail: str, error: StepError
    ) -> StepError | None:
        converted = [found for found in self.crossings if found.may_refuse]
        return await diagnosis.find(connector, tail, converted, self.reading.key, error)


async def _together(parts: Sequence[Coroutine[Any, Any, Passed]]) -> list[Passed]:
    """Every stream to its end; the first that fails ends the others and is the one to tell."""
    if len(parts) == 1:
        return [await parts[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except* StepError as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


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
