"""Live feeds of runs: one reader for the whole process, one bounded ring for each run in view.

A listener keeps only its position. What it has missed it finds in the ring, and what has left the
ring it reads from history, so a slow one costs nobody anything and none hears a gap or a repeat.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from nomaflow.events import Event, LogsWritten
from nomaflow.store import feed as store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from nomaflow.store.database import Database

log = structlog.get_logger(__name__)

WINDOW_SECONDS = 0.05
"""Between two reads of the same run: what is written meanwhile travels together."""
LOOK_SECONDS = 1.0
"""Without a hint from Redis the runs in view are looked at this often."""
RING_EVENTS = 1_000
RING_BYTES = 4 * 1024 * 1024
PAGE = 1_000
READERS = 4


class Ring:
    """The newest events of one run; `floor` and `head` are the numbers it lies between."""

    def __init__(self, run_id: UUID, seq: int, *, over: bool) -> None:
        self.run_id = run_id
        self.floor = self.head = seq
        self.over = over
        self.listeners = 0
        self.turned = asyncio.Event()
        self._events: deque[Event] = deque()
        self._bytes = 0

    def add(self, reading: store.Reading) -> None:
        """Take in what was read after `head`, let the oldest go, wake whoever listens."""
        for event in reading.events:
            self._events.append(event)
            self._bytes += _weight(event)
        while len(self._events) > RING_EVENTS or self._bytes > RING_BYTES:
            oldest = self._events.popleft()
            self._bytes -= _weight(oldest)
            self.floor = oldest.seq
        self.head = max(self.head, reading.seq)
        self.over = reading.is_over
        self.wake()

    def wake(self) -> None:
        """Let every listener look again."""
        turned, self.turned = self.turned, asyncio.Event()
        turned.set()

    def after(self, seq: int) -> list[Event]:
        """Return the events after a number that is not below `floor`."""
        found: list[Event] = []
        for event in reversed(self._events):
            part = store.after(event, seq)
            if part is None:
                break
            found.append(part)
        found.reverse()
        return found


def _weight(event: Event) -> int:
    if isinstance(event, LogsWritten):
        return sum(len(line.message) + 100 for line in event.lines)
    return 300


class Feeds:
    """Every run that someone listens to in this process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rings: dict[UUID, Ring] = {}
        self._behind: set[UUID] = set()
        self._hint = asyncio.Event()

    def hint(self, run_id: UUID, seq: int) -> None:
        """Hear that a run's history has grown."""
        ring = self._rings.get(run_id)
        if ring is not None and seq > ring.head:
            self._behind.add(run_id)
            self._hint.set()

    async def read_for_ever(self) -> None:
        """Read what is new of the runs in view, as soon as it is hinted at."""
        while True:
            await self._hint.wait()
            self._hint.clear()
            behind, self._behind = self._behind, set()
            waiting = list(behind)
            while waiting:
                chunk, waiting = waiting[:READERS], waiting[READERS:]
                await asyncio.gather(*(self._read(run_id) for run_id in chunk))
            await asyncio.sleep(WINDOW_SECONDS)

    async def look_for_ever(self) -> None:
        """Once a second see whether a run in view has grown unheard: the net under Redis."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._rings:
                await self.look()

    async def look(self) -> None:
        """Compare every run in view with its history."""
        asked = list(self._rings.items())  # one that comes into view meanwhile was not asked about
        heads = await store.heads(self._db, [run_id for run_id, _ in asked])
        for run_id, ring in asked:
            seq, over = heads.get(run_id, (ring.head, True))
            if run_id not in heads:  # its history was deleted meanwhile
                ring.over = True
                ring.wake()
            elif seq > ring.head or (over and not ring.over):
                self._behind.add(run_id)
                self._hint.set()

    async def _read(self, run_id: UUID) -> None:
        ring = self._rings.get(run_id)
        if ring is None:
            return
        try:
            reading = await store.read(self._db, run_id, ring.head, PAGE)
        except (OSError, TimeoutError, *self._db.Error) as error:
            log.warning("a feed waits for the database", error=type(error).__name__)
            return  # the look of the next second comes back to it
        if reading is None:
            ring.over = True
            ring.wake()
            return
        ring.add(reading)
        if not reading.is_complete:
            self._behind.add(run_id)
            self._hint.set()

    @asynccontextmanager
    async def _in_view(self, run_id: UUID) -> AsyncIterator[Ring | None]:
        ring = self._rings.get(run_id)
        if ring is None:
            heads = await store.heads(self._db, [run_id])
            if run_id not in heads:
                yield None
                return
            seq, over = heads[run_id]
            ring = self._rings.setdefault(run_id, Ring(run_id, seq, over=over))
            self._behind.add(run_id)  # a hint may have come before there was a ring for it
            self._hint.set()
        ring.listeners += 1
        try:
            yield ring
        finally:
            ring.listeners -= 1
            if not ring.listeners and self._rings.get(run_id) is ring:
                del self._rings[run_id]

    async def events(self, run_id: UUID, after: int) -> AsyncGenerator[Event, None]:
        """Tell what happened after a number, then what happens; ends with the run's last event."""
        async with self._in_view(run_id) as ring:
            seq = after
            while ring is not None:
                turned = ring.turned
                if seq < ring.floor:
                    reading = await store.read(self._db, run_id, seq, PAGE)
                    if reading is None:
                        return
                    for event in reading.events:
                        yield event
                    seq = reading.seq
                    if reading.is_over:
                        return
                    continue
                head = ring.head
                for event in ring.after(seq):
                    yield event
                seq = max(seq, head)  # some numbers stand for nothing that is told
                if ring.over and seq >= ring.head:
                    return
                await turned.wait()
