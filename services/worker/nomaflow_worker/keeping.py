"""What a step keeps between its tries, and of what it could not write: all under the claim."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from nomaflow import batch_retry
from nomaflow.errors import ClaimLostError, StepError
from nomaflow.steps.failed_items import FailedItems
from nomaflow.store import checkpoints, failed_batches
from nomaflow.store.failed_batches import NewFailedBatch
from nomaflow_worker.committer import REFUSED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from nomaflow.store.claims import Claimed
    from nomaflow_worker.tools import Tools

T = TypeVar("T")
log = structlog.get_logger(__name__)

RETRIES = batch_retry.OVERRIDE
"""The word in a run's overrides that makes it a retry of failed batches, and nothing else."""
LONGEST_ERROR = 4_000


class Keeper:
    """The memory of one step of one run."""

    def __init__(self, tools: Tools, claimed: Claimed, step: str, position: int) -> None:
        self._tools, self._claimed = tools, claimed
        self._step, self._position = step, position

    async def checkpoint(self) -> Mapping[str, Any] | None:
        """Read what an earlier try kept."""
        run_id, position = self._claimed.run_id, self._position
        return await self.insist(lambda: checkpoints.read(self._tools.db, run_id, position))

    async def keep(self, state: Mapping[str, Any] | None, failed: Sequence[FailedItems]) -> None:
        """Keep both, secrets taken out; state with one in it is not kept at all."""
        masker = self._tools.secrets.masker()
        safe = None if state is None or masker.value(dict(state)) != dict(state) else state
        rows = []
        for batch in failed:
            whole = [list(batch.items), batch.request]
            items, request = shown = masker.value(whole)
            error = masker.text(batch.error)[:LONGEST_ERROR]
            masked = shown != whole
            rows.append(NewFailedBatch(batch.page, batch.batch, items, error, request, masked))
        held = self._claimed.held
        await self._under_claim(
            lambda: checkpoints.write(
                self._tools.db, held.run_id, held.fence, self._position, safe, rows
            )
        )

    async def begin_anew(self) -> None:
        """Forget what earlier tries kept."""
        held = self._claimed.held
        await self._under_claim(
            lambda: checkpoints.begin_anew(self._tools.db, held.run_id, held.fence, self._position)
        )

    async def due(self) -> list[Due]:
        """Tell what this run is to write again."""
        found = await self.insist(
            lambda: failed_batches.due(self._tools.db, self._claimed.run_id, self._step)
        )
        return [Due(self, batch_id, number) for batch_id, number in found]

    async def read(self, batch_id: UUID) -> failed_batches.Due | None:
        """Read a failed batch with its items."""
        return await self.insist(lambda: failed_batches.read(self._tools.db, batch_id))

    async def settle(self, batch_id: UUID, error: str | None, left: Sequence[Any] | None) -> None:
        """Write down how the retry of one batch went, and what is left of it to write."""
        held, masker = self._claimed.held, self._tools.secrets.masker()
        words = None if error is None else masker.text(error)[:LONGEST_ERROR]
        rest = None
        if left is not None:
            items = list(left)
            shown = masker.value(items)
            rest = failed_batches.Rest(shown, masked=shown != items)
        await self._under_claim(
            lambda: failed_batches.settle(
                self._tools.db, held.run_id, held.fence, batch_id, words, rest
            )
        )

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again while the database is away; the step's own time bounds it."""
        pause = 0.1
        while True:
            try:
                return await ask()
            except REFUSED as error:
                raise StepError(f"history does not take it: {error}", retryable=False) from error
            except (OSError, TimeoutError, *self._tools.db.Error) as error:
                log.warning("a step waits for the database", error=str(error), step=self._step)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    async def _under_claim(self, write: Callable[[], Awaitable[bool]]) -> None:
        if not await self.insist(write):
            raise ClaimLostError("the run is no longer this worker's")


@dataclass(frozen=True, slots=True)
class Due:
    """A failed batch of an earlier run, to be written now."""

    keeper: Keeper
    batch_id: UUID
    batch: int

    async def read(self) -> FailedItems:
        """What was kept of it."""
        found = await self.keeper.read(self.batch_id)
        if found is None:
            raise StepError("the batch was deleted meanwhile", retryable=False)
        if found.masked:
            what = "items were" if found.request is None else "request was"
            raise StepError(
                f"its {what} kept without a secret, or a character that no database takes, that "
                "stood in there, so it is not what the API sent or was sent: run the job again "
                "instead",
                retryable=False,
            )
        return FailedItems(found.page, found.batch, found.payload, "", found.request)

    async def settle(self, error: str | None, left: Sequence[Any] | None = None) -> None:
        """Write down how it went."""
        await self.keeper.settle(self.batch_id, error, left)
