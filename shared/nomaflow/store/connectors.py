"""Connectors declared through the API; their secrets are here in sealed form only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class StoredConnector:
    """A connector's row."""

    name: str
    kind: str
    definition: Mapping[str, Any]
    sealed: str | None
    secret_names: Sequence[str]
    revision: int
    created_at: datetime
    updated_at: datetime
    updated_by: str


COLUMNS = (
    "name, kind, definition, sealed, secret_names, revision, created_at, updated_at, updated_by"
)


async def find(
    db: Connection | Database, name: str, *, lock: bool = False
) -> StoredConnector | None:
    """Answer one connector; `lock` keeps others from changing it meanwhile."""
    suffix = " FOR UPDATE" if lock else ""
    row = await db.fetchrow(
        f"SELECT {COLUMNS} FROM nomaflow.connectors WHERE name = $1{suffix}", name
    )
    return StoredConnector(**row) if row else None


async def some(
    db: Connection | Database, names: Sequence[str] | None = None
) -> list[StoredConnector]:
    """Answer the connectors of these names, or all, by name."""
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM nomaflow.connectors "
        "WHERE $1::text[] IS NULL OR name = ANY ($1) ORDER BY name",
        None if names is None else list(names),
    )
    return [StoredConnector(**row) for row in rows]


async def insert(
    connection: Connection,
    name: str,
    *,
    definition: Mapping[str, Any],
    sealed: str | None,
    secret_names: Sequence[str],
    by: str,
) -> bool:
    """Add a connector; False when there is one of that name."""
    done = await connection.fetchval(
        """INSERT INTO nomaflow.connectors (name, kind, definition, sealed, secret_names,
             updated_by)
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING RETURNING true""",
        name,
        definition["kind"],
        dict(definition),
        sealed,
        list(secret_names),
        by,
    )
    return bool(done)


async def replace(
    connection: Connection,
    name: str,
    *,
    definition: Mapping[str, Any],
    sealed: str | None,
    secret_names: Sequence[str],
    by: str,
) -> None:
    """Write a connector anew, as its next revision."""
    await connection.execute(
        """UPDATE nomaflow.connectors SET kind = $2, definition = $3, sealed = $4,
             secret_names = $5, updated_by = $6, updated_at = now(), revision = revision + 1
           WHERE name = $1""",
        name,
        definition["kind"],
        dict(definition),
        sealed,
        list(secret_names),
        by,
    )


async def reseal(connection: Connection, name: str, sealed: str) -> None:
    """Keep the same secrets under another key; the connector itself stays what it was."""
    await connection.execute(
        "UPDATE nomaflow.connectors SET sealed = $2 WHERE name = $1", name, sealed
    )


async def delete(connection: Connection, name: str) -> None:
    """Remove a connector, its secrets and its last test."""
    await connection.execute("DELETE FROM nomaflow.connectors WHERE name = $1", name)
    await connection.execute("DELETE FROM nomaflow.connector_tests WHERE connector = $1", name)
