"""Bring the database to this version: schema, tables, and the role that jobs use."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from nomaflow.errors import Code, NomaflowError
from nomaflow.store import database, roles

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = structlog.get_logger(__name__)

OLDEST = 180000
"""PostgreSQL 18: the first with uuidv7()."""


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    command.upgrade(_config(connection), "head")


async def upgrade(database_url: str) -> None:
    """Migrate to the newest revision under an advisory lock, then see to the jobs' role.

    Safe to call from several programs at once. Raises NomaflowError (INVALID) when the server
    is older than PostgreSQL 18.
    """
    engine = create_async_engine(database.sqlalchemy_url(database_url), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            version = int((await connection.execute(text("SHOW server_version_num"))).scalar_one())
            if version < OLDEST:
                raise NomaflowError(
                    Code.INVALID,
                    "the service's own database must be PostgreSQL 18 or newer, and this one is "
                    f"{version // 10000}; set NOMAFLOW_DATABASE_URL to another server",
                )
            await connection.execute(text("SELECT pg_advisory_xact_lock(7266301)"))
            await connection.execute(text("CREATE SCHEMA IF NOT EXISTS nomaflow"))
            await connection.run_sync(_upgrade)
        await roles.ensure(database_url)
    finally:
        await engine.dispose()


def main(database_url: str) -> None:
    """Run `upgrade` from a program's main."""
    asyncio.run(upgrade(database_url))
