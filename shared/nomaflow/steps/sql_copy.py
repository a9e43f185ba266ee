"""The `sql_copy` step: stream rows from one table or query into another table."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from nomaflow.connectors.postgres import PostgresConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.base import Interrupt, Step, StepResult, StepRunContext
from nomaflow.steps.copying.postgres import catalog, columns, guard, modes, reading
from nomaflow.steps.copying.postgres.catalog import Table
from nomaflow.steps.copying.postgres.load import Load
from nomaflow.steps.copying.postgres.modes import Limits, Outcome, Work
from nomaflow.steps.copying.postgres.reading import TEXT_FORMS
from nomaflow.steps.copying.settings import UNAVAILABLE, Source, Target, offered
from nomaflow.steps.counting import counted


class SqlCopy(Step):
    """Copy rows from a source table or query into a target table, streaming."""

    type_name: ClassVar[str] = "sql_copy"
    title: ClassVar[str] = "SQL copy"
    dry_runs: ClassVar[bool] = True
    verbatim: ClassVar[tuple[tuple[str, ...], ...]] = (("source", "query"), ("source", "where"))

    source: Source = Field(description="Where rows come from.")
    target: Target = Field(description="Where rows go.")
    mode: Literal["overwrite", "append", "upsert"] = Field(
        "overwrite",
        description="overwrite: the target equals the source afterwards and is never seen empty; "
        "append: rows are added; upsert: inserted or updated by the target's primary key.",
    )
    batch_size: int = Field(
        10_000, ge=1, le=1_000_000, description="Rows that count as one batch in progress reports."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Target column to source column; absent: columns meet by name.",
    )
    min_rows: int = Field(
        0, ge=0, description="Fewer rows at the source fail the step before anything changes."
    )
    max_delete: (
        Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?%$")] | Annotated[int, Field(ge=0)] | None
    ) = Field(
        None,
        description="Rows that overwrite may remove from the target: a number, or a share as 20%.",
    )
    check_rows: bool = Field(
        default=True, description="Compare the rows read with the rows written before keeping them."
    )
    streams: Literal["auto", 1, 2, 4] = Field(
        "auto", description="Parallel streams; this version uses one."
    )
    transform: str | None = Field(
        None, description="module:function called for each row. Not available in this version."
    )
    type_coercion: Literal["none", "jde"] = Field("none", description="Only none in this version.")
    decimal_mode: Literal["preserve", "truncate"] = Field(
        "preserve", description="Only preserve in this version."
    )
    strip_both_columns: tuple[str, ...] = Field((), description="Not available in this version.")

    @field_validator(*UNAVAILABLE, mode="before")
    @classmethod
    def _available(cls, value: Any, info: ValidationInfo) -> Any:
        return offered(str(info.field_name), value)

    def interrupt_default(self) -> Interrupt:
        """Repeating a copy changes nothing more, save that appended rows may be in already."""
        return "fail" if self.mode == "append" else "retry"

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Copy; the target changes in one commit or not at all."""
        started = time.monotonic()
        source, target = await self._ends(ctx)
        work, table = await self._prepared(ctx, source, target)
        if ctx.dry_run:
            return await self._rehearse(work, table)
        shared = self.mode == "append"
        await guard.take_turn(target, work.schema, work.name, shared=shared, log=ctx.log)
        # Once more, now that no other copy changes it.
        work, table = await self._prepared(ctx, source, target)
        outcome = await self._copied(work, table)
        elapsed = round((time.monotonic() - started) * 1000)
        output = {
            "source_rows": outcome.source_rows,
            "target_rows": outcome.target_rows,
            "elapsed_ms": elapsed,
            "mode": self.mode,
            "path": outcome.path,
            "inserted": outcome.changes.inserted,
            "updated": outcome.changes.updated,
            "deleted": outcome.changes.deleted,
        }
        summary = _summary(outcome)
        ctx.log.info(f"{work.load.reading.shown} to {target.name}: {work.shown} · {summary}")
        return StepResult(output, summary, outcome.target_rows)

    async def _ends(self, ctx: StepRunContext) -> tuple[PostgresConnector, PostgresConnector]:
        """Both connectors; their connections are taken in the order of the names.

        Two copies in opposite directions through small pools would otherwise wait for each other.
        """
        names = sorted({self.source.connector, self.target.connector})
        opened = {name: _postgres(await ctx.sql(name)) for name in names}
        for name in names:
            connection = await opened[name].raw()
            with opened[name].translated():
                await connection.execute(TEXT_FORMS)
        return opened[self.source.connector], opened[self.target.connector]

    async def _prepared(
        self, ctx: StepRunContext, source: PostgresConnector, target: PostgresConnector
    ) -> tuple[Work, Table | None]:
        """Look at both ends; StepError for whatever can be known before rows move."""
        described = await reading.describe(source, self.source)
        connection = await target.raw()
        with source.translated():
            here = await catalog.database(await source.raw())
        with target.translated():
            there = await catalog.database(connection)
            table = await catalog.table(connection, self.target.schema_name, self.target.table)
            schema = self.target.schema_name or await connection.fetchval("SELECT current_schema()")
        if table is None and schema is None:
            raise StepError(f"connector {target.name!r} has no schema to create tables in")
        same = here.identity == there.identity
        if same and table and described.table and described.table.oid == table.oid:
            raise StepError(
                f"{table.shown} would be copied onto itself: source and target are one table",
                retryable=False,
            )
        one_server = same and here.role == there.role
        load = Load(ctx, source, target, described, one_server, self.batch_size)
        limits = Limits(self.min_rows, self.max_delete, self.check_rows)
        where = (table.schema, table.name) if table else (schema, self.target.table)
        work = Work(load, *where, self.columns, limits)
        if table is not None:
            self._refuse(table, target.name)
            pairs = columns.match(described.columns, table, self.columns, described.shown)
            work = replace(work, load=await load.paired(pairs, same_database=same))
            self._refuse_keyless(table, work.load.names)
        elif self.mode != "overwrite":
            raise StepError(
                f"the target table {work.shown} is not in {target.name!r}; {self.mode} needs one"
            )
        return work, table

    async def _copied(self, work: Work, table: Table | None) -> Outcome:
        if table is None:
            return await modes.create(work)
        match self.mode:
            case "append":
                return await modes.append(work, table)
            case "upsert":
                return await modes.upsert(work, table)
            case _:
                return await modes.overwrite(work, table)

    def _refuse(self, table: Table, connector: str) -> None:
        allowed = "rpf" if self.mode == "append" else "rp"
        if table.kind not in allowed:
            kind = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
            what = kind.get(table.kind, "no table")
            raise StepError(
                f"the target {table.shown} of {connector!r} is {what}; {self.mode} needs a table"
            )

    def _refuse_keyless(self, table: Table, names: tuple[str, ...]) -> None:
        if self.mode != "upsert":
            return
        if not table.primary_key:
            raise StepError(f"upsert needs a primary key, and {table.shown} has none")
        if missing := [name for name in table.primary_key if name not in names]:
            raise StepError(
                f"upsert needs every column of the primary key of {table.shown}, and "
                f"{missing[0]!r} is not copied"
            )

    async def _rehearse(self, work: Work, table: Table | None) -> StepResult:
        """A dry run: both ends are counted, nothing is written."""
        load = work.load
        rows = await reading.count(load.source, load.reading)
        before = 0
        if table is not None:
            before = await reading.rows_of(load.target, table)
        how = {"overwrite": "replace", "append": "be added to", "upsert": "be merged into"}
        into = f"the {counted(before)} of {work.shown}" if table else f"a new table {work.shown}"
        verb = how[self.mode] if table else "fill"
        summary = f"dry run: {counted(rows)} would {verb} {into}"
        load.ctx.log.info(summary)
        output = {"dry_run": True, "source_rows": rows, "target_rows": before, "mode": self.mode}
        return StepResult(output, summary, 0)


def _postgres(connector: SqlConnector) -> PostgresConnector:
    if not isinstance(connector, PostgresConnector):
        raise StepError(
            f"sql_copy between {connector.dialect} databases is not available in this version",
            retryable=False,
        )
    return connector


def _summary(outcome: Outcome) -> str:
    said = f"{counted(outcome.source_rows)} copied"
    changes = outcome.changes
    if outcome.path in {"in_place", "upsert"}:
        said += f" · {changes.inserted} new · {changes.updated} changed"
        said += f" · {changes.deleted} gone" if outcome.path == "in_place" else ""
    return said
