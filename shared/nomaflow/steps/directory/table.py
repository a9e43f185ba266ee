"""A table that follows a directory: rows wait in a stash until all are there."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps import json_values
from nomaflow.steps.base import StepLog
from nomaflow.steps.directory.batch import Batch, Failures
from nomaflow.steps.directory.shape import Shape, look
from nomaflow.steps.directory.statements import Statements
from nomaflow.steps.directory.statements_elsewhere import MysqlStatements, SqliteStatements
from nomaflow.steps.directory.target import Changes, TableSettings, check_deletion, twice
from nomaflow.steps.directory.values import Kind

_STATEMENTS = {"postgresql": Statements, "mysql": MysqlStatements, "sqlite": SqliteStatements}
# What a row may be refused for by itself. PostgreSQL: its values (class 22), a constraint
# (class 23), a trigger that raises (P0001). MySQL's numbers: NULL, duplicate, range, cut, type,
# length, foreign key, check, signal. Anything else is not the row's fault.
_POSTGRES_FAULTS = ("22", "23", "P0001")
_MYSQL_FAULTS = frozenset({1048, 1062, 1216, 1264, 1265, 1292, 1364, 1366, 1406, 1411, 1452})
_MYSQL_CHECKS = frozenset({1644, 3819, 4025, 3140})


class Table:
    """See `Target`. Not safe for two statements at once."""

    def __init__(
        self, connector: SqlConnector, settings: TableSettings, failures: Failures, log: StepLog
    ) -> None:
        self._connector, self._settings = connector, settings
        self._failures, self._log = failures, log
        self._shape: Shape | None = None
        self._made: Statements | None = None
        self._places: tuple[int, ...] = ()

    async def offered(self) -> Sequence[str]:
        shape = await self._look()
        return [name for name, column in shape.columns.items() if not column.is_computed]

    async def kinds(self, columns: Sequence[str]) -> dict[str, Kind]:
        shape = await self._look()
        self._check(shape, columns)
        return {name: shape.columns[name].kind for name in columns}

    async def begin(self, columns: Sequence[str], *, rehearsal: bool) -> None:  # noqa: ARG002  a stash changes nothing
        shape = await self._look()
        self._places = tuple(columns.index(name) for name in self._settings.key)
        stash = f"nomaflow_directory_{secrets.token_hex(6)}"
        made = _STATEMENTS[self._connector.dialect](shape, self._settings, columns, stash)
        if self._connector.dialect == "sqlite":
            connection = await self._connector.raw()
            await connection.create_function("nomaflow_unhex", 1, _unhex, deterministic=True)
        self._made = made
        for sql in made.create():
            await self._connector.execute(sql)

    async def add(self, batch: Batch) -> None:
        batch = self._with_key(batch)
        size = self._statements.batch_rows
        for start in range(0, len(batch), size):
            await self._add(batch.part(start, start + size))

    async def keep(self, batch: Batch) -> None:
        for at in range(len(batch)):
            one = batch.part(at, at + 1)
            if all(one.columns[place][0] is not None for place in self._places):
                await self._keep(one)

    async def plan(self) -> Changes:
        await self._ready()
        found = await self._one(self._statements.comparison())
        gone, total = await self._gone()
        refusal = None
        try:
            check_deletion(self._settings, (await self._look()).shown, gone, total)
        except StepError as error:
            refusal = error.message
        examples = {
            word: [json_values.row(row) for row in await self._connector.all(sql)]
            for word, sql in self._statements.examples().items()
        }
        inserted, updated, there = (int(found[k]) for k in ("inserted", "updated", "there"))
        unchanged = there - updated
        return Changes(inserted, updated, unchanged, gone, examples=examples, refusal=refusal)

    async def apply(self) -> Changes:
        statements = self._statements
        await self._ready()
        async with self._connector.transaction():
            await self._turn(statements, statements.lock())
            gone, total = await self._gone()
            check_deletion(self._settings, (await self._look()).shown, gone, total)
            rows = int(await self._connector.scalar(statements.rows()))
            inserted, updated = await self._upsert(None)
            fit = int(await self._connector.scalar(statements.rows()))
            if rows and not fit:
                raise StepError(
                    f"none of the {rows} rows fits {(await self._look()).shown}: "
                    f"{self._failures.examples[0]}; nothing was changed",
                    retryable=False,
                )
            if gone:
                await self._connector.execute(statements.deletion())
        return Changes(inserted, updated, fit - inserted - updated, gone)

    async def end(self) -> None:
        made, self._made = self._made, None
        if made is None:
            return
        with suppress(StepError, TimeoutError):
            async with asyncio.timeout(1):
                await self._turn(made, made.unlock())
                for sql in made.drop():
                    await self._connector.execute(sql)

    @property
    def _statements(self) -> Statements:
        if self._made is None:
            raise StepError("rows came before `begin`")
        return self._made

    async def _turn(self, statements: Statements, sql: str | None) -> None:
        """Wait for our turn with the table, or let the next one have it."""
        if sql is not None:
            await self._connector.execute(sql, {"name": statements.lock_name()})

    async def _look(self) -> Shape:
        if self._shape is None:
            self._shape = await look(self._connector, self._settings)
        return self._shape

    async def _one(self, sql: str, params: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        return await self._connector.first(sql, params) or {}

    def _check(self, shape: Shape, columns: Sequence[str]) -> None:
        for name in columns:
            found = shape.columns.get(name)
            if found is None:
                there = ", ".join(shape.columns)
                raise StepError(
                    f"{shape.shown} has no column {name!r}; its columns: {there}", retryable=False
                )
            if found.is_computed:
                raise StepError(
                    f"the column {name!r} of {shape.shown} is computed by the database",
                    retryable=False,
                )
        if missing := [name for name in self._settings.key if name not in columns]:
            raise StepError(f"no attribute fills the key column {missing[0]!r}", retryable=False)
        flag = self._settings.deletion_column
        if flag is None:
            return
        if flag in columns:
            raise StepError(
                f"deletion_column {flag!r} is also filled from an attribute", retryable=False
            )
        column = shape.columns.get(flag)
        if column is None or column.flag is None:
            what = "there is none of that name" if column is None else "it is none of them"
            raise StepError(
                f"deletion_column {flag!r} of {shape.shown} must be a truth value, a number or a "
                f"time; {what}",
                retryable=False,
            )

    def _with_key(self, batch: Batch) -> Batch:
        keyed = [
            all(batch.columns[place][at] is not None for place in self._places)
            for at in range(len(batch))
        ]
        if all(keyed):
            return batch
        named = ", ".join(self._settings.key)
        for name, has_key in zip(batch.names, keyed, strict=True):
            if not has_key:
                self._failures.note(name, f"it has no value for the key ({named})")
        return batch.only(keyed)

    async def _add(self, batch: Batch) -> None:
        """One statement; rows that it refuses are found by halving."""
        if not len(batch):
            return
        statements = self._statements
        try:
            await self._connector.execute(statements.add(), statements.values(batch))
        except StepError as error:
            if not is_row_fault(error):
                raise
            if len(batch) > 1:
                for half in batch.halves():
                    await self._add(half)
                return
            self._failures.note(batch.names[0], why(error))
            await self._keep(batch)

    async def _keep(self, batch: Batch) -> None:
        statements = self._statements
        try:
            await self._connector.execute(statements.keep(), statements.values(batch))
        except StepError as error:
            if not is_row_fault(error):
                raise

    async def _ready(self) -> None:
        """Before anything is compared: each key is there once."""
        statements = self._statements
        for sql in statements.prepared():
            await self._connector.execute(sql)
        found = await self._connector.first(statements.twice())
        if found is None:
            return
        values = {f"k{at}": found[name] for at, name in enumerate(self._settings.key)}
        rows = await self._connector.all(statements.entries_of(), values)
        shown = ", ".join(f"{name} = {found[name]!r}" for name in self._settings.key)
        raise twice(self._log, shown, [row["entry"] for row in rows])

    async def _gone(self) -> tuple[int, int]:
        """How many rows the directory no longer has, of how many."""
        if self._settings.deletion == "none":
            return 0, 0
        found = await self._one(self._statements.gone())
        return int(found["gone"]), int(found["total"])

    async def _upsert(self, between: tuple[int, int] | None) -> tuple[int, int]:
        """All rows at once; those that the table refuses are found by halving, the others stay."""
        statements = self._statements
        part = statements.between(*between) if between else ""
        counts = {"inserted": 0, "updated": 0}
        try:
            async with self._connector.transaction():
                for sql, meaning in statements.upsert(part):
                    result = await self._connector.execute(sql)
                    if meaning == "both":
                        row = result.first() or {}
                        counts = {name: int(row[name]) for name in counts}
                    else:
                        counts[meaning] = result.rowcount
        except StepError as error:
            if not is_row_fault(error):
                raise
            first, last = between or await self._span()
            if first == last:
                await self._leave_out(first, error)
                return 0, 0
            middle = (first + last) // 2
            one = await self._upsert((first, middle))
            two = await self._upsert((middle + 1, last))
            return one[0] + two[0], one[1] + two[1]
        return counts["inserted"], counts["updated"]

    async def _span(self) -> tuple[int, int]:
        found = await self._one(self._statements.span())
        return int(found["first"]), int(found["last"])

    async def _leave_out(self, number: int, error: StepError) -> None:
        statements = self._statements
        name = await self._connector.scalar(statements.entry_of(), {"number": number})
        if name is not None:
            await self._connector.execute(statements.leave_out(), {"number": number})
            self._failures.note(str(name), why(error))


def is_row_fault(error: StepError) -> bool:
    """Whether a statement failed for a row's own values, so that others may go on."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.IntegrityError | sqlite3.DataError)
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str) and state.startswith(_POSTGRES_FAULTS):
        return True
    number = cause.args[0] if cause is not None and cause.args else None
    return number in _MYSQL_FAULTS or number in _MYSQL_CHECKS


def why(error: StepError) -> str:
    """The database's own words."""
    cause = error.__cause__
    return str(cause.args[-1] if cause is not None and cause.args else error.message)


def _unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text.removeprefix("\\x"))
