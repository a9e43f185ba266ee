"""What is declared: jobs with their revisions, and clocks with their due times."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Column, Computed, DateTime, ForeignKey, Integer, Text, text
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field

from nomaflow.store.tables.columns import (
    SCHEMA,
    Table,
    flag_column,
    id_column,
    int_column,
    json_column,
    text_column,
    time_column,
)


class Job(Table, table=True):
    """A declared job; `enabled` is what the file or the API declared and the switch agree on."""

    __tablename__ = "jobs"
    id: UUID = Field(sa_column=id_column())
    name: str = Field(sa_column=text_column())
    origin: str = Field(sa_column=text_column())
    app: str = Field(sa_column=text_column())
    tags: list[str] = Field(
        sa_column=Column(pg.ARRAY(Text), nullable=False, server_default=text("'{}'"))
    )
    description: str = Field(sa_column=text_column(default=""))
    revision: int = Field(sa_column=int_column(default=1))
    definition: dict[str, Any] = Field(sa_column=json_column())
    declared_enabled: bool = Field(sa_column=flag_column(default=True))
    switched_on: bool = Field(sa_column=flag_column(default=True))
    enabled: bool = Field(
        sa_column=Column(
            Boolean, Computed("declared_enabled AND switched_on", persisted=True), nullable=False
        )
    )
    shadowed: bool = Field(sa_column=flag_column())
    source_file: str | None = Field(sa_column=text_column(null=True))
    source_line: int | None = Field(sa_column=int_column(null=True, default=None))
    paused_from: datetime | None = Field(sa_column=time_column())
    paused_until: datetime | None = Field(sa_column=time_column())
    created_at: datetime = Field(sa_column=time_column(null=False, now=True))
    updated_at: datetime = Field(sa_column=time_column(null=False, now=True))
    updated_by: str = Field(sa_column=text_column())
    deleted_at: datetime | None = Field(sa_column=time_column())


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
    definition: dict[str, Any] = Field(sa_column=json_column())
    at: datetime = Field(sa_column=time_column(null=False, now=True))
    by: str = Field(sa_column=text_column())
    any_env: bool = Field(sa_column=flag_column())


class Schedule(Table, table=True):
    """A job's clock, due next at `next_fire_at`; `look_at`, jitter added, is what a tick reads."""

    __tablename__ = "schedules"
    id: UUID = Field(sa_column=id_column())
    job_id: UUID = Field(
        sa_column=Column(
            pg.UUID, ForeignKey(f"{SCHEMA}.jobs.id", ondelete="CASCADE"), nullable=False
        )
    )
    name: str = Field(sa_column=text_column())
    cron: str | None = Field(sa_column=text_column(null=True))
    every_seconds: float | None = Field(sa_column=Column(pg.DOUBLE_PRECISION, nullable=True))
    timezone: str = Field(sa_column=text_column(default="UTC"))
    params: dict[str, Any] = Field(sa_column=json_column(default="{}"))
    declared_enabled: bool = Field(sa_column=flag_column(default=True))
    switched_on: bool = Field(sa_column=flag_column(default=True))
    fire_on_start: bool = Field(sa_column=flag_column())
    max_fires: int = Field(sa_column=int_column())
    preset: str | None = Field(sa_column=text_column(null=True))
    catch_up: str = Field(sa_column=text_column(default="none"))
    catch_up_limit: int = Field(sa_column=int_column(default=10))
    catch_up_window_seconds: float | None = Field(
        sa_column=Column(pg.DOUBLE_PRECISION, nullable=True)
    )
    jitter_seconds: float = Field(
        sa_column=Column(pg.DOUBLE_PRECISION, nullable=False, server_default=text("0"))
    )
    calendar: str | None = Field(sa_column=text_column(null=True))
    look_at: datetime | None = Field(sa_column=time_column())
    warning: str | None = Field(sa_column=text_column(null=True))
    next_fire_at: datetime | None = Field(sa_column=time_column())
    last_fire_at: datetime | None = Field(sa_column=time_column())
    fire_count: int = Field(sa_column=int_column())
    retired_at: datetime | None = Field(sa_column=time_column())


class Slot(Table, table=True):
    """One due time of a schedule and what became of it; a long gap is one row with its count.

    One that waits for other jobs (`waits_for`, until `deadline`) or for the end of a blackout is
    looked at again at `look_at`, or when one of those jobs ends.
    """

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
    outcome: str = Field(sa_column=text_column())
    reason: str | None = Field(sa_column=text_column(null=True))
    run_id: UUID | None = Field(
        sa_column=Column(
            pg.UUID, ForeignKey(f"{SCHEMA}.runs.id", ondelete="SET NULL"), nullable=True
        )
    )
    until: datetime | None = Field(sa_column=time_column())
    look_at: datetime | None = Field(sa_column=time_column())
    deadline: datetime | None = Field(sa_column=time_column())
    waits_for: list[str] | None = Field(sa_column=json_column(null=True))
    count: int = Field(sa_column=int_column(default=1))
    at: datetime = Field(sa_column=time_column(null=False, now=True))
