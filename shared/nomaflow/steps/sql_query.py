"""The `sql_query` step: one statement, or a named query, on a SQL connector."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from nomaflow.connectors import intent, planning, statement
from nomaflow.connectors.sql import Params, Row, SqlConnector, named_query
from nomaflow.errors import NomaflowError, StepError
from nomaflow.steps import json_values
from nomaflow.steps.base import Interrupt, Step, StepResult, StepRunContext
from nomaflow.steps.counting import counted

ROWS_SHOWN = 100
"""Rows that history keeps (Q04); later steps get all that are kept."""

_BATCH = 1000
ROWS_KEPT = 100_000
BYTES_KEPT = 64_000_000
_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(:[A-Za-z]+)?")
# Statements of one word look like a query's name.
_ONE_WORD = frozenset({"analyze", "checkpoint", "vacuum"})
_SUFFIXES = ("", "read", "write")
_READ_ONLY_REFUSAL = "25006"  # read_only_sql_transaction


@dataclass(frozen=True, slots=True)
class Work:
    """The statement to run, whether it was declared as one that only reads, and its values."""

    sql: str
    params: Params
    reads: bool


class SqlQuery(Step):
    """Run one SQL statement, or a named query of the connector, with bound parameters."""

    type_name: ClassVar[str] = "sql_query"
    title: ClassVar[str] = "SQL query"
    dry_runs: ClassVar[bool] = True
    verbatim: ClassVar[tuple[tuple[str, ...], ...]] = (("query",),)
    tuning: ClassVar[frozenset[str]] = frozenset({"params", "fetch"})

    connector: str = Field(min_length=1, description="The SQL connector to use.")
    query: str = Field(
        min_length=1,
        description="One SQL statement with `:name` parameters, or a named query of the "
        "connector: `name`, `name:write`.",
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="Values of the `:name` parameters, always bound."
    )
    fetch: Literal["all", "first", "none"] = Field(
        "all", description="Which rows to keep: all, first or none."
    )
    transaction: bool = Field(
        default=True,
        description="false for statements that refuse a transaction: VACUUM, CREATE INDEX "
        "CONCURRENTLY, CALL that commits.",
    )

    @model_validator(mode="after")
    def _parameters(self) -> SqlQuery:
        if not is_reference(self.query):
            check_parameters(self.query, self.params)
            return self
        name, _, suffix = self.query.strip().partition(":")
        if suffix not in _SUFFIXES:
            raise ValueError(
                f"a named query is `{name}` or `{name}:write`; there is no `:{suffix}`"
            )
        return self

    def interrupt_default(self) -> Interrupt:
        """A statement that only reads may run twice."""
        named = is_reference(self.query) and not self.query.endswith(":write")
        return "retry" if named or intent.only_reads(self.query) else "fail"

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Run the statement on the server and keep its rows for later steps."""
        connector = await ctx.sql(self.connector)
        work = self._work(connector)
        ctx.log.debug("running the statement", sql=work.sql, connector=self.connector)
        started = time.monotonic()
        if ctx.dry_run:
            return await self._rehearse(ctx, connector, work)
        try:
            async with self._block(connector, reads=work.reads):
                output = await self._fetched(ctx, connector, work)
        except StepError as error:
            if work.reads and _READ_ONLY_REFUSAL in error.message:
                error.retryable = False
            raise
        output["elapsed_ms"] = round((time.monotonic() - started) * 1000)
        result = _result(output)
        if output.get("rows_truncated"):
            kept = counted(len(output["rows"]))
            said = f"the query answered {counted(output['row_count'])}; only {kept} are kept"
            ctx.log.warning(said)
        ctx.log.info(result.summary, connector=self.connector, query=self._shown())
        return result

    def _work(self, connector: SqlConnector) -> Work:
        if not is_reference(self.query):
            return Work(self.query, self.params, reads=False)
        query, values = named_query(connector.name, connector.spec, self.query, self.params)
        check_run_parameters(self.query, query.sql, values)
        return Work(query.sql, values, reads=query.operation == "read")

    def _block(self, connector: SqlConnector, *, reads: bool) -> AbstractAsyncContextManager[None]:
        if self.transaction:
            return connector.transaction(read_only=reads)
        return nullcontext()

    async def _fetched(
        self, ctx: StepRunContext, connector: SqlConnector, work: Work
    ) -> dict[str, Any]:
        """Rows are read from a cursor where the statement only reads, so that memory is bounded."""
        if work.reads or intent.only_reads(work.sql):
            return await self._streamed(ctx, connector, work)
        result = await connector.execute(work.sql, work.params)
        if not result.columns:  # it answers no rows, whatever it did
            return {"rows_affected": result.rowcount}
        _warn_of_twins(ctx, result.columns)
        kept = _Kept(self.fetch)
        for row in result.rows:
            kept.add(row)
        reads = result.command in {"SELECT", "SHOW", "EXPLAIN"}
        changed = None if reads and result.rowcount <= len(result.rows) else result.rowcount
        return kept.output(len(result.rows), changed)

    async def _streamed(
        self, ctx: StepRunContext, connector: SqlConnector, work: Work
    ) -> dict[str, Any]:
        kept = _Kept(self.fetch)
        count = 0
        most = 1 if self.fetch == "first" else _BATCH
        async with aclosing(connector.batches(work.sql, work.params, most)) as batches:
            async for columns, rows in batches:
                if not count:
                    _warn_of_twins(ctx, columns)
                count += len(rows)
                for row in rows:
                    kept.add(dict(zip(columns, row, strict=True)))
                if self.fetch == "first":
                    break
        return kept.output(count, None)

    async def _rehearse(
        self, ctx: StepRunContext, connector: SqlConnector, work: Work
    ) -> StepResult:
        """A dry run: what reads is run, what writes is only planned by the server."""
        try:
            if work.reads or intent.only_reads(work.sql):
                async with connector.transaction(read_only=True):
                    return _result(await self._fetched(ctx, connector, work), " (dry run)")
            # MySQL's read-only transactions refuse even the EXPLAIN of a write.
            plain = connector.dialect == "mysql"
            async with nullcontext() if plain else connector.transaction(read_only=True):
                estimate = await planning.estimate(connector, work.sql, work.params)
        except StepError as error:
            if _READ_ONLY_REFUSAL not in error.message:
                raise
            if work.reads:  # a real run of a query that is declared as one that reads fails too
                error.retryable = False
                raise
            estimate = None
        about = "" if estimate is None else f", about {estimate} rows by the server's estimate"
        summary = f"dry run: the statement would run{about}"
        ctx.log.info(summary, connector=self.connector, query=self._shown())
        return StepResult({"dry_run": True, "estimated_rows": estimate}, summary, 0)

    def _shown(self) -> str:
        return self.query if is_reference(self.query) else "inline"


class _Kept:
    """The rows later steps get, up to a bound on their number and size."""

    def __init__(self, fetch: str) -> None:
        self._fetch = fetch
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._full = fetch == "none"

    def add(self, row: Row) -> None:
        if self._full:
            return
        kept = json_values.row(row)
        self._bytes += len(json.dumps(kept, ensure_ascii=False))
        self._full = self._bytes > BYTES_KEPT or len(self._rows) + 1 >= ROWS_KEPT
        if self._bytes <= BYTES_KEPT:
            self._rows.append(kept)
        self._full = self._full or self._fetch == "first"

    def output(self, count: int, changed: int | None) -> dict[str, Any]:
        out: dict[str, Any] = {"row_count": count}
        if changed is not None:
            out["rows_affected"] = changed
        if self._fetch == "all":
            out["rows"] = self._rows
            if len(self._rows) < count:
                out["rows_truncated"] = True
        if self._fetch != "none":
            out["first_row"] = self._rows[0] if self._rows else None
        return out


def check_parameters(sql: str, params: Params) -> None:
    """ValueError naming a parameter that the SQL text uses and nobody gives, or the reverse.

    Which database will read the text is not known yet: it is right if it is for one of them.
    """
    given = set(params or {})
    readings = statement.readings(sql)
    if given in readings:
        return
    try:
        names = readings[0] if readings else frozenset(statement.parse(sql).names)
    except NomaflowError as error:
        raise ValueError(error.message) from None
    if missing := sorted(names - given):
        raise ValueError(f"the query uses `:{missing[0]}`; give it in `params`")
    if unused := sorted(given - names):
        raise ValueError(f"`params` gives `{unused[0]}`, and the query has no `:{unused[0]}`")


def check_run_parameters(reference: str, sql: str, params: Params) -> None:
    """The same for a named query, which is only known when the step runs; StepError."""
    try:
        check_parameters(sql, params)
    except ValueError as error:
        raise StepError(f"query {reference!r}: {error}", retryable=False) from None


def _warn_of_twins(ctx: StepRunContext, columns: Sequence[str]) -> None:
    """A row is a table by column name: of two columns of one name it holds one."""
    for name in dict.fromkeys(name for name in columns if list(columns).count(name) > 1):
        ctx.log.warning(
            f"the query answers two columns named `{name}`, and only the last of them is kept; "
            "give each a name of its own with AS"
        )


def is_reference(query: str) -> bool:
    """Tell whether a query is the name of one that the connector keeps, not SQL text."""
    text = query.strip()
    return bool(_REFERENCE.fullmatch(text)) and text.lower() not in _ONE_WORD


def _result(output: dict[str, Any], suffix: str = "") -> StepResult:
    shown = None
    if len(output.get("rows") or ()) > ROWS_SHOWN:
        shown = {**output, "rows": output["rows"][:ROWS_SHOWN], "rows_truncated": True}
    changed = output.get("rows_affected")
    if changed is not None:
        words = f"{counted(changed)} affected{suffix}"
        return StepResult(output, words, changed, shown=shown)
    return StepResult(output, f"{counted(output['row_count'])}{suffix}", None, shown=shown)
