"""The last test of each connector: green or red, when, and in whose words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class TestRow:
    """What a test found."""

    ok: bool
    at: datetime
    milliseconds: float
    message: str


async def keep(
    db: Connection | Database, connector: str, *, ok: bool, milliseconds: float, message: str
) -> TestRow:
    """Remember a test; the one before it is forgotten."""
    rows = await db.fetch(
        """INSERT INTO nomaflow.connector_tests (connector, ok, milliseconds, message)
           VALUES ($1, $2, $3, $4)
           ON CONFLICT (connector) DO UPDATE SET ok = $2, milliseconds = $3, message = $4,
             at = now()
           RETURNING ok, at, milliseconds, message""",
        connector,
        ok,
        milliseconds,
        message,
    )
    return TestRow(*rows[0])


async def all_of_them(db: Connection | Database) -> dict[str, TestRow]:
    """Read the last test of every connector that was ever tested."""
    rows = await db.fetch(
        "SELECT connector, ok, at, milliseconds, message FROM nomaflow.connector_tests"
    )
    return {row["connector"]: TestRow(*list(row)[1:]) for row in rows}
