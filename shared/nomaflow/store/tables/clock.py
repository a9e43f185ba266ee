"""What closes the clocks: calendars, blackouts and the switch of the whole scheduler."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, Text, text
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field

from nomaflow.store.tables.columns import Table, json_column, text_column, time_column


class Calendar(Table, table=True):
    """A named calendar as it was written; the days of its iCalendar file are in it."""

    __tablename__ = "calendars"
    name: str = Field(sa_column=Column(Text, primary_key=True))
    definition: dict[str, Any] = Field(sa_column=json_column())
    origin: str = Field(sa_column=text_column())


class Blackout(Table, table=True):
    """A window in which the due times of some jobs are skipped or postponed."""

    __tablename__ = "blackouts"
    name: str = Field(sa_column=Column(Text, primary_key=True))
    from_at: datetime = Field(sa_column=time_column(null=False))
    until: datetime = Field(sa_column=time_column(null=False))
    jobs: list[str] = Field(
        sa_column=Column(pg.ARRAY(Text), nullable=False, server_default=text("'{}'"))
    )
    connectors: list[str] = Field(
        sa_column=Column(pg.ARRAY(Text), nullable=False, server_default=text("'{}'"))
    )
    action: str = Field(sa_column=text_column())
    origin: str = Field(sa_column=text_column())
    by: str = Field(sa_column=text_column())
    at: datetime = Field(sa_column=time_column(null=False, now=True))


class SchedulerSwitch(Table, table=True):
    """One row: whether no clock fires at all, and when the latest such pause was."""

    __tablename__ = "scheduler_switch"
    id: bool = Field(sa_column=Column(Boolean, primary_key=True, server_default=text("true")))
    paused: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    paused_from: datetime | None = Field(sa_column=time_column())
    paused_until: datetime | None = Field(sa_column=time_column())
    by: str = Field(sa_column=text_column())
    at: datetime = Field(sa_column=time_column(null=False, now=True))
