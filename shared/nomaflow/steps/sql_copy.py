"""The `sql_copy` step: stream rows from one table or query into another table."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.base import Interrupt, Step, StepResult, StepRunContext
from nomaflow.steps.copying.orders import Dress, Limits, Orders, Outcome, Plan
from nomaflow.steps.copying.postgres import target as postgres_target
from nomaflow.steps.copying.settings import Source, Target
from nomaflow.steps.counting import counted
from nomaflow.steps.vanishing import MaxDelete

_OTHERS = ("mysql", "sqlite")


class SqlCopy(Step):
    """Copy rows from a source table or query into a target table, streaming."""

    type_name: ClassVar[str] = "sql_copy"
    title: ClassVar[str] = "SQL copy"
    dry_runs: ClassVar[bool] = True
    tuning: ClassVar[frozenset[str]] = frozenset(
        {"batch_size", "min_rows", "max_delete", "streams"}
    )
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
    max_delete: MaxDelete | None = Field(
        None,
        description="Rows that overwrite may remove from the target: a number, or a share as 20%.",
    )
    check_rows: bool = Field(
        default=True, description="Compare the rows read with the rows written before keeping them."
    )
    streams: Literal["auto", 1, 2, 4] = Field(
        "auto",
        description="Parallel streams between two PostgreSQL servers; auto takes two for a big "
        "table that is not copied straight into its target.",
    )
    transform: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function of the plugins, called with each row as a dict; the dict it "
        "answers is copied, None drops the row.",
    )
    type_coercion: Literal["none", "jde"] = Field(
        "none",
        description="jde: whole numbers become bigint, unknown types text, names small letters.",
    )
    decimal_mode: Literal["preserve", "truncate"] = Field(
        "preserve",
        description="With jde, what becomes of decimals: kept, or cut to whole numbers.",
    )
    strip_both_columns: tuple[str, ...] = Field(
        (), description="Text columns of the source whose blanks at both ends are cut off."
    )

    @model_validator(mode="after")
    def _truncates_with_jde(self) -> SqlCopy:
        if self.decimal_mode == "truncate" and self.type_coercion != "jde":
            raise ValueError(
                '`decimal_mode = "truncate"` does nothing without `type_coercion = "jde"`; add it, '
                "or cut the numbers in `source.query`"
            )
        return self

    def interrupt_default(self) -> Interrupt:
        """Repeating a copy changes nothing more, save that appended rows may be in already."""
        return "fail" if self.mode == "append" else "retry"

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Copy; the target changes in one commit or not at all."""
        started = time.monotonic()
        source, target = await self._ends(ctx)
        orders = self._orders(ctx, source, target)
        room = _room(target)
        if ctx.dry_run:
            plan: Plan = await room.rehearse(orders, source, target)
            return self._planned(ctx, plan)
        outcome: Outcome = await room.copy(orders, source, target)
        elapsed = round((time.monotonic() - started) * 1000)
        passed, changes = outcome.passed, outcome.changes
        output = {
            "source_rows": passed.read,
            "target_rows": passed.written,
            "elapsed_ms": elapsed,
            "mode": self.mode,
            "path": outcome.path,
            "inserted": changes.inserted,
            "updated": changes.updated,
            "deleted": changes.deleted,
        }
        if self.transform:
            output["rows_dropped"] = passed.dropped
        summary = _summary(outcome)
        ctx.log.info(f"{source.name} to {target.name}: {self._target_shown()} · {summary}")
        return StepResult(output, summary, passed.written)

    async def _ends(self, ctx: StepRunContext) -> tuple[SqlConnector, SqlConnector]:
        """Both connectors; their connections are taken in the order of the names.

        Two copies in opposite directions through small pools would otherwise wait for each other.
        """
        names = sorted({self.source.connector, self.target.connector})
        opened = {name: await ctx.sql(name) for name in names}
        for name in names:
            await opened[name].raw()
            await postgres_target.open_text_forms(opened[name])
        source, target = opened[self.source.connector], opened[self.target.connector]
        if source is target and (self.transform or not isinstance(source, PostgresConnector)):
            # Reading and writing at once needs a connection for each.
            source = await ctx.sql(self.source.connector)
            await postgres_target.open_text_forms(source)
        return source, target

    def _orders(self, ctx: StepRunContext, source: SqlConnector, target: SqlConnector) -> Orders:
        dress = Dress(
            jde=self.type_coercion == "jde",
            truncate=self.decimal_mode == "truncate",
            strip=self.strip_both_columns,
            trim=source.spec.trim_strings,
            coalesce=target.spec.coalesce_nulls,
        )
        return Orders(
            ctx,
            self.source,
            self.target,
            self.mode,
            self.columns,
            self._limits(),
            self.batch_size,
            self.streams,
            self.transform,
            dress,
        )

    def _limits(self) -> Limits:
        return Limits(self.min_rows, self.max_delete, self.check_rows)

    def _planned(self, ctx: StepRunContext, plan: Plan) -> StepResult:
        rows = counted(plan.source_rows)
        how = {"overwrite": "replace", "append": "be added to", "upsert": "be merged into"}
        verb, into = how[self.mode], f"the {counted(plan.target_rows)} of {plan.target}"
        if plan.is_new:
            verb, into = "fill", f"a new table {plan.target}"
        summary = f"dry run: {rows} would {verb} {into}"
        if plan.changes is not None:
            summary += (
                f" · {plan.changes.inserted} new · up to {plan.changes.updated} changed"
                f" · {plan.changes.deleted} gone"
            )
        ctx.log.info(summary)
        ctx.log.info(f"path: {plan.path} ({plan.why})")
        output = {**plan.output(), "mode": self.mode}
        if refusal := self._limits().refusal(plan, self.source.connector):
            ctx.log.warning(f"a real run would stop: {refusal}")
            output["refusal"] = refusal
        return StepResult(output, summary, 0)

    def _target_shown(self) -> str:
        end = self.target
        return f"{end.schema_name}.{end.table}" if end.schema_name else end.table


def _room(target: SqlConnector) -> Any:
    """Drivers are loaded when a copy first needs them: most are optional."""
    if isinstance(target, PostgresConnector):
        return postgres_target
    if target.dialect not in _OTHERS:
        raise StepError(
            f"sql_copy writes PostgreSQL, MySQL, MariaDB and SQLite; {target.name!r} is a "
            f"{target.dialect} database",
            retryable=False,
        )
    return import_module(f"nomaflow.steps.copying.{target.dialect}.target")


def _summary(outcome: Outcome) -> str:
    passed, changes = outcome.passed, outcome.changes
    said = f"{counted(passed.read)} copied"
    if passed.dropped:
        said = f"{counted(passed.read)} read · {passed.dropped} dropped"
    if outcome.path in {"in_place", "upsert"}:
        said += f" · {changes.inserted} new · {changes.updated} changed"
        said += f" · {changes.deleted} gone" if outcome.path == "in_place" else ""
    return said
