"""Moves of runs that move at the same moment share one statement and one commit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from nomaflow.store import runs, transitions

if TYPE_CHECKING:
    from nomaflow.store.database import Database
    from nomaflow.store.transitions import Writing

REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,  # asyncpg itself cannot write a value
)
"""What the same statement would meet again however often it is sent."""

AT_ONCE: Final = 2
"""Batches in flight: while PostgreSQL writes one, the runs of the other go on."""
MOST_MOVES: Final = 100
MOST_CHARACTERS: Final = 64 * 1024
"""With more in its log lines, or with a big output, a move goes by itself: memory is bounded."""


@dataclass(slots=True)
class _Waiting:
    writing: Writing
    answer: asyncio.Future[int | None]


class Committer:
    """Writes what has come while earlier batches were in flight; a single move waits for nobody."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[_Waiting] = []
        self._room = AT_ONCE
        self._senders: set[asyncio.Task[None]] = set()

    async def write(self, writing: Writing) -> int | None:
        """Write one move; the number of its last event, or None when the claim is lost.

        Raises what the database raises. After an error that is not one of REFUSED the move may
        be written all the same; `write_alone` is the way to try again. Cancelled before it was
        sent, it is not written.
        """
        if _is_heavy(writing):
            return await self.write_alone(writing)
        waiting = _Waiting(writing, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        # Behind another that waits, there is a sender already, or none may be had.
        if self._room and len(self._waiting) == 1:
            self._room -= 1
            sender = asyncio.create_task(self._send(), name="moves")
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        seq = await waiting.answer
        return await self.write_alone(writing) if seq is None else seq

    async def write_alone(self, writing: Writing) -> int | None:
        """Write one move by itself: it waits for whoever holds the row, and fails for itself."""
        return await runs.apply(self._db, writing.move, writing.lines, writing.deliveries)

    async def _send(self) -> None:
        while batch := self._next():
            try:
                moves = [one.writing for one in batch]
                written = await transitions.write(self._db, moves, leave_locked=True)
            except REFUSED:  # nothing is written; each finds out for itself whether it is at fault
                written = {}
            except Exception as error:  # noqa: BLE001  those who wait must hear of it, whatever it is
                known = isinstance(error, (OSError, TimeoutError, *self._db.Error))
                told = error if known else asyncpg.InternalClientError(repr(error))
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(told)
                continue
            for place, one in enumerate(batch):
                if not one.answer.done():
                    one.answer.set_result(written.get(place))
        self._room += 1  # at once: a move that comes now must find it

    def _next(self) -> list[_Waiting]:
        """Take what waits, but for those who were cancelled meanwhile."""
        waiting = [one for one in self._waiting if not one.answer.done()]
        taken, self._waiting = waiting[:MOST_MOVES], waiting[MOST_MOVES:]
        return taken


def _is_heavy(writing: Writing) -> bool:
    return any(change.whole_output is not None for change in writing.move.steps) or (
        sum(len(line.message) for line in writing.lines) > MOST_CHARACTERS
    )
