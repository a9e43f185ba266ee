"""Keeps a checkpoint after each page while the next one is being worked on."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from nomaflow.steps.base import StepRunContext
from nomaflow.steps.failed_items import FailedItems
from nomaflow.steps.syncing.tally import Tally

LAST_WORD_SECONDS = 0.5


class Bookkeeper:
    """At most one checkpoint is on its way; a page waits for that of the page before."""

    def __init__(self, ctx: StepRunContext) -> None:
        self._ctx = ctx
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if self._writing is not None and kind is not None:
            # The step ends otherwise than planned: what is whole already is kept all the same,
            # unless that takes longer than the end of a step may.
            await asyncio.wait({self._writing}, timeout=LAST_WORD_SECONDS)
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def page_done(self, tally: Tally) -> None:
        """Keep that the sync has come to the end of a page, with the batches that failed on it."""
        await self.settled()
        failed, tally.waiting = tally.waiting, []
        self._writing = asyncio.create_task(self._keep(tally.checkpoint(), failed))

    async def settled(self) -> None:
        """Wait until the newest checkpoint is kept."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    async def _keep(self, state: dict[str, Any], failed: list[FailedItems]) -> None:
        await self._ctx.keep(state, failed)
