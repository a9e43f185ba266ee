"""The tables of the schema `nomaflow`, as SQLModel declares them.

Migrations create them (with the CHECKs and partial indexes that SQLModel cannot say) and a test
holds both equal. Rows are read and written by the modules beside this one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field, SQLModel

SCHEMA = "nomaflow"
metadata = MetaData(schema=SCHEMA)

_NEW_ID = text("uuidv7()")
_NOW = text("now()")


class Table(SQLModel):
    """The base that keeps our tables in their own schema and metadata."""

    metadata = metadata


def _text(*, null: bool = False, default: str | None = None) -> Any:
    server = None if default is None else text(f"'{default}'")
    return Column(Text, nullable=null, server_default=server)


def _json(*, null: bool = False, default: str | None = None) -> Any:
    server = None if default is None else text(f"'{default}'")
    return Column(pg.JSONB, nullable=null, server_default=server)


def _time(*, null: bool = True, now: bool = False) -> Any:
    return Column(DateTime(timezone=True), nullable=null, server_default=_NOW if now else None)


def _int(*, null: bool = False, default: int | None = 0, big: bool = False) -> Any:
    server = None if default is None else text(str(default))
    return Column(BigInteger if big else Integer, nullable=null, server_default=server)


def _flag(*, default: bool = False) -> Any:
    return Column(Boolean, nullable=False, server_default=text(str(default).lower()))


def _id() -> Any:
    return Column(pg.UUID, primary_key=True, server_default=_NEW_ID)


def _run_key(*, primary: bool = True) -> Any:
    return Column(
        pg.UUID,
        ForeignKey(f"{SCHEMA}.runs.id", ondelete="CASCADE"),
        primary_key=primary,
        nullable=False,
    )


class Job(Table, table=True):
    """A declared job; `enabled` is what the file or the API declared and the switch agree on."""

    __tablename__ = "jobs"
    id: UUID = Field(sa_column=_id())
    name: str = Field(sa_column=_text())
    origin: str = Field(sa_column=_text())
    app: str = Field(sa_column=_text())
    tags: list[str] = Field(
        sa_column=Column(pg.ARRAY(Text), nullable=False, server_default=text("'{}'"))
    )
    description: str = Field(sa_column=_text(default=""))
    revision: int = Field(sa_column=_int(default=1))
    definition: dict[str, Any] = Field(sa_column=_json())
    declared_enabled: bool = Field(sa_column=_flag(default=True))
    switched_on: bool = Field(sa_column=_flag(default=True))
    enabled: bool = Field(
        sa_column=Column(
            Boolean, Computed("declared_enabled AND switched_on", persisted=True), nullable=False
        )
    )
    shadowed: bool = Field(sa_column=_flag())
    source_file: str | None = Field(sa_column=_text(null=True))
    source_line: int | None = Field(sa_column=_int(null=True, default=None))
    paused_until: datetime | None = Field(sa_column=_time())
    created_at: datetime = Field(sa_column=_time(null=False, now=True))
    updated_at: datetime = Field(sa_column=_time(null=False, now=True))
    updated_by: str = Field(sa_column=_text())
    deleted_at: datetime | None = Field(sa_column=_time())


class JobRevision(Table, table=True):
    """A definition as it was: a run keeps the one it was born with."""

    __tablename__ = "job_revisions"
    job_id: UUID = Field(
        sa_column=Column(
            pg.UUID,
            ForeignKey(f"{SCHEMA}.jobs.id", ondelete="CASCADE"),
            primary_key=True,
            nullable=False,
        )
    )
    revision: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    definition: dict[str, Any] = Field(sa_column=_json())
    at: datetime = Field(sa_column=_time(null=False, now=True))
    by: str = Field(sa_column=_text())


class Schedule(Table, table=True):
    """A job's clock; `next_fire_at` is the one column a tick looks at."""

    __tablename__ = "schedules"
    id: UUID = Field(sa_column=_id())
    job_id: UUID = Field(
        sa_column=Column(
            pg.UUID, ForeignKey(f"{SCHEMA}.jobs.id", ondelete="CASCADE"), nullable=False
        )
    )
    name: str = Field(sa_column=_text())
    cron: str | None = Field(sa_column=_text(null=True))
    every_seconds: float | None = Field(sa_column=Column(pg.DOUBLE_PRECISION, nullable=True))
    timezone: str = Field(sa_column=_text(default="UTC"))
    params: dict[str, Any] = Field(sa_column=_json(default="{}"))
    declared_enabled: bool = Field(sa_column=_flag(default=True))
    switched_on: bool = Field(sa_column=_flag(default=True))
    fire_on_start: bool = Field(sa_column=_flag())
    max_fires: int = Field(sa_column=_int())
    preset: str | None = Field(sa_column=_text(null=True))
    next_fire_at: datetime | None = Field(sa_column=_time())
    last_fire_at: datetime | None = Field(sa_column=_time())
    fire_count: int = Field(sa_column=_int())
    retired_at: datetime | None = Field(sa_column=_time())


class Slot(Table, table=True):
    """One due time of a schedule and what became of it; a long gap is one row with its count."""

    __tablename__ = "slots"
    schedule_id: UUID = Field(
        sa_column=Column(
            pg.UUID,
            ForeignKey(f"{SCHEMA}.schedules.id", ondelete="CASCADE"),
            primary_key=True,
            nullable=False,
        )
    )
    due_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), primary_key=True, nullable=False)
    )
    outcome: str = Field(sa_column=_text())
    reason: str | None = Field(sa_column=_text(null=True))
    run_id: UUID | None = Field(
        sa_column=Column(
            pg.UUID, ForeignKey(f"{SCHEMA}.runs.id", ondelete="SET NULL"), nullable=True
        )
    )
    until: datetime | None = Field(sa_column=_time())
    count: int = Field(sa_column=_int(default=1))
    at: datetime = Field(sa_column=_time(null=False, now=True))


class Run(Table, table=True):
    """One firing of a job."""

    __tablename__ = "runs"
    id: UUID = Field(sa_column=_id())
    kind: str = Field(sa_column=_text(default="job"))
    job_id: UUID | None = Field(
        sa_column=Column(
            pg.UUID, ForeignKey(f"{SCHEMA}.jobs.id", ondelete="SET NULL"), nullable=True
        )
    )
    job_name: str = Field(sa_column=_text())
    job_revision: int | None = Field(sa_column=_int(null=True, default=None))
    status: str = Field(sa_column=_text(default="queued"))
    reason: str | None = Field(sa_column=_text(null=True))
    trigger: str = Field(sa_column=_text())
    triggered_by: str = Field(sa_column=_text())
    principal: str = Field(sa_column=_text(default=""))
    schedule_id: UUID | None = Field(
        sa_column=Column(
            pg.UUID, ForeignKey(f"{SCHEMA}.schedules.id", ondelete="SET NULL"), nullable=True
        )
    )
    schedule_name: str | None = Field(sa_column=_text(null=True))
    scheduled_for: datetime | None = Field(sa_column=_time())
    queued_at: datetime = Field(sa_column=_time(null=False, now=True))
    not_before: datetime | None = Field(sa_column=_time())
    started_at: datetime | None = Field(sa_column=_time())
    finished_at: datetime | None = Field(sa_column=_time())
    params: dict[str, Any] = Field(sa_column=_json(default="{}"))
    overrides: dict[str, Any] = Field(sa_column=_json(default="{}"))
    log_level: str = Field(sa_column=_text(default="INFO"))
    dry_run: bool = Field(sa_column=_flag())
    worker_tag: str = Field(sa_column=_text(default="default"))
    priority: int = Field(sa_column=_int())
    serial: bool = Field(sa_column=_flag())
    """True: it waits at the claim for its turn among the runs of its job."""
    lock: str | None = Field(sa_column=_text(null=True))
    idempotency_key: str | None = Field(sa_column=_text(null=True))
    replay_of: UUID | None = Field(sa_column=Column(pg.UUID, nullable=True))
    parent_run_id: UUID | None = Field(sa_column=Column(pg.UUID, nullable=True))
    lease_owner: str | None = Field(sa_column=_text(null=True))
    lease_expires_at: datetime | None = Field(sa_column=_time())
    fence: int = Field(sa_column=_int(big=True))
    interruptions: int = Field(sa_column=_int())
    abort_requested_at: datetime | None = Field(sa_column=_time())
    abort_requested_by: str | None = Field(sa_column=_text(null=True))
    abort_reason: str | None = Field(sa_column=_text(null=True))
    rows_affected: int | None = Field(sa_column=_int(null=True, default=None, big=True))
    error: dict[str, Any] | None = Field(sa_column=_json(null=True))
    worker: str | None = Field(sa_column=_text(null=True))
    long_run_alerted_at: datetime | None = Field(sa_column=_time())
    seq: int = Field(sa_column=_int(big=True))
    """Number of the last event or log line of this run."""
    log_lines: int = Field(sa_column=_int(big=True))


class StepRun(Table, table=True):
    """One link's execution."""

    __tablename__ = "step_runs"
    run_id: UUID = Field(sa_column=_run_key())
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    name: str = Field(sa_column=_text())
    type: str = Field(sa_column=_text())
    status: str = Field(sa_column=_text(default="pending"))
    reason: str | None = Field(sa_column=_text(null=True))
    attempt: int = Field(sa_column=_int())
    tries: int = Field(sa_column=_int())
    interruptions: int = Field(sa_column=_int())
    try_started_at: datetime | None = Field(sa_column=_time())
    started_at: datetime | None = Field(sa_column=_time())
    finished_at: datetime | None = Field(sa_column=_time())
    input: Any = Field(sa_column=_json(null=True))
    output: Any = Field(sa_column=_json(null=True))
    summary: str = Field(sa_column=_text(default=""))
    rows_affected: int | None = Field(sa_column=_int(null=True, default=None, big=True))
    progress: dict[str, Any] | None = Field(sa_column=_json(null=True))
    error: dict[str, Any] | None = Field(sa_column=_json(null=True))
    backends: list[Any] | None = Field(sa_column=_json(null=True))
    """Server processes working for this step, ended before it runs again."""


class StepOutput(Table, table=True):
    """A big output whole, kept for later steps until the run ends; history keeps the preview."""

    __tablename__ = "step_outputs"
    run_id: UUID = Field(sa_column=_run_key())
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    output: Any = Field(sa_column=_json())


class Attempt(Table, table=True):
    """One try of a step (X08); an interruption is a try as well."""

    __tablename__ = "attempts"
    run_id: UUID = Field(sa_column=_run_key())
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    status: str = Field(sa_column=_text())
    started_at: datetime | None = Field(sa_column=_time())
    finished_at: datetime | None = Field(sa_column=_time())
    error: dict[str, Any] | None = Field(sa_column=_json(null=True))
    worker: str | None = Field(sa_column=_text(null=True))


class RunEvent(Table, table=True):
    """What listeners heard or will hear, in order."""

    __tablename__ = "run_events"
    run_id: UUID = Field(sa_column=_run_key())
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_column=_time(null=False, now=True))
    kind: str = Field(sa_column=_text())
    payload: dict[str, Any] = Field(sa_column=_json())


class LogRow(Table, table=True):
    """One line of a run's log; level is the number of the standard library's logging."""

    __tablename__ = "log_lines"
    run_id: UUID = Field(sa_column=_run_key())
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_column=_time(null=False, now=True))
    level: int = Field(sa_column=Column(SmallInteger, nullable=False))
    step: str | None = Field(sa_column=_text(null=True))
    message: str = Field(sa_column=_text())


class Delivery(Table, table=True):
    """An alert on its way: the outbox row is written in the transaction of what it tells."""

    __tablename__ = "deliveries"
    id: UUID = Field(sa_column=_id())
    run_id: UUID | None = Field(sa_column=Column(pg.UUID, nullable=True))
    job_name: str = Field(sa_column=_text())
    event: str = Field(sa_column=_text())
    channel: str = Field(sa_column=_text())
    recipient: str = Field(sa_column=_text(default=""))
    payload: dict[str, Any] = Field(sa_column=_json())
    status: str = Field(sa_column=_text(default="pending"))
    attempts: int = Field(sa_column=_int())
    next_at: datetime | None = Field(sa_column=_time(now=True))
    error: str | None = Field(sa_column=_text(null=True))
    at: datetime = Field(sa_column=_time(null=False, now=True))
    sent_at: datetime | None = Field(sa_column=_time())


class Process(Table, table=True):
    """A program that is alive, by its own beat."""

    __tablename__ = "processes"
    name: str = Field(sa_column=Column(Text, primary_key=True))
    kind: str = Field(sa_column=_text())
    state: str = Field(sa_column=_text(default="active"))
    started_at: datetime = Field(sa_column=_time(null=False, now=True))
    seen_at: datetime = Field(sa_column=_time(null=False, now=True))
    capacity: int = Field(sa_column=_int())
    running: int = Field(sa_column=_int())
    details: dict[str, Any] = Field(sa_column=_json(default="{}"))


class Pulse(Table, table=True):
    """One row: when the database last answered, and since when without a gap."""

    __tablename__ = "pulse"
    id: bool = Field(sa_column=Column(Boolean, primary_key=True, server_default=text("true")))
    since: datetime = Field(sa_column=_time(null=False))
    at: datetime = Field(sa_column=_time(null=False))


class CatalogProblem(Table, table=True):
    """What is wrong with a file of the project folder right now."""

    __tablename__ = "catalog_problems"
    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=True))
    file: str = Field(sa_column=_text())
    line: int | None = Field(sa_column=_int(null=True, default=None))
    path: list[str] = Field(
        sa_column=Column(pg.ARRAY(Text), nullable=False, server_default=text("'{}'"))
    )
    message: str = Field(sa_column=_text())
    at: datetime = Field(sa_column=_time(null=False, now=True))


class ConnectorTest(Table, table=True):
    """The last test of a connector: green or red, and why."""

    __tablename__ = "connector_tests"
    connector: str = Field(sa_column=Column(Text, primary_key=True))
    ok: bool = Field(sa_column=Column(Boolean, nullable=False))
    at: datetime = Field(sa_column=_time(null=False, now=True))
    milliseconds: float = Field(sa_column=Column(pg.DOUBLE_PRECISION, nullable=False))
    message: str = Field(sa_column=_text())
