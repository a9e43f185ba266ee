"""What a run leaves behind: its steps, tries, events and log lines."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, SmallInteger
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field

from nomaflow.store.tables.columns import (
    SCHEMA,
    Table,
    flag_column,
    id_column,
    int_column,
    json_column,
    run_key,
    text_column,
    time_column,
)


class Run(Table, table=True):
    """One firing of a job."""

    __tablename__ = "runs"
    id: UUID = Field(sa_column=id_column())
    kind: str = Field(sa_column=text_column(default="job"))
    job_id: UUID | None = Field(
        sa_column=Column(
            pg.UUID, ForeignKey(f"{SCHEMA}.jobs.id", ondelete="SET NULL"), nullable=True
        )
    )
    job_name: str = Field(sa_column=text_column())
    job_revision: int | None = Field(sa_column=int_column(null=True, default=None))
    status: str = Field(sa_column=text_column(default="queued"))
    reason: str | None = Field(sa_column=text_column(null=True))
    trigger: str = Field(sa_column=text_column())
    triggered_by: str = Field(sa_column=text_column())
    principal: str = Field(sa_column=text_column(default=""))
    schedule_id: UUID | None = Field(
        sa_column=Column(
            pg.UUID, ForeignKey(f"{SCHEMA}.schedules.id", ondelete="SET NULL"), nullable=True
        )
    )
    schedule_name: str | None = Field(sa_column=text_column(null=True))
    scheduled_for: datetime | None = Field(sa_column=time_column())
    queued_at: datetime = Field(sa_column=time_column(null=False, now=True))
    not_before: datetime | None = Field(sa_column=time_column())
    started_at: datetime | None = Field(sa_column=time_column())
    finished_at: datetime | None = Field(sa_column=time_column())
    params: dict[str, Any] = Field(sa_column=json_column(default="{}"))
    overrides: dict[str, Any] = Field(sa_column=json_column(default="{}"))
    log_level: str = Field(sa_column=text_column(default="INFO"))
    dry_run: bool = Field(sa_column=flag_column())
    worker_tag: str = Field(sa_column=text_column(default="default"))
    priority: int = Field(sa_column=int_column())
    serial: bool = Field(sa_column=flag_column())
    """True: it waits at the claim for its turn among the runs of its job."""
    lock: str | None = Field(sa_column=text_column(null=True))
    idempotency_key: str | None = Field(sa_column=text_column(null=True))
    replay_of: UUID | None = Field(sa_column=Column(pg.UUID, nullable=True))
    parent_run_id: UUID | None = Field(sa_column=Column(pg.UUID, nullable=True))
    lease_owner: str | None = Field(sa_column=text_column(null=True))
    lease_expires_at: datetime | None = Field(sa_column=time_column())
    fence: int = Field(sa_column=int_column(big=True))
    interruptions: int = Field(sa_column=int_column())
    abort_requested_at: datetime | None = Field(sa_column=time_column())
    abort_requested_by: str | None = Field(sa_column=text_column(null=True))
    abort_reason: str | None = Field(sa_column=text_column(null=True))
    rows_affected: int | None = Field(sa_column=int_column(null=True, default=None, big=True))
    error: dict[str, Any] | None = Field(sa_column=json_column(null=True))
    worker: str | None = Field(sa_column=text_column(null=True))
    long_run_alerted_at: datetime | None = Field(sa_column=time_column())
    seq: int = Field(sa_column=int_column(big=True))
    """Number of the last event or log line of this run."""
    log_lines: int = Field(sa_column=int_column(big=True))


class StepRun(Table, table=True):
    """One link's execution."""

    __tablename__ = "step_runs"
    run_id: UUID = Field(sa_column=run_key())
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    name: str = Field(sa_column=text_column())
    type: str = Field(sa_column=text_column())
    status: str = Field(sa_column=text_column(default="pending"))
    reason: str | None = Field(sa_column=text_column(null=True))
    attempt: int = Field(sa_column=int_column())
    tries: int = Field(sa_column=int_column())
    interruptions: int = Field(sa_column=int_column())
    try_started_at: datetime | None = Field(sa_column=time_column())
    started_at: datetime | None = Field(sa_column=time_column())
    finished_at: datetime | None = Field(sa_column=time_column())
    input: Any = Field(sa_column=json_column(null=True))
    output: Any = Field(sa_column=json_column(null=True))
    summary: str = Field(sa_column=text_column(default=""))
    rows_affected: int | None = Field(sa_column=int_column(null=True, default=None, big=True))
    progress: dict[str, Any] | None = Field(sa_column=json_column(null=True))
    error: dict[str, Any] | None = Field(sa_column=json_column(null=True))
    backends: list[Any] | None = Field(sa_column=json_column(null=True))
    """Server processes working for this step, ended before it runs again."""
    checkpoint: dict[str, Any] | None = Field(sa_column=json_column(null=True))
    """How far the step itself has come: where another try of it goes on."""
    watermarks: dict[str, Any] | None = Field(sa_column=json_column(null=True))
    """What the step proposes; written when the run succeeds, and forgotten when it does not."""


class StepOutput(Table, table=True):
    """A big output whole, kept for later steps until the run ends; history keeps the preview."""

    __tablename__ = "step_outputs"
    run_id: UUID = Field(sa_column=run_key())
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    output: Any = Field(sa_column=json_column())


class Attempt(Table, table=True):
    """One try of a step (X08); an interruption is a try as well."""

    __tablename__ = "attempts"
    run_id: UUID = Field(sa_column=run_key())
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    status: str = Field(sa_column=text_column())
    started_at: datetime | None = Field(sa_column=time_column())
    finished_at: datetime | None = Field(sa_column=time_column())
    error: dict[str, Any] | None = Field(sa_column=json_column(null=True))
    worker: str | None = Field(sa_column=text_column(null=True))


class RunEvent(Table, table=True):
    """What listeners heard or will hear, in order."""

    __tablename__ = "run_events"
    run_id: UUID = Field(sa_column=run_key())
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_column=time_column(null=False, now=True))
    kind: str = Field(sa_column=text_column())
    payload: dict[str, Any] = Field(sa_column=json_column())


class LogRow(Table, table=True):
    """One line of a run's log; level is the number of the standard library's logging."""

    __tablename__ = "log_lines"
    run_id: UUID = Field(sa_column=run_key())
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_column=time_column(null=False, now=True))
    level: int = Field(sa_column=Column(SmallInteger, nullable=False))
    step: str | None = Field(sa_column=text_column(null=True))
    message: str = Field(sa_column=text_column())
