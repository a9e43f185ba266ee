"""Reads that resolvers ask for one by one and that become one statement, or were made ahead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from uuid import UUID

from graphql import FieldNode, FragmentSpreadNode, OperationType, SelectionSetNode
from strawberry.dataloader import DataLoader

from nomaflow.clock.forecast import Closures
from nomaflow.in_force import horizon
from nomaflow.store import (
    external,
    failed_batches,
    history,
    job_pages,
    step_history,
    sync_results,
    waiting,
    watermarks,
)

if TYPE_CHECKING:
    from strawberry.types.info import Info

    from nomaflow.store.database import Database
    from nomaflow.store.external import ExternalRow
    from nomaflow.store.history import RunRow
    from nomaflow.store.jobs import JobRow
    from nomaflow.store.schedules import ScheduleRow
    from nomaflow.store.slots import SlotRow
    from nomaflow.store.step_history import AttemptRow, Details, StepKey, StepRow
    from nomaflow.store.waiting import Waits
    from nomaflow.store.watermarks import WatermarkRow

K = TypeVar("K")
V = TypeVar("V")

IN_FLIGHT_SHOWN = 100
"""A job shows so many of its queued and running runs; the rest is in the list of runs."""
CHILDREN_SHOWN = 100
"""So many of the runs that a run started."""


class Batch(Generic[K, V]):
    """One kind of read. Nothing is kept but what a list read ahead for its own objects."""

    def __init__(self, read: Callable[[list[K]], Awaitable[Mapping[K, V]]], absent: V) -> None:
        async def load(keys: list[K]) -> list[V]:
            found = await read(list(dict.fromkeys(keys)))
            return [found.get(key, absent) for key in keys]

        self._read = read
        self._absent = absent
        self._loader: DataLoader[K, V] = DataLoader(load_fn=load, cache=False)
        self._ahead: dict[K, V] = {}

    def get(self, key: K) -> V:
        """Return what a resolver may answer with: the value, or a promise that graphql awaits.

        A value costs much less than a promise, and a page has hundreds of them.
        """
        if key in self._ahead:
            return self._ahead[key]
        return cast("V", self._loader.load(key))

    async def find(self, key: K) -> V:
        """Read one now."""
        return await self._loader.load(key)

    def know(self, values: Mapping[K, V]) -> None:
        """Keep for a page's objects what was read anyway."""
        self._ahead.update(values)

    async def read_ahead(self, keys: Iterable[K]) -> None:
        """Read for all objects of a page what its resolvers are about to ask for."""
        wanted = list(dict.fromkeys(keys))
        if wanted:
            found = await self._read(wanted)
            self._ahead.update((key, found.get(key, self._absent)) for key in wanted)


class Loaders:
    """Every batched read of one operation."""

    def __init__(self, db: Database) -> None:
        async def in_flight(ids: list[UUID]) -> Mapping[UUID, list[RunRow]]:
            return await history.in_flight(db, ids, IN_FLIGHT_SHOWN)

        async def children(ids: list[UUID]) -> Mapping[UUID, list[RunRow]]:
            return await history.children(db, ids, CHILDREN_SHOWN)

        async def sky(keys: list[str]) -> Mapping[str, Closures]:
            return dict.fromkeys(keys, await horizon.closed(db, datetime.now(UTC)))

        def on(read: Callable[[Database, list[K]], Awaitable[Mapping[K, V]]]) -> Any:
            return lambda keys: read(db, keys)

        self.runs: Batch[UUID, RunRow | None] = Batch(on(history.find), None)
        self.jobs: Batch[UUID, JobRow | None] = Batch(on(job_pages.by_id), None)
        self.last_runs: Batch[UUID, RunRow | None] = Batch(on(history.newest), None)
        self.last_successes: Batch[UUID, RunRow | None] = Batch(on(history.last_successes), None)
        self.replays: Batch[UUID, RunRow | None] = Batch(on(history.replays), None)
        self.in_flight: Batch[UUID, list[RunRow]] = Batch(in_flight, [])
        self.children: Batch[UUID, list[RunRow]] = Batch(children, [])
        self.external: Batch[UUID, ExternalRow | None] = Batch(on(external.of_runs), None)
        self.waits: Batch[UUID, Waits | None] = Batch(on(waiting.of_runs), None)
        self.clocks: Batch[UUID, list[ScheduleRow]] = Batch(on(job_pages.clocks), [])
        self.sky: Batch[str, Closures] = Batch(sky, Closures())
        self.dependencies: Batch[str, JobRow | None] = Batch(on(job_pages.by_name), None)
        self.steps: Batch[UUID, list[StepRow]] = Batch(on(step_history.of_runs), [])
        self.step: Batch[StepKey, StepRow | None] = Batch(on(step_history.find), None)
        self.details: Batch[StepKey, Details | None] = Batch(on(step_history.details), None)
        self.attempts: Batch[StepKey, list[AttemptRow]] = Batch(on(step_history.attempts), [])
        self.syncs: Batch[UUID, Mapping[str, Any] | None] = Batch(on(sync_results.of_runs), None)
        self.payloads: Batch[UUID, Any] = Batch(on(failed_batches.payloads), [])
        self.watermarks: Batch[str, list[WatermarkRow]] = Batch(on(watermarks.of_jobs), [])

    async def ahead_of_runs(self, runs: list[RunRow], info: Info[Any, Any]) -> None:
        """Read what a page of runs shows of their jobs, steps, children and waiting."""
        shown = shown_of_nodes(info)
        if "job" in shown:
            await self.jobs.read_ahead(run.job_id for run in runs if run.job_id)
        if "steps" in shown:
            await self.steps.read_ahead(run.id for run in runs)
        if "children" in shown:
            await self.children.read_ahead(run.id for run in runs)
        if "external" in shown:
            await self.external.read_ahead(run.id for run in runs if run.kind == "external")
        if "sync" in shown:
            await self.syncs.read_ahead(run.id for run in runs)
        if "waitingFor" in shown:
            await self.waits.read_ahead(run.id for run in runs if run.status == "queued")

    async def ahead_of_jobs(self, jobs: list[JobRow], info: Info[Any, Any]) -> None:
        """Read what a page of jobs shows of their clocks and runs."""
        shown = shown_of_nodes(info)
        ids = [job.id for job in jobs]
        for names, batch in (
            ({"schedules", "nextFireAt", "presets"}, self.clocks),
            ({"lastRun"}, self.last_runs),
            ({"lastSuccess"}, self.last_successes),
            ({"inFlight"}, self.in_flight),
        ):
            if shown & names:
                await cast("Batch[UUID, Any]", batch).read_ahead(ids)
        if shown & {"schedules", "nextFireAt", "presets"}:
            self.jobs.know({job.id: job for job in jobs})
            await self.sky.read_ahead(["sky"])

    async def ahead_of_slots(self, slots: list[SlotRow], info: Info[Any, Any]) -> None:
        """Read the runs that a page of due times became."""
        shown, ids = shown_of_nodes(info), [slot.run_id for slot in slots if slot.run_id]
        if "run" in shown:
            await self.runs.read_ahead(ids)
        if "replay" in shown:
            await self.replays.read_ahead(ids)


def shown_of_nodes(info: Info[Any, Any]) -> frozenset[str]:
    """Name the fields a query shows of a connection's objects; none for what is not a query.

    Mutations and subscriptions change or outlive what would be read ahead for them.
    """
    raw = info._raw_info  # noqa: SLF001  strawberry's own view copies the whole selection first
    if raw.operation.operation is not OperationType.QUERY:
        return frozenset()
    fragments = raw.fragments
    below = [node.selection_set for node in raw.field_nodes]
    nodes = [field.selection_set for field in _fields(below, fragments, {"nodes"})]
    edges = [field.selection_set for field in _fields(below, fragments, {"edges"})]
    nodes += [field.selection_set for field in _fields(edges, fragments, {"node"})]
    return frozenset(field.name.value for field in _fields(nodes, fragments, None))


def _fields(
    chosen: Iterable[SelectionSetNode | None], fragments: Mapping[str, Any], names: set[str] | None
) -> Iterator[FieldNode]:
    for selection_set in chosen:
        for node in selection_set.selections if selection_set else ():
            if isinstance(node, FieldNode):
                if names is None or node.name.value in names:
                    yield node
                continue
            inner: Any = node
            if isinstance(node, FragmentSpreadNode):
                inner = fragments[node.name.value]
            yield from _fields([inner.selection_set], fragments, names)
