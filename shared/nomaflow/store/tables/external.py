"""Runs that outside scripts execute and report."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field

from nomaflow.store.tables.columns import Table, int_column, run_key, text_column, time_column


class ExternalRun(Table, table=True):
    """What only an outside run has (seed 004): where data came from and went, signs of life."""

    __tablename__ = "external_runs"
    run_id: UUID = Field(sa_column=run_key())
    job_name: str = Field(sa_column=text_column())
    """As in its run: names and places are looked up together."""
    source: str = Field(sa_column=text_column())
    destination: str = Field(sa_column=text_column())
    records_processed: int | None = Field(sa_column=int_column(null=True, default=None, big=True))
    message: str | None = Field(sa_column=text_column(null=True))
    heartbeat_at: datetime | None = Field(sa_column=time_column())
    stale_seconds: float = Field(sa_column=Column(pg.DOUBLE_PRECISION, nullable=False))
    """So long without a sign of life, and the run is called stale."""
    stale_alerted_at: datetime | None = Field(sa_column=time_column())
