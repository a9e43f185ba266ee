"""The doorbell: tells workers that there is work and listeners that there is news.

Everything here happens after commit, outside the request's way, and may be lost: workers look
into PostgreSQL once a second anyway, and listeners read what happened from there.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self
from uuid import uuid4

import structlog
from arq.constants import job_key_prefix
from arq.jobs import serialize_job

from nomaflow.broker.connection import dump
from nomaflow.lifecycle import FINAL_RUN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from arq.connections import ArqRedis

log = structlog.get_logger(__name__)

WORK: Final = "nomaflow:work"
"""Channel that wakes workers at once; the arq queue behind it is the slower net."""
NEWS: Final = "nomaflow:news"
"""Channel of hints `[{"run", "seq", "status"?}, ...]`: so much of these runs is now in history."""
ABORTS: Final = "nomaflow:aborts"
"""Channel of run ids whose owner should stop them."""
CATALOG: Final = "nomaflow:catalog"
"""Channel of job names that were created, edited, switched or deleted."""

WORKER_QUEUE: Final = "nomaflow:workers"
RING_SECONDS: Final = 0.3
"""The whole budget of one batch of rings; after it the doorbell is let go."""
GATHER_SECONDS: Final = 0.004
"""How long a word that nobody waits for may wait for others: a send costs more than the word."""
RING_TTL_MS: Final = 60_000
"""A ring nobody answered is forgotten: the run row waits in PostgreSQL, not here."""


MOST_RINGS: Final = 1
"""Rings that may wait in the queue: each costs arq six round trips and says the same."""

_RING = """
if redis.call('zcard', KEYS[1]) < tonumber(ARGV[5]) then
  redis.call('psetex', KEYS[2], ARGV[4], ARGV[2])
  redis.call('zadd', KEYS[1], ARGV[3], ARGV[1])
end"""
_ENDS = {status.value for status in FINAL_RUN}


class Bell:
    """Collects rings and sends them in one round trip, in the background."""

    def __init__(self, redis: ArqRedis) -> None:
        self.redis = redis
        self.lost = 0
        self._rings: list[str] = []
        self._words: list[tuple[str, str]] = []
        self._news: dict[UUID, tuple[int, str | None]] = {}
        self._pending = asyncio.Event()
        self._urgent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to send."""
        self._task = asyncio.create_task(self._send_for_ever(), name="bell")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what is left, then stop."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._send()

    def ring(self, run_id: UUID) -> None:
        """Tell the workers that this run waits."""
        self._rings.append(str(run_id))
        self._hurry()

    def news(self, run_id: UUID, seq: int, status: str | None = None) -> None:
        """Tell listeners that this run's history has grown to `seq`; the newest word counts."""
        if run_id not in self._news or seq >= self._news[run_id][0]:
            self._news[run_id] = (seq, status)
        self._pending.set()
        if status in _ENDS:
            self._hurry()

    def abort(self, run_id: UUID) -> None:
        """Tell the owner of this run that someone wants it stopped."""
        self._say(ABORTS, str(run_id))
        self._hurry()

    def catalog(self, job: str) -> None:
        """Tell schedulers and listeners that this job was changed."""
        self._say(CATALOG, job)

    def _hurry(self) -> None:
        self._pending.set()
        self._urgent.set()

    def _say(self, channel: str, word: str) -> None:
        self._words.append((channel, word))
        self._pending.set()

    async def _send_for_ever(self) -> None:
        while True:
            await self._pending.wait()
            if not self._urgent.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_SECONDS):
                        await self._urgent.wait()
            await self._send()

    async def _send(self) -> None:
        self._pending.clear()
        self._urgent.clear()
        rings, self._rings = self._rings, []
        words, self._words = self._words, []
        if self._news:
            words.append((NEWS, _written(self._news)))
            self._news = {}
        if not rings and not words:
            return
        try:
            async with asyncio.timeout(RING_SECONDS):
                await self._pipeline(rings, words)
        except Exception as error:  # noqa: BLE001  whatever it was, the next ring must go out
            self.lost += len(rings) + len(words)
            log.debug("doorbell lost", error=type(error).__name__, lost=self.lost)

    async def _pipeline(self, rings: list[str], words: list[tuple[str, str]]) -> None:
        now = int(time.time() * 1000)  # arq scores by the host's clock; only a hint, so it may lie
        async with self.redis.pipeline(transaction=False) as pipe:
            if rings:
                pipe.publish(WORK, "")
                # One ring for all: whoever it wakes claims as much as it can carry.
                job_id = f"{rings[0]}:{uuid4().hex[:8]}"  # arq refuses an id it has seen
                job = serialize_job("ring", (rings[0],), {}, None, now, serializer=dump)
                key = job_key_prefix + job_id
                facts = (job_id, job, now, RING_TTL_MS, MOST_RINGS)
                pipe.execute_command("EVAL", _RING, 2, WORKER_QUEUE, key, *facts)
            for channel, word in words:
                pipe.publish(channel, word)
            await pipe.execute()


def _written(news: Mapping[UUID, tuple[int, str | None]]) -> str:
    return json.dumps(
        [
            {"run": str(run_id), "seq": seq} | ({"status": status} if status else {})
            for run_id, (seq, status) in news.items()
        ]
    )
