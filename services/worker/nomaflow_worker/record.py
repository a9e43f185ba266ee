"""What a chain writes: one move at a time, outlasting a restart of PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import structlog

from nomaflow.lifecycle import RunStatus
from nomaflow.store import runs
from nomaflow.store.transitions import Writing
from nomaflow_worker.committer import REFUSED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nomaflow.broker.bell import Bell
    from nomaflow.lifecycle import Held, Move
    from nomaflow.store.database import Database
    from nomaflow.store.transitions import NewDelivery
    from nomaflow_worker.committer import Committer
    from nomaflow_worker.journal import Journal

T = TypeVar("T")
log = structlog.get_logger(__name__)


class UnwritableError(Exception):
    """History refuses a move for good: something in it does not fit."""


class LostClaimError(Exception):
    """The run is someone else's now; whatever this worker knows of it is void."""


class Record:
    """The run as history holds it, and the one way this worker changes it."""

    def __init__(
        self, db: Database, bell: Bell, committer: Committer, held: Held, journal: Journal
    ) -> None:
        self._db, self._bell, self._committer = db, bell, committer
        self.held = held
        self.journal = journal
        self.lost = False

    async def write(self, move: Move, deliveries: Sequence[NewDelivery] = ()) -> None:
        """Write one move, commit, then tell; raises LostClaimError when the claim is gone."""
        if move.is_final:
            self.journal.close()
        async with self.journal.lock:
            seq = await self._commit(move, deliveries)
        if seq is None:
            self.journal.lost = True
            raise LostClaimError
        self.held = self.held.after(move)
        self._bell.news(move.run_id, seq, move.status.value)
        if move.status is RunStatus.QUEUED and not move.not_before_seconds:
            self._bell.ring(move.run_id)

    async def read(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask history something, again while the database is away; LostClaimError ends it."""
        pause = 0.1
        while not self.lost:
            try:
                return await ask()
            except (OSError, TimeoutError, *self._db.Error) as error:
                log.warning("a run waits for the database", error=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
        raise LostClaimError

    async def _commit(self, move: Move, deliveries: Sequence[NewDelivery]) -> int | None:
        writing = Writing(move, self.journal.take(), deliveries)
        write = self._committer.write
        while not (self.lost or self.journal.lost):
            try:
                return await write(writing)
            except REFUSED as error:
                if await self._was_written(move):
                    return 0
                raise UnwritableError(f"history does not take it: {error}") from error
            except (OSError, TimeoutError, *self._db.Error) as error:
                log.warning("a move waits for the database", error=str(error), run=str(move.run_id))
            if await self._was_written(move):
                return 0
            write = self._committer.write_alone
        return None

    async def _was_written(self, move: Move) -> bool:
        """Tell, after a broken connection, whether the commit happened all the same.

        Waits for the answer: written twice, a move would be told twice.
        """
        pause = 0.1
        while not self.lost:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
            with contextlib.suppress(OSError, TimeoutError, *self._db.Error):
                now = await runs.held(self._db, move.run_id)
                if now is not None and now.fence == move.fence:
                    return now == self.held.after(move) and now != self.held
                self.lost = True
        return False
