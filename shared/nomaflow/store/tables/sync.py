"""How far syncs have come, and the batches that failed, kept until they are retried."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Text
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field

from nomaflow.store.tables.columns import (
    Table,
    flag_column,
    id_column,
    int_column,
    json_column,
    run_key,
    text_column,
    time_column,
)


class Watermark(Table, table=True):
    """How far a job has come, by a name of its own; moved only by a run that succeeded."""

    __tablename__ = "watermarks"
    job_name: str = Field(sa_column=Column(Text, primary_key=True, nullable=False))
    name: str = Field(sa_column=Column(Text, primary_key=True, nullable=False))
    value: str = Field(sa_column=text_column())
    updated_at: datetime = Field(sa_column=time_column(null=False, now=True))
    run_id: UUID | None = Field(sa_column=Column(pg.UUID, nullable=True))
    """The run that moved it; null when a person set it."""


class FailedBatch(Table, table=True):
    """Items that could not be written, kept whole; `attempts` counts the sync's own try."""

    __tablename__ = "failed_batches"
    id: UUID = Field(sa_column=id_column())
    run_id: UUID = Field(sa_column=run_key(primary=False))
    job_name: str = Field(sa_column=text_column())
    position: int = Field(sa_column=int_column(default=None))
    step: str = Field(sa_column=text_column())
    page: int | None = Field(sa_column=int_column(null=True, default=None))
    batch: int = Field(sa_column=int_column(default=None))
    items: int = Field(sa_column=int_column(default=None))
    payload: Any = Field(sa_column=json_column())
    request: Any = Field(sa_column=json_column(null=True))
    """Of a page that could not be fetched: what to ask for again; its payload is empty."""
    masked: bool = Field(sa_column=flag_column())
    """True: a secret stood in the payload or request and was masked, so it cannot be retried."""
    error: str = Field(sa_column=text_column())
    attempts: int = Field(sa_column=int_column(default=1))
    status: str = Field(sa_column=text_column(default="pending"))
    retry_run_id: UUID | None = Field(sa_column=Column(pg.UUID, nullable=True))
    """The newest run that retries it, or did."""
    created_at: datetime = Field(sa_column=time_column(null=False, now=True))
    updated_at: datetime = Field(sa_column=time_column(null=False, now=True))
