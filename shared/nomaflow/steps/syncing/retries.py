"""Writes failed batches of an earlier run again, by the settings of the run that failed on them."""

from __future__ import annotations

from nomaflow.errors import StepError
from nomaflow.steps.base import DueBatch, StepResult, StepRunContext
from nomaflow.steps.counting import counted
from nomaflow.steps.syncing import targets
from nomaflow.steps.syncing.largest import Largest
from nomaflow.steps.syncing.mapping import ItemMap
from nomaflow.steps.syncing.tally import Tally
from nomaflow.steps.syncing.wishes import Wishes
from nomaflow.steps.syncing.writing import Writer


async def write(ctx: StepRunContext, wishes: Wishes) -> StepResult:
    """Write every batch that is due; one that fails again stays for another retry."""
    writer = await targets.open_writer(
        await ctx.sql(wishes.target.connector), wishes.target, list(wishes.map)
    )
    tally = Tally("", Largest())
    due = await ctx.due_batches()
    mapping = ItemMap(wishes.map, ctx.params)
    for number, batch in enumerate(due, 1):
        error = await _write_one(batch, writer, mapping, tally)
        await batch.settle(error)
        if error is None:
            ctx.log.info(f"batch {batch.batch} is written")
        else:
            ctx.log.warning(f"batch {batch.batch} failed again: {error}")
        percent = round(100 * number / len(due), 1)
        ctx.progress(
            tally.records,
            None,
            "records",
            batch=number,
            batches=len(due),
            percent=percent,
            last=number == len(due),
        )
    failed = f"{counted(tally.failed, 'batch', 'batches')} failed again" if tally.failed else None
    return StepResult(
        tally.output(), tally.summary(), tally.inserted + tally.updated, reason=failed
    )


async def _write_one(due: DueBatch, writer: Writer, mapping: ItemMap, tally: Tally) -> str | None:
    """Write one batch; the words of what is wrong, or None. A target out of reach is raised."""
    items = []
    try:
        items = list(await due.items())
        (batch,) = await mapping.batches(items, max(len(items), 1))
        if batch.error is not None:
            raise StepError(batch.error)
        written = await writer.write(batch.columns)
    except StepError as error:
        if error.category != "error":
            raise
        tally.lost(None, items, error.message)
        return error.message
    tally.wrote(len(items), written)
    return None
