"""The worker's leases, kept from a thread of their own: no step can make them late.

The thread has its own loop and its own connection. It prolongs every lease of this worker in
one statement, hears of abort requests and lost claims in the answer, and holds the deadline by
which everything must be dead if PostgreSQL falls silent: 80 % of a lease after the last moment
at which nobody else could have claimed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Protocol

import asyncpg
import structlog

from nomaflow.store import database, leases, pulse

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.store.leases import Renewed

log = structlog.get_logger(__name__)

BEATS_PER_LEASE = 5
SAFE_SHARE = 0.8


class Owner(Protocol):
    """The supervisor, as the lease thread sees it; every call may come from the thread."""

    def fences(self) -> dict[UUID, int]:
        """The runs held now, with the number of each claim."""

    def lost(self, run_id: UUID, fence: int) -> None:
        """Someone else has this run: stop it and write nothing."""

    def silence(self) -> None:
        """PostgreSQL does not answer and the leases are about to run out: stop everything."""

    def abort_requested(self, run_id: UUID, by: str | None, reason: str | None) -> None:
        """Someone asked for this run's end."""

    def extend(self, deadline: float) -> None:
        """Children may live until `deadline` (monotonic seconds)."""


class LeaseKeeper:
    """Beats five times a lease until it is stopped."""

    def __init__(self, url: str, worker: str, lease_seconds: float, owner: Owner) -> None:
        self._url = database.plain_url(url)
        self._worker = worker
        self._lease = lease_seconds
        self._beat = lease_seconds / BEATS_PER_LEASE
        self._owner = owner
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="lease", daemon=True)
        self._deadline = time.monotonic() + SAFE_SHARE * lease_seconds
        self._silent = False

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; leases are left to run out or to be given back by moves."""
        self._stopping.set()
        self._thread.join(timeout=self._beat + 2)

    def _main(self) -> None:
        asyncio.run(self._beat_for_ever())

    async def _beat_for_ever(self) -> None:
        connection: asyncpg.Connection | None = None
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                if connection is None:
                    connection = await self._connect()
                before = self._owner.fences()
                async with asyncio.timeout(self._beat):
                    await pulse.beat(connection, self._lease)
                    answer = await leases.renew(connection, self._worker, before, self._lease)
                self._safe_from(began)
                self._read(before, answer)
            except Exception as error:  # noqa: BLE001  this thread must not end: leases hang on it
                if connection is not None:
                    connection.terminate()
                    connection = None
                elif _nobody_can_claim(error):
                    self._safe_from(began)
                log.warning("leases were not prolonged", error=type(error).__name__)
            self._watch_deadline()
            await self._pause(began)
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close(timeout=1)

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._url,
            timeout=self._beat,
            server_settings={
                "application_name": f"nomaflow lease {self._worker}",
                "search_path": "nomaflow",
                "statement_timeout": str(int(self._beat * 1000)),
                **database.BY_KEY,
            },
        )

    def _safe_from(self, began: float) -> None:
        self._deadline = began + SAFE_SHARE * self._lease
        self._silent = False
        self._owner.extend(self._deadline)

    def _read(self, before: dict[UUID, int], answer: list[Renewed]) -> None:
        ours = {renewed.run_id: renewed for renewed in answer}
        for run_id, fence in before.items():
            renewed = ours.get(run_id)
            if renewed is None:
                self._owner.lost(run_id, fence)
            elif renewed.abort_requested_by is not None:
                self._owner.abort_requested(
                    run_id, renewed.abort_requested_by, renewed.abort_reason
                )

    def _watch_deadline(self) -> None:
        if time.monotonic() >= self._deadline - self._beat / 2 and not self._silent:
            self._silent = True
            self._owner.silence()

    async def _pause(self, began: float) -> None:
        until = began + self._beat
        if not self._silent:
            until = min(until, max(self._deadline - self._beat / 2, time.monotonic() + 0.2))
        # Short sleeps: the word to stop comes from another thread.
        while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left, 0.2))


def _nobody_can_claim(error: BaseException) -> bool:
    """PostgreSQL itself is down or starting: after its start, leases hold for one more lease."""
    return isinstance(
        error,
        ConnectionRefusedError | FileNotFoundError | asyncpg.CannotConnectNowError,
    )
