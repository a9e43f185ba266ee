"""The log and progress of one run on their way into history, masked and in batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from nomaflow.store import logs
from nomaflow.store.transitions import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.masking import Masker
    from nomaflow.store.database import Database

log = structlog.get_logger(__name__)

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
FLUSH_SECONDS = 0.1
AWAY_SECONDS = 1.0
PROGRESS_SECONDS = 0.5
BATCH_LINES = 2_000
HELD_LINES = 20_000
"""Lines kept in memory while PostgreSQL is away; beyond it the oldest are dropped and counted."""


class Journal:
    """One run's lines, in order; `lock` keeps a batch and a move from crossing."""

    def __init__(
        self,
        db: Database,
        bell: Bell,
        run_id: UUID,
        fence: int,
        masker: Callable[[], Masker],
        *,
        level: str,
        already: int,
        max_lines: int,
        max_bytes: int,
    ) -> None:
        self.lock = asyncio.Lock()
        self._db, self._bell = db, bell
        self._run_id, self._fence = run_id, fence
        self._masker = masker
        self._threshold = LEVELS[level]
        self._written = already
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._lines: deque[Line] = deque()
        self._progress: tuple[int, Mapping[str, Any]] | None = None
        self._progress_due = 0.0
        self._due: asyncio.TimerHandle | None = None
        """Set while the window is open in which a batch gathers."""
        self._flushing: asyncio.Task[None] | None = None
        self.dropped = 0
        self.lost = False

    def write(self, level: str, message: str, step: str | None, at: datetime | None = None) -> None:
        """Add a line; below the run's level, or past its cap, it is not kept."""
        number = LEVELS[level]
        if number < self._threshold:
            return
        if self._written >= self._max_lines and number < LEVELS["WARNING"]:
            self.dropped += 1
            return
        self._written += 1
        text = self._masker().text(message)
        if len(text) > self._max_bytes:
            text = f"{text[: self._max_bytes]}… ({len(text)} characters in all)"
        self._lines.append(Line(at or datetime.now(UTC), number, step, text))
        if len(self._lines) > HELD_LINES:
            self._lines.popleft()
            self.dropped += 1
        self._soon()

    def progress(self, position: int, state: Mapping[str, Any]) -> None:
        """Keep the newest word on how far a step is; told at most twice a second."""
        self._progress = (position, self._masker().value(dict(state)))
        self._soon()

    def close(self) -> None:
        """Say once how many lines were not kept (G09)."""
        if self.dropped:
            message = f"{self.dropped} log lines were not kept: the run is past its cap"
            self._lines.append(Line(datetime.now(UTC), LEVELS["WARNING"], None, message))
            self.dropped = 0

    def take(self) -> list[Line]:
        """Take the lines that wait, for a move to carry along; call under `lock`."""
        taken = list(self._lines)
        self._lines.clear()
        return taken

    def give_back(self, lines: list[Line]) -> None:
        """Put back, in front, what could not be written."""
        self._lines.extendleft(reversed(lines))

    async def stop(self) -> None:
        """Write nothing more; what is under way ends first."""
        self.lost = True
        if self._due is not None:
            self._due.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flushing

    def _soon(self, seconds: float = FLUSH_SECONDS) -> None:
        """Flush when the window is over; most lines have gone with a move by then."""
        if self._due is None and self._flushing is None:
            self._due = asyncio.get_running_loop().call_later(seconds, self._begin)

    def _begin(self) -> None:
        self._due = None
        if (self._lines or self._progress) and not self.lost:
            self._flushing = asyncio.create_task(self._keep_flushing(), name="journal")

    async def _keep_flushing(self) -> None:
        wait = FLUSH_SECONDS
        try:
            await self._flush()
        except (OSError, TimeoutError, *self._db.Error) as error:
            log.warning("log lines wait for the database", error=type(error).__name__)
            wait = AWAY_SECONDS
        self._flushing = None
        if self._lines or self._progress:
            self._soon(wait)

    async def _flush(self) -> None:
        async with self.lock:
            while self._lines and not self.lost:
                batch = [self._lines.popleft() for _ in range(min(BATCH_LINES, len(self._lines)))]
                try:
                    seq = await logs.append(self._db, self._run_id, self._fence, batch)
                except BaseException:
                    self.give_back(batch)
                    raise
                self._told(seq)
            await self._flush_progress()

    async def _flush_progress(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._progress is None or self.lost:
            return
        if now < self._progress_due:
            return
        (position, state), self._progress = self._progress, None
        self._progress_due = now + PROGRESS_SECONDS
        self._told(await logs.progress(self._db, self._run_id, self._fence, position, state))

    async def tell_progress(self) -> None:
        """Tell the last word on a step that has ended, however lately another was told."""
        self._progress_due = 0.0
        async with self.lock:
            with contextlib.suppress(OSError, TimeoutError, *self._db.Error):
                await self._flush_progress()

    def _told(self, seq: int | None) -> None:
        if seq is None:
            self.lost = True
        else:
            self._bell.news(self._run_id, seq)
