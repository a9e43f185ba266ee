"""What a resolver may know and reach: who asks, what the API stands on, and batched reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import strawberry
from strawberry.dataloader import DataLoader
from strawberry.types.info import Info

from nomaflow.store import history, job_pages, step_history
from nomaflow_api.auth import Caller, Permission
from nomaflow_api.failures import ApiCode, refusal

if TYPE_CHECKING:
    from nomaflow.store.database import Database
    from nomaflow.store.history import RunRow
    from nomaflow.store.jobs import JobRow
    from nomaflow.store.schedules import ScheduleRow
    from nomaflow.store.step_history import AttemptRow, Details, StepKey, StepRow
    from nomaflow_api.backing import Backing

K = TypeVar("K")
V = TypeVar("V")

IN_FLIGHT_SHOWN = 100
"""A job shows so many of its queued and running runs; the rest is in the list of runs."""


class Loaders:
    """Reads that resolvers of one level ask for one by one and that become one statement.

    Nothing is kept between levels: a context also serves subscriptions, which live long.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self.runs: DataLoader[UUID, RunRow | None] = self._one(history.find)
        self.jobs: DataLoader[UUID, JobRow | None] = self._one(job_pages.by_id)
        self.last_runs: DataLoader[UUID, RunRow | None] = self._one(history.newest)
        self.last_successes: DataLoader[UUID, RunRow | None] = self._one(_newest_success)
        self.in_flight: DataLoader[UUID, list[RunRow]] = self._many(_in_flight)
        self.clocks: DataLoader[UUID, list[ScheduleRow]] = self._many(job_pages.clocks)
        self.steps: DataLoader[UUID, list[StepRow]] = self._many(step_history.of_runs)
        self.step: DataLoader[StepKey, StepRow | None] = self._one(step_history.find)
        self.details: DataLoader[StepKey, Details | None] = self._one(step_history.details)
        self.attempts: DataLoader[StepKey, list[AttemptRow]] = self._many(step_history.attempts)

    def _one(
        self, read: Callable[[Database, list[K]], Awaitable[Mapping[K, V]]]
    ) -> DataLoader[K, V | None]:
        async def load(keys: list[K]) -> list[V | None]:
            found = await read(self._db, list(dict.fromkeys(keys)))
            return [found.get(key) for key in keys]

        return DataLoader(load_fn=load, cache=False)

    def _many(
        self, read: Callable[[Database, list[K]], Awaitable[Mapping[K, list[V]]]]
    ) -> DataLoader[K, list[V]]:
        async def load(keys: list[K]) -> list[list[V]]:
            found = await read(self._db, list(dict.fromkeys(keys)))
            return [found.get(key, []) for key in keys]

        return DataLoader(load_fn=load, cache=False)


async def _newest_success(db: Database, job_ids: list[UUID]) -> dict[UUID, RunRow]:
    return await history.newest(db, job_ids, "succeeded")


async def _in_flight(db: Database, job_ids: list[UUID]) -> dict[UUID, list[RunRow]]:
    return await history.in_flight(db, job_ids, IN_FLIGHT_SHOWN)


class Context:
    """One request's context, or one WebSocket's."""

    def __init__(self, backing: Backing, caller: Caller) -> None:
        self.backing = backing
        self.caller = caller
        self.db = backing.db
        self.load = Loaders(backing.db)

    def need(self, permission: Permission) -> None:
        """Refuse with FORBIDDEN unless the caller has that permission."""
        if not self.caller.may(permission):
            raise refusal(ApiCode.FORBIDDEN, f"This needs the permission `{permission}`.")


Asked = Info[Context, Any]
"""What strawberry hands to a resolver that asks for it."""

ABSENT: Any = strawberry.UNSET
"""The default of an argument that may be left out; false in conditions."""
