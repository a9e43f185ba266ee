"""Runs that an outside script executes and reports: begun, kept alive, finished (seed 004).

They live in the same history as the engine's own, with the same events and alerts, and no worker
ever claims one. A run that falls silent is called stale and stays open: its script may yet report.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nomaflow import moves
from nomaflow.alerts import decide, facts
from nomaflow.alerts.facts import Event
from nomaflow.errors import Code, Failure, NomaflowError
from nomaflow.in_force import definitions
from nomaflow.job.problems import Problem, SpecErrors
from nomaflow.lifecycle import FINAL_RUN, RunStatus
from nomaflow.outside import names
from nomaflow.store import deliveries, external, history, jobs, logs, runs
from nomaflow.store.external import NewExternal
from nomaflow.store.transitions import Line, NewDelivery

if TYPE_CHECKING:
    from uuid import UUID

    from nomaflow.alert_spec import Channels
    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.external import StaleRun
    from nomaflow.store.history import RunRow

LONGEST_MESSAGE = 16_000
LONGEST_HEARTBEAT = 7 * 86_400.0
MOST_RECORDS = 2**63 - 1
SILENT_BEATS = 3
"""A script that said how often it gives a sign of life is stale after so many missed ones."""
SHORTEST_SILENCE = 30.0
CLOCK_SLACK = timedelta(minutes=5)
"""A client's clock may be ahead by so much; its start then counts as now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A script says that it begins; `job` is free text, with or without a declared job.

    Jobs and scripts share one space of names: history, alerts, needs and `most_recent` go by name.
    """

    job: str
    source: str
    destination: str
    trigger: str
    triggered_by: str
    principal: str = ""
    idempotency_key: str | None = None
    started_at: datetime | None = None
    heartbeat_seconds: float | None = None


async def start(
    db: Database, bell: Bell, wish: Start, *, stale_minutes: float
) -> tuple[UUID, bool]:
    """Begin a run that is executed elsewhere; its id, and False when its key found it (Z19).

    Raises SpecErrors for values that do not fit, NomaflowError CONFLICT for a key of other work.
    """
    problems = _problems(wish)
    if problems:
        raise SpecErrors(problems)
    silence = stale_minutes * 60
    if wish.heartbeat_seconds is not None:
        silence = max(SILENT_BEATS * wish.heartbeat_seconds, SHORTEST_SILENCE)
    new = NewExternal(
        job_name=names.name_of(wish.job),
        trigger=wish.trigger,
        triggered_by=wish.triggered_by,
        principal=wish.principal,
        source=names.name_of(wish.source),
        destination=names.name_of(wish.destination),
        stale_seconds=silence,
        idempotency_key=wish.idempotency_key,
        started_at=wish.started_at,
    )
    run_id = await external.begin(db, new)
    if run_id is None:
        return await _earlier(db, new), False
    seq = await _tell_of_namesake(db, run_id, new.job_name)
    bell.news(run_id, seq or 1, RunStatus.RUNNING.value)
    return run_id, True


async def _tell_of_namesake(db: Database, run_id: UUID, name: str) -> int | None:
    """Say in the log that a declared job has this name: whoever did not mean that should know."""
    async with db.transaction() as connection:
        if await jobs.find(connection, name) is None:
            return None
        words = (
            f"`{name}` is the name of a declared job too: its alerts are told of this run, jobs "
            "that depend on it heed it, and mostRecent without a source is that of both"
        )
        line = Line(datetime.now(UTC), logging.INFO, None, words)
        return await logs.append(connection, run_id, 0, [line])


async def _earlier(db: Database, new: NewExternal) -> UUID:
    assert new.idempotency_key is not None  # noqa: S101  only a key can be taken
    found = await external.with_key(db, new.job_name, new.idempotency_key)
    if found is None or (found.source, found.destination) != (new.source, new.destination):
        raise NomaflowError(
            Code.CONFLICT,
            f"the key `{new.idempotency_key}` of `{new.job_name}` belongs to another run; a key "
            "stands for one piece of work, so use a new one",
            ("idempotencyKey",),
        )
    return found.run_id


def _problems(wish: Start) -> list[Problem]:
    found = [
        Problem((field,), f"`{field}` {why}")
        for field, text in (
            ("job", wish.job),
            ("source", wish.source),
            ("destination", wish.destination),
        )
        if (why := names.wrong_name(text))
    ]
    key = wish.idempotency_key
    if key is not None and (why := names.wrong_name(key)):
        found.append(Problem(("idempotencyKey",), f"`idempotencyKey` {why}"))
    beat = wish.heartbeat_seconds
    if beat is not None and not 1 <= beat <= LONGEST_HEARTBEAT:
        message = "`heartbeatSeconds` must be between 1 second and 7 days"
        found.append(Problem(("heartbeatSeconds",), message))
    found += _wrong_start(wish.started_at)
    return found


def _wrong_start(at: datetime | None) -> list[Problem]:
    if at is None:
        return []
    path = ("startedAt",)
    if at.tzinfo is None:
        return [Problem(path, "`startedAt` needs an offset, such as 2026-01-01T02:00:00Z")]
    if at > datetime.now(UTC) + CLOCK_SLACK:
        return [Problem(path, "`startedAt` lies in the future; is that machine's clock right?")]
    return []


async def heartbeat(db: Database, bell: Bell, run_id: UUID, message: str | None) -> None:
    """Note that the script lives; what it says becomes a line of the run's log.

    Raises NomaflowError: NOT_FOUND, or INVALID_STATE when the run is over, as after an abort.
    """
    words = shortened(message)
    async with db.transaction() as connection:
        if not await external.beat(connection, run_id, words):
            raise await _refusal(connection, run_id, "no sign of life")
        seq = None
        if words:
            line = Line(datetime.now(UTC), logging.INFO, None, words)
            seq = await logs.append(connection, run_id, 0, [line])
    if seq is not None:
        bell.news(run_id, seq)


async def finish(
    db: Database,
    bell: Bell,
    channels: Channels,
    run_id: UUID,
    *,
    succeeded: bool,
    records: int | None = None,
    message: str | None = None,
    url: str = "",
) -> None:
    """End the run as its script reports; who is told is decided in the same transaction (Z14).

    Raises NomaflowError: NOT_FOUND, INVALID_STATE for a second report (Z13), and INVALID for
    records below zero; then nothing was written.
    """
    if records is not None and not 0 <= records <= MOST_RECORDS:
        raise NomaflowError(
            Code.INVALID, "`recordsProcessed` must be zero or more", ("recordsProcessed",)
        )
    words = shortened(message)
    failure = None if succeeded else Failure("ExternalError", words or "reported as failed")
    async with db.transaction() as connection:
        row = (await history.find(connection, [run_id])).get(run_id)
        held = await runs.held(connection, run_id)
        if row is None or held is None or row.kind != "external" or held.status in FINAL_RUN:
            raise await _refusal(connection, run_id, "no second end")
        move = moves.report(held, failure)
        told = []
        if failure is not None:
            told = await _messages(
                connection,
                Event.FAILED,
                row,
                channels,
                url,
                state=move.status,
                error=failure.message,
            )
        seq = await runs.apply(connection, move, (), told)
        if seq is None:
            raise await _refusal(connection, run_id, "no second end")
        await external.report(connection, run_id, records, words)
    bell.news(run_id, seq, move.status.value)


async def _messages(
    connection: Connection | Database,
    event: Event,
    run: RunRow | StaleRun,
    channels: Channels,
    url: str,
    *,
    state: RunStatus,
    error: str | None = None,
    **more: str,
) -> list[NewDelivery]:
    """Decide who hears of an outside run: the alerts of the job of its name, or the routes."""
    job = await jobs.find(connection, run.job_name)
    spec = definitions.of_job(job) if job else None
    described = facts.RunFacts(
        run_id=run.id,
        job_name=run.job_name,
        app=spec.app if spec else "",
        tags=spec.tags if spec else (),
        state=state.value,
        triggered_by=run.triggered_by,
        trigger="api",
        started_at=run.started_at,
        finished_at=None if state is RunStatus.RUNNING else datetime.now(UTC),
        error=error,
        url=facts.run_url(url, run.id),
    )
    block = spec.alerts if spec else None
    return decide.on_outside(block, event, described, channels, **more)


async def _refusal(connection: Connection, run_id: UUID, what: str) -> NomaflowError:
    """Say why a script's word about a run is not taken."""
    run = (await history.find(connection, [run_id])).get(run_id)
    if run is None:
        return NomaflowError(Code.NOT_FOUND, f"there is no run {run_id}", ("run",))
    if run.kind != "external":
        return NomaflowError(
            Code.INVALID_STATE,
            f"run {run_id} is carried out by Nomaflow's own workers; no script reports it",
            ("run",),
        )
    return NomaflowError(
        Code.INVALID_STATE, f"run {run_id} is already {run.status} and takes {what}", ("run",)
    )


def shortened(message: str | None) -> str | None:
    """Cut a message that is too long to keep, and say so; empty is none."""
    if not message or len(message) <= LONGEST_MESSAGE:
        return message or None
    return message[:LONGEST_MESSAGE] + " ... (cut)"


async def look_for_stale(
    db: Database, bell: Bell, channels: Channels, *, url: str = "", at: datetime | None = None
) -> int:
    """Tell of runs that fell silent, each silence once (Z15); answers how many."""
    told = 0
    for run in await external.unwarned(db, at):
        told += await _warn(db, bell, channels, run, url)
    return told


async def _warn(db: Database, bell: Bell, channels: Channels, run: StaleRun, url: str) -> bool:
    minutes = f"{run.minutes:.0f}"
    state = RunStatus.RUNNING
    messages = await _messages(db, Event.STALE, run, channels, url, state=state, minutes=minutes)
    async with db.transaction() as connection:
        if not await external.mark(connection, run.id):
            return False
        await deliveries.add(connection, run.id, messages)
        words = f"no sign of life for {_long(run.minutes)}: the run counts as stale"
        line = Line(datetime.now(UTC), logging.WARNING, None, words)
        seq = await logs.append(connection, run.id, 0, [line])
    if seq is not None:
        bell.news(run.id, seq)
    return True


def _long(minutes: float) -> str:
    if minutes < 1:
        return f"{minutes * 60:.0f} s"
    return "1 minute" if round(minutes) == 1 else f"{minutes:.0f} minutes"
