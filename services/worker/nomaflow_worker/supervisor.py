"""The worker's own supervisor: claims up to its free capacity, carries the chains, stops them.

arq only wakes it. Everything it decides, it decides from PostgreSQL: once a second without any
ring, at once with one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import structlog

from nomaflow import lifecycle
from nomaflow.store import claims, leases
from nomaflow_worker.chain import Chain, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nomaflow.store.claims import Claimed
    from nomaflow_worker.tools import Tools

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
ABORT_LOOK_SECONDS = 0.5
"""With a python child's grace of a second, an abort is over within two without Redis as well."""


class Supervisor:
    """Owns every run this worker holds; also what the lease thread speaks to."""

    def __init__(self, tools: Tools, *, capacity: int, tags: Sequence[str]) -> None:
        self.tools = tools
        self.capacity = capacity
        self._tags = tuple(tags)
        self._chains: dict[UUID, Chain] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._fences: dict[UUID, int] = {}
        self._guard = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._unheard: bool | None = None
        """Set when a claim's answer was lost: whether it was one of expired leases."""
        self._looked_for_expired = 0.0
        self.draining = False
        tools.children.wake = self.wake

    @property
    def running(self) -> int:
        """How many runs it carries now."""
        return len(self._chains)

    @property
    def working(self) -> int:
        """How many of them take up a place: one that waits for a run it started does not."""
        return len(self._chains) - self.tools.children.waiting

    def wake(self) -> None:
        """Look for work now."""
        self._awake.set()

    async def claim_for_ever(self) -> None:
        """Claim whenever there is room, until the worker drains."""
        while not self.draining:
            self._awake.clear()
            try:
                async with self._claiming:
                    more = await self._claim()
            except (OSError, TimeoutError, *self.tools.db.Error) as error:
                log.warning("no claims while the database is away", error=type(error).__name__)
                more = False
                await asyncio.sleep(LOOK_SECONDS / 2)
            if not more:
                await self._rest()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._awake.wait()

    async def look_for_aborts(self) -> None:
        """Read who wants which of our runs ended, for ever: the word may be lost with Redis."""
        while True:
            await asyncio.sleep(ABORT_LOOK_SECONDS)
            await self.hear_abort()

    async def _claim(self) -> bool:
        """Take what there is room for; True when there may be more."""
        if self.draining:  # since the lock was asked for
            return False
        if self._unheard is not None:
            await self._take_unheard(expired=self._unheard)
        room = self.capacity - self.working
        if room <= 0:
            return False
        now = self._loop.time()
        found: list[Claimed] = []
        if now - self._looked_for_expired >= LOOK_SECONDS:
            self._looked_for_expired = now
            found = await self._take(room, expired=True)
        if room > len(found):
            found += await self._take(room - len(found), expired=False)
        more_turns = any(one.takes_turns and not one.rescued for one in found)
        while more_turns and room > len(found) and (turn := await self._take_turn()):
            found.append(turn)
        return len(found) == room and self.working < self.capacity

    @property
    def _awaited_only(self) -> bool:
        return self.tools.children.crowded

    async def _take_unheard(self, *, expired: bool) -> None:
        """Begin what the last claim took, if it took anything: its answer never came."""
        taken = await claims.claim_unheard(
            self.tools.db,
            self.tools.name,
            list(self._chains),
            lease_seconds=self.tools.limits.lease_seconds,
            expired=expired,
        )
        self._unheard = None
        for claimed in taken:
            self._begin(claimed)

    async def _take(self, room: int, *, expired: bool) -> list[Claimed]:
        self._unheard = expired
        taken = await claims.claim(
            self.tools.db,
            self.tools.name,
            limit=room,
            lease_seconds=self.tools.limits.lease_seconds,
            tags=self._tags,
            expired=expired,
            awaited_only=self._awaited_only,
        )
        self._unheard = None
        for claimed in taken:
            self._begin(claimed)
        return taken

    async def _take_turn(self) -> Claimed | None:
        self._unheard = False
        taken = await claims.claim_turn(
            self.tools.db,
            self.tools.name,
            lease_seconds=self.tools.limits.lease_seconds,
            tags=self._tags,
            awaited_only=self._awaited_only,
        )
        self._unheard = None
        if taken is not None:
            self._begin(taken)
        return taken

    def _begin(self, claimed: Claimed) -> None:
        chain = Chain(self.tools, claimed)
        with self._guard:
            self._chains[claimed.run_id] = chain
            self._fences[claimed.run_id] = claimed.held.fence
        if self.draining:
            chain.drain()
        self.tools.bell.news(claimed.run_id, claimed.seq, "running")
        if claimed.rescued:
            log.warning("taking over a run", run_id=str(claimed.run_id), job=claimed.job_name)
        task = asyncio.create_task(self._carry(chain), name=f"run {claimed.run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, chain: Chain) -> None:
        run_id = chain.claimed.run_id
        try:
            await chain.run()
        finally:
            was_full = self.working >= self.capacity
            with self._guard:
                if self._chains.get(run_id) is chain:
                    del self._chains[run_id]
                    del self._fences[run_id]
            self.tools.children.look()
            # With room to spare, whatever waited was claimed at its own ring.
            if was_full or chain.claimed.takes_turns:
                self.wake()

    async def drain(self, seconds: float) -> None:
        """Claim nothing more; let steps in flight end, hand the rest back, then give up the last.

        After `seconds` a step still running is surrendered: repeatable ones start again
        elsewhere, the others have had one failed try.
        """
        self.draining = True
        self.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._claiming:
                pass  # a claim under way is let finish: its runs are ours as well
        for chain in list(self._chains.values()):
            chain.drain()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for chain in list(self._chains.values()):
            chain.stop(Stop.SURRENDER)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    # What the lease thread says

    def fences(self) -> dict[UUID, int]:
        """The runs held now, with the number of each claim."""
        with self._guard:
            return dict(self._fences)

    def lost(self, run_id: UUID, fence: int) -> None:
        """Stop a run that someone else has."""
        self._soon(self._stop, run_id, fence, Stop.LOST, "")

    def silence(self) -> None:
        """Stop everything: the leases are about to run out unheard."""
        log.error("PostgreSQL is silent; stopping every step before the leases run out")
        for run_id, fence in self.fences().items():
            self._soon(self._stop, run_id, fence, Stop.LOST, "")

    def abort_requested(self, run_id: UUID, by: str | None, reason: str | None) -> None:
        """Stop a run that someone wants ended."""
        fence = self.fences().get(run_id)
        if fence is not None:
            self._soon(self._stop, run_id, fence, Stop.ABORT, lifecycle.abort_words(by, reason))

    def extend(self, deadline: float) -> None:
        """Let python children live until `deadline` (monotonic seconds)."""
        self.tools.sandbox.extend(deadline)

    async def hear_abort(self) -> None:
        """Read who asked for the end of which of our runs, and stop those."""
        if not self._chains:
            return
        try:
            for asked in await leases.abort_requests(self.tools.db, self.tools.name):
                words = lifecycle.abort_words(asked.abort_requested_by, asked.abort_reason)
                self._stop(asked.run_id, asked.fence, Stop.ABORT, words)
        except (OSError, TimeoutError, *self.tools.db.Error):
            return  # the lease thread hears of it with its next beat

    def _stop(self, run_id: UUID, fence: int, why: Stop, words: str) -> None:
        chain = self._chains.get(run_id)
        if chain is not None and chain.claimed.held.fence == fence:
            chain.stop(why, words)

    def _soon(self, *call: object) -> None:
        function, *arguments = call
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)  # type: ignore[arg-type]
