"""Whether this program answers, and whether everything a run needs is alive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from nomaflow.errors import NomaflowError
from nomaflow.store import processes
from nomaflow_api.doors.responses import answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from nomaflow_api.backing import Backing

LOOK_SECONDS = 2.0


class Health:
    """`GET /health` and `GET /ready`; neither tells anything that a stranger should not know."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing

    async def health(self, _request: Request) -> Response:
        """Answer at once, whatever else is away."""
        return answer({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Answer 200 when a run that is started now would run, else 503 with what is missing."""
        database, redis = await asyncio.gather(self._programs(), self._redis())
        missing = {**database, **redis}
        if missing:
            return answer({"status": "not ready", "missing": missing}, 503)
        return answer({"status": "ready"})

    async def _programs(self) -> dict[str, str]:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                alive = await processes.alive(self._backing.db)
        except (NomaflowError, OSError, TimeoutError):
            return {"database": "the database cannot be reached"}
        except self._backing.db.Error:
            return {"database": "the database does not answer as expected; is it migrated?"}
        missing = {}
        active = any(
            p.kind == "scheduler" and p.state == "active" and not p.is_silent for p in alive
        )
        if self._backing.options.scheduler_enabled and not active:
            missing["scheduler"] = "no scheduler is active"
        if not any(p.kind == "worker" for p in alive):
            missing["worker"] = "no worker is alive"
        return missing

    async def _redis(self) -> dict[str, str]:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._backing.redis.ping()
        except (RedisError, OSError, TimeoutError):
            return {"redis": "Redis cannot be reached"}
        return {}
