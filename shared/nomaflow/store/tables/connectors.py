"""Connectors declared through the API, their secrets encrypted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Text, text
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field

from nomaflow.store.tables.columns import (
    Table,
    int_column,
    json_column,
    text_column,
    time_column,
)


class Connector(Table, table=True):
    """A connector; `definition` holds `${secret:NAME}` only, `sealed` the secrets, encrypted."""

    __tablename__ = "connectors"
    name: str = Field(sa_column=Column(Text, primary_key=True, nullable=False))
    kind: str = Field(sa_column=text_column())
    definition: dict[str, Any] = Field(sa_column=json_column())
    sealed: str | None = Field(sa_column=text_column(null=True))
    secret_names: list[str] = Field(
        sa_column=Column(pg.ARRAY(Text), nullable=False, server_default=text("'{}'"))
    )
    revision: int = Field(sa_column=int_column(default=1))
    created_at: datetime = Field(sa_column=time_column(null=False, now=True))
    updated_at: datetime = Field(sa_column=time_column(null=False, now=True))
    updated_by: str = Field(sa_column=text_column())
