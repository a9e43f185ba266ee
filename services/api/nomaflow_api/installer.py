"""Carries an installation on from job to job, for as long as this program lives."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from nomaflow import installation

if TYPE_CHECKING:
    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Database

LOOK_SECONDS = 0.5
IDLE_SECONDS = 30.0
"""So long may an installation stand still whose API process died, when another one is alive."""


class Installer:
    """Carries the installation that is under way, if there is one."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()

    def hint(self) -> None:
        """Look now: one was begun."""
        self._wanted.set()

    async def carry_for_ever(self, db: Database, bell: Bell) -> None:
        """Look often while one is under way, and now and then when none is."""
        while True:
            self._wanted.clear()
            if await installation.carry(db, bell):
                await asyncio.sleep(LOOK_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._wanted.wait()
