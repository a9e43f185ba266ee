"""Connections of one connector in one process: made on demand, bounded, lent, taken back clean."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.errors import StepError

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
WAIT_SECONDS = 60.0
CANCEL_SECONDS = 1.5

C = TypeVar("C")


class Connections(ABC, Generic[C]):
    """At most `pool_size` connections at once; idle ones are kept for half a minute.

    Each kind of database says how a connection is made, introduced to the step that takes it,
    cleaned of what the step left behind, and hung up.
    """

    trouble: tuple[type[BaseException], ...] = (OSError,)
    """What the driver raises."""

    def __init__(self, name: str, spec: SqlConnectorSpec) -> None:
        self.name = name
        self.spec = spec
        self.size = int(spec.pool_size)
        self._slots = asyncio.Semaphore(self.size)
        self._idle: list[tuple[C, float]] = []
        self._busy: set[C] = set()
        self._reaper: asyncio.TimerHandle | None = None

    @property
    def connect_seconds(self) -> float:
        """How long making a connection may take."""
        return float(self.spec.connect_timeout_seconds or CONNECT_SECONDS)

    async def acquire(self, application: str) -> C:
        """A clean connection for the step that calls itself `application`; waits for a free one.

        StepError (category connection) when none can be made, or none is given back in time.
        """
        await self._slot()
        try:
            connection = await self._kept(application)
            if connection is None:
                connection = await self._made(application)
        except BaseException:
            self._slots.release()
            raise
        self._busy.add(connection)
        return connection

    async def release(self, connection: C, *, clean: bool) -> None:
        """Take a connection back; one that is not `clean` is closed, its statement cancelled."""
        self._busy.discard(connection)
        try:
            if clean and self._is_reusable(connection):
                await self._clean(connection)
                self._idle.append((connection, time.monotonic()))
                self._watch()
            else:
                await self._hang_up(connection)
        except self.trouble:
            self._drop(connection)
        except asyncio.CancelledError:
            self._drop(connection)
            raise
        finally:
            self._slots.release()

    async def close(self) -> None:
        """Close every connection; statements in flight are cancelled on the server."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        connections = [*self._busy, *(connection for connection, _ in self._idle)]
        self._busy.clear()
        self._idle.clear()
        await asyncio.gather(*(self._hang_up(connection) for connection in connections))

    @abstractmethod
    async def _connect(self) -> C:
        """Make a connection; StepError when the server cannot be reached or does not let us in."""

    @abstractmethod
    async def _introduce(self, connection: C, application: str) -> None:
        """Say who works here, and set what every session has."""

    @abstractmethod
    async def _clean(self, connection: C) -> None:
        """Undo what a step left in the session."""

    @abstractmethod
    def _is_reusable(self, connection: C) -> bool:
        """Whether it is open and in no transaction."""

    @abstractmethod
    async def _hang_up(self, connection: C) -> None:
        """Close; a statement still running is cancelled on the server first. Never raises."""

    @abstractmethod
    def _drop(self, connection: C) -> None:
        """Close without a word and without waiting."""

    @abstractmethod
    def _refused(self, error: BaseException) -> StepError:
        """The sentence for a connection that could not be made."""

    async def _slot(self) -> None:
        seconds = float(self.spec.pool_wait_seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError:
            many = (
                "its only connection is" if self.size == 1 else f"all {self.size} connections are"
            )
            raise StepError(
                f"connector {self.name!r}: {many} in use, and none was given back within "
                f"{seconds:g} s; raise its `pool_size` ({self.size}) or `pool_wait_seconds`",
                category="connection",
            ) from None

    async def _kept(self, application: str) -> C | None:
        while self._idle:
            connection, _ = self._idle.pop()
            if not self._is_reusable(connection):
                self._drop(connection)
                continue
            try:
                await self._introduce(connection, application)
            except self.trouble:
                self._drop(connection)  # the server went away meanwhile; a new one will tell
            except asyncio.CancelledError:
                self._drop(connection)
                raise
            else:
                return connection
        return None

    async def _made(self, application: str) -> C:
        connection = await self._connect()
        try:
            await self._introduce(connection, application)
        except self.trouble as error:
            self._drop(connection)
            raise self._refused(error) from None
        except BaseException:
            self._drop(connection)
            raise
        return connection

    def _watch(self) -> None:
        if self._reaper is None and self._idle:
            self._reaper = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._reap)

    def _reap(self) -> None:
        self._reaper = None
        now = time.monotonic()
        old: list[C] = [c for c, since in self._idle if now - since >= IDLE_SECONDS]
        self._idle[:] = [(c, since) for c, since in self._idle if now - since < IDLE_SECONDS]
        for connection in old:
            self._drop(connection)
        self._watch()


def seconds_of(value: Any) -> float | None:
    """A setting in seconds that may be absent, as a number."""
    return None if value in {None, ""} else float(value)
