"""How things stand: alerts on their way, programs alive, what is wrong with a file."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Column, Text, text
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field

from nomaflow.store.tables.columns import (
    Table,
    id_column,
    int_column,
    json_column,
    text_column,
    time_column,
)


class Delivery(Table, table=True):
    """An alert on its way: the outbox row is written in the transaction of what it tells."""

    __tablename__ = "deliveries"
    id: UUID = Field(sa_column=id_column())
    run_id: UUID | None = Field(sa_column=Column(pg.UUID, nullable=True))
    job_name: str = Field(sa_column=text_column())
    event: str = Field(sa_column=text_column())
    channel: str = Field(sa_column=text_column())
    recipient: str = Field(sa_column=text_column(default=""))
    payload: dict[str, Any] = Field(sa_column=json_column())
    status: str = Field(sa_column=text_column(default="pending"))
    attempts: int = Field(sa_column=int_column())
    next_at: datetime | None = Field(sa_column=time_column(now=True))
    error: str | None = Field(sa_column=text_column(null=True))
    at: datetime = Field(sa_column=time_column(null=False, now=True))
    sent_at: datetime | None = Field(sa_column=time_column())


class Process(Table, table=True):
    """A program that is alive, by its own beat."""

    __tablename__ = "processes"
    name: str = Field(sa_column=Column(Text, primary_key=True))
    kind: str = Field(sa_column=text_column())
    state: str = Field(sa_column=text_column(default="active"))
    started_at: datetime = Field(sa_column=time_column(null=False, now=True))
    seen_at: datetime = Field(sa_column=time_column(null=False, now=True))
    capacity: int = Field(sa_column=int_column())
    running: int = Field(sa_column=int_column())
    details: dict[str, Any] = Field(sa_column=json_column(default="{}"))


class Pulse(Table, table=True):
    """One row: when the database last answered, and since when without a gap."""

    __tablename__ = "pulse"
    id: bool = Field(sa_column=Column(Boolean, primary_key=True, server_default=text("true")))
    since: datetime = Field(sa_column=time_column(null=False))
    at: datetime = Field(sa_column=time_column(null=False))


class CatalogProblem(Table, table=True):
    """What is wrong with a file of the project folder right now."""

    __tablename__ = "catalog_problems"
    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=True))
    file: str = Field(sa_column=text_column())
    line: int | None = Field(sa_column=int_column(null=True, default=None))
    path: list[str] = Field(
        sa_column=Column(pg.ARRAY(Text), nullable=False, server_default=text("'{}'"))
    )
    message: str = Field(sa_column=text_column())
    at: datetime = Field(sa_column=time_column(null=False, now=True))


class ConnectorTest(Table, table=True):
    """The last test of a connector: green or red, and why."""

    __tablename__ = "connector_tests"
    connector: str = Field(sa_column=Column(Text, primary_key=True))
    ok: bool = Field(sa_column=Column(Boolean, nullable=False))
    at: datetime = Field(sa_column=time_column(null=False, now=True))
    milliseconds: float = Field(sa_column=Column(pg.DOUBLE_PRECISION, nullable=False))
    message: str = Field(sa_column=text_column())
