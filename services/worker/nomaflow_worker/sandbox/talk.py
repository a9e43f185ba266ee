"""The rows of a copy between the worker and a child: told as fast as the child takes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from nomaflow_worker.sandbox import wire

if TYPE_CHECKING:
    from nomaflow.steps.calls import RowTalk


class Talk:
    """One copy's rows on the line of one child."""

    def __init__(self, rows: RowTalk, writer: asyncio.StreamWriter) -> None:
        self._rows = rows
        self._writer = writer
        self._telling = asyncio.create_task(self._tell(), name="rows")

    async def hear(self, answer: bytes) -> None:
        """Take what became of a portion; the child waits while nobody has room for it."""
        await self._rows.answered(answer)

    async def wanted(self, made: str) -> Any:
        """What the copy wants of the columns that the function makes, which are JSON here."""
        try:
            told = json.loads(made)
        except ValueError:
            raise wire.WireError("columns that are not JSON") from None
        return await self._rows.wanted(told)

    def close(self) -> None:
        """The call is over."""
        self._telling.cancel()

    async def _tell(self) -> None:
        # A child that is gone is noticed by hearing it.
        with contextlib.suppress(OSError, RuntimeError):
            async for portion in self._rows.portions():
                self._writer.writelines(wire.raw(portion))
                await self._writer.drain()
            self._writer.write(wire.frame({"over": True}))
