"""A dry run: the first page is read and shown as rows, the target is looked at, nothing written."""

from __future__ import annotations

import json

from nomaflow.connectors.http.client import IDEMPOTENT
from nomaflow.steps import json_values
from nomaflow.steps.base import StepResult, StepRunContext
from nomaflow.steps.counting import counted
from nomaflow.steps.syncing import sync, targets
from nomaflow.steps.syncing.mapping import ItemMap
from nomaflow.steps.syncing.paging import Paging
from nomaflow.steps.syncing.settings import Paginate
from nomaflow.steps.syncing.wishes import Wishes

ROWS_SHOWN = 5


async def rehearse(ctx: StepRunContext, wishes: Wishes) -> StepResult:
    """Say what the sync would do; StepError for whatever would stop it on its first page."""
    writer = await targets.open_writer(
        await ctx.sql(wishes.target.connector), wishes.target, list(wishes.map)
    )
    paging = Paging(wishes.paginate or Paginate(type="link_header"))
    fetcher = sync.fetcher_of(ctx, wishes, paging)
    request = fetcher.request(paging.first())
    if request.method not in IDEMPOTENT:
        where = fetcher.client.shown_address(request)
        would = f"{request.method} {where} would be sent, and its pages written to {writer.shown}"
        output = {"dry_run": True, "executed": False, "would": would}
        ctx.log.info(f"dry run: {would}")
        return StepResult(output, f"dry run: {would}", None)
    page = await fetcher.fetch(paging.first())
    rows = ItemMap(wishes.map, ctx.params).sample(page.items[:ROWS_SHOWN])
    total = "" if page.total is None else f" of {page.total:,}"
    would = (
        f"{counted(len(page.items), 'item')}{total} on the first page would be written to "
        f"{writer.shown}"
    )
    ctx.log.info(f"dry run: {would}")
    shown = [json_values.row(row) for row in rows]
    for number, row in enumerate(shown, 1):
        ctx.log.info(f"dry run: row {number}: {json.dumps(row, ensure_ascii=False)}")
    output = {
        "dry_run": True,
        "executed": False,
        "would": would,
        "records": len(page.items),
        "total": page.total,
        "rows": shown,
    }
    return StepResult(output, f"dry run: {would}", None)
