"""Writes failed batches of an earlier run again, by the settings of the run that failed on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow.errors import ClaimLostError, StepError
from nomaflow.steps.base import StepResult, StepRunContext
from nomaflow.steps.counting import counted
from nomaflow.steps.failed_items import DueBatch, FailedItems
from nomaflow.steps.syncing import sync, targets
from nomaflow.steps.syncing.largest import Largest
from nomaflow.steps.syncing.mapping import Batch, ItemMap
from nomaflow.steps.syncing.paging import Paging
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
    retry = _Retry(ctx, wishes, writer, tally, ItemMap(wishes.map, ctx.params))
    again = 0
    for number, batch in enumerate(due, 1):
        error, left = await retry.of_one(batch)
        await batch.settle(error, left)
        again += error is not None
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
    failed = f"{counted(again, 'batch', 'batches')} failed again" if again else None
    return StepResult(
        tally.output(), tally.summary(), tally.inserted + tally.updated, reason=failed
    )


@dataclass(slots=True)
class _Retry:
    """One try of all that is due."""

    ctx: StepRunContext
    wishes: Wishes
    writer: Writer
    tally: Tally
    mapping: ItemMap

    async def of_one(self, due: DueBatch) -> tuple[str | None, Sequence[Any] | None]:
        """Write one batch: what is wrong with it, and what is left of it; None: nothing, all of it.

        A target out of reach is raised; an API out of reach is wrong with this batch alone.
        """
        page = None
        try:
            kept = await due.read()
            page = kept.page
            items = kept.items if kept.request is None else await self._fetched(kept)
        except ClaimLostError:
            raise
        except StepError as error:
            self.tally.lost(page, [], error.message)
            return error.message, None
        words: str | None = None
        left: list[Any] = []
        for batch in await self.mapping.batches(items, self._size(kept)):
            wrong = await self._wrong_with(batch)
            if wrong is not None:
                words = words or wrong
                left.extend(batch.items)
                self.tally.lost(kept.page, batch.items, wrong)
        return words, left if words is not None and kept.request is not None else None

    def _size(self, kept: FailedItems) -> int:
        """A batch that was kept is one again; a page is cut as the sync cuts it."""
        return self.wishes.batch_size if kept.request is not None else max(len(kept.items), 1)

    async def _fetched(self, kept: FailedItems) -> Sequence[Any]:
        assert kept.request is not None  # noqa: S101  the caller has looked
        fetcher = sync.fetcher_of(self.ctx, self.wishes, Paging(self.wishes.paginate or sync.WHOLE))
        page = await fetcher.fetch_again(kept.page or 1, kept.request)
        self.tally.pages += 1
        return page.items

    async def _wrong_with(self, batch: Batch) -> str | None:
        try:
            if batch.error is not None:
                raise StepError(batch.error)
            written = await self.writer.write(batch.columns)
        except StepError as error:
            if error.category != "error":
                raise
            return error.message
        self.tally.wrote(len(batch.items), written)
        return None
