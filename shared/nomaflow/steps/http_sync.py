"""The `http_sync` step: a paged HTTP API into a table, page by page and batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import httpx
from pydantic import Field, model_validator

from nomaflow.steps.base import Interrupt, Step, StepResult, StepRunContext
from nomaflow.steps.http import SECRETS, HttpStep
from nomaflow.steps.syncing import rehearsal, retries, sync
from nomaflow.steps.syncing.settings import Expression, LogTable, Paginate, Target, Watermark

_ENDS = ("total", "has_more", "next")


class HttpSync(Step):
    """Read a paged HTTP API to its end and write every item into a table, in batches."""

    type_name: ClassVar[str] = "http_sync"
    title: ClassVar[str] = "HTTP sync"
    dry_runs: ClassVar[bool] = True
    tuning: ClassVar[frozenset[str]] = frozenset({"batch_size", "on_error"})
    verbatim: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("items",),
        ("map",),
        *(("paginate", name) for name in _ENDS),
    )
    secret: ClassVar[tuple[tuple[str, ...], ...]] = tuple(("request", *path) for path in SECRETS)

    request: HttpStep = Field(description="The request of one page: the fields of the http step.")
    paginate: Paginate | None = Field(
        None, description="How the list is cut into pages; absent: one request is all."
    )
    items: Expression | None = Field(
        None, description="Where the answer holds the list; absent: the body is the list."
    )
    map: dict[str, Expression] = Field(
        min_length=1, description="Column = expression over one item."
    )
    target: Target = Field(description="Where rows go.")
    batch_size: int = Field(
        1_000, ge=1, le=100_000, description="Items written by one statement, all or none of them."
    )
    on_error: Literal["stop", "continue"] = Field(
        "stop",
        description="A batch that cannot be written or a page that cannot be fetched ends the "
        "step, or is kept for a later retry while the sync goes on; the run is partial then.",
    )
    watermark: Watermark | None = Field(
        None, description="How far this run has read, written when the whole run has succeeded."
    )
    log_table: LogTable | None = Field(
        None, description="A table of yours that gets a row for each run."
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name in self.target.key:
            if name not in self.map:
                raise ValueError(f"the key column `{name}` is not in the map")
        column = self.watermark.column if self.watermark else None
        if column is not None and column not in self.map:
            raise ValueError(f"the watermark's column `{column}` is not in the map")
        if self.paginate is not None:
            written = set(self.request.query) | _query_of(self.request.url)
            for name in self.paginate.own_params:
                if name in written:
                    raise ValueError(
                        f"the query parameter `{name}` belongs to the pages; leave it out of the "
                        "request, or give `paginate` another name for it"
                    )
        return self

    def interrupt_default(self) -> Interrupt:
        """Going on is harmless where rows have a key, and reading has no effect on the API."""
        # Also asked of settings as they were written: tables, or a token for a whole table.
        target: Any = self.target
        request: Any = self.request
        if isinstance(request, HttpStep):
            reads = request.interrupt_default() == "retry"
        else:
            reads = isinstance(request, Mapping) and _reads(request)
        has_key = target.get("key") if isinstance(target, Mapping) else getattr(target, "key", ())
        return "retry" if has_key and reads else "fail"

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Sync; StepError when it cannot be done, with what was done until then as its output."""
        if ctx.retries_batches:
            return await retries.write(ctx, self)
        if ctx.dry_run:
            return await rehearsal.rehearse(ctx, self)
        return await sync.carry_out(ctx, self)


def _query_of(url: str) -> set[str]:
    try:
        return set(httpx.URL(url).params)
    except httpx.InvalidURL:
        return set()


def _reads(request: Mapping[str, Any]) -> bool:
    return str(request.get("method", "GET")).upper() in {"GET", "HEAD", "OPTIONS"}
