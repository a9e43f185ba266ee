"""The makers of columns, so that each table says only what is its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Text,
    text,
)
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import SQLModel

SCHEMA = "nomaflow"
metadata = MetaData(schema=SCHEMA)

NEW_ID = text("uuidv7()")
NOW = text("now()")


class Table(SQLModel):
    """The base that keeps our tables in their own schema and metadata."""

    metadata = metadata


def text_column(*, null: bool = False, default: str | None = None) -> Any:
    """Text; required unless `null`."""
    server = None if default is None else text(f"'{default}'")
    return Column(Text, nullable=null, server_default=server)


def json_column(*, null: bool = False, default: str | None = None) -> Any:
    """A jsonb value; required unless `null`."""
    server = None if default is None else text(f"'{default}'")
    return Column(pg.JSONB, nullable=null, server_default=server)


def time_column(*, null: bool = True, now: bool = False) -> Any:
    """An instant (timestamptz)."""
    return Column(DateTime(timezone=True), nullable=null, server_default=NOW if now else None)


def int_column(*, null: bool = False, default: int | None = 0, big: bool = False) -> Any:
    """A whole number, of 64 bits when `big`."""
    server = None if default is None else text(str(default))
    return Column(BigInteger if big else Integer, nullable=null, server_default=server)


def flag_column(*, default: bool = False) -> Any:
    """True or false, never null."""
    return Column(Boolean, nullable=False, server_default=text(str(default).lower()))


def id_column() -> Any:
    """The key of a row: a UUIDv7 that PostgreSQL makes."""
    return Column(pg.UUID, primary_key=True, server_default=NEW_ID)


def run_key(*, primary: bool = True) -> Any:
    """The run a row belongs to, and goes with."""
    return Column(
        pg.UUID,
        ForeignKey(f"{SCHEMA}.runs.id", ondelete="CASCADE"),
        primary_key=primary,
        nullable=False,
    )
