"""The row of a sync in a table of the user's own, with the columns of seed 003's `sync_logs`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from nomaflow.connectors.postgres.connector import PostgresConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.syncing.settings import LogTable

COLUMNS = (
    "sync_id",
    "status",
    "records_processed",
    "pages",
    "duration_seconds",
    "errors",
    "completed_at",
)


def sync_id(run_id: UUID, position: int) -> int:
    """A number for one step of one run: later runs have larger ones, and no two the same.

    The first half of a UUIDv7 (RFC 9562 section 5.7), which counts in fractions of a millisecond.
    """
    return (run_id.int >> 64) + position


class SyncLog:
    """Writes one row per run and step, however often the step is tried."""

    def __init__(self, connector: SqlConnector, table: LogTable, sync: int) -> None:
        self._connector, self._sync = connector, sync
        mark = "`" if connector.dialect == "mysql" else '"'
        parts = [part for part in (table.schema_name, table.table) if part]
        self._table = ".".join(mark + part.replace(mark, mark * 2) + mark for part in parts)
        self._shown = ".".join(parts)

    async def check(self) -> None:
        """StepError when the table cannot take the row: better said before the first request."""
        try:
            await self._connector.execute(
                f"SELECT {', '.join(COLUMNS)} FROM {self._table} WHERE 1 = 0"
            )
        except StepError as error:
            if error.category == "connection":
                raise
            raise StepError(
                f"the log table `{self._shown}` needs the columns {', '.join(COLUMNS)}: "
                f"{error.message}",
                retryable=False,
            ) from None

    async def write(self, status: str, output: Mapping[str, Any]) -> None:
        """Write the row; what an earlier try of the same run wrote is replaced."""
        row = {
            "sync_id": self._sync,
            "status": status,
            "records_processed": output["records"],
            "pages": output["pages"],
            "duration_seconds": round(output["duration_seconds"], 2),
            "errors": json.dumps(output["errors"], ensure_ascii=False),
            "completed_at": self._time(output["completed_at"]),
        }
        values = ", ".join(f":{name}" for name in COLUMNS)
        async with self._connector.transaction():
            await self._connector.execute(
                f"DELETE FROM {self._table} WHERE sync_id = :sync_id", {"sync_id": self._sync}
            )
            await self._connector.execute(
                f"INSERT INTO {self._table} ({', '.join(COLUMNS)}) VALUES ({values})", row
            )

    def _time(self, text: str) -> str:
        """A time as the database reads text; MariaDB's have no zone."""
        if isinstance(self._connector, PostgresConnector) or self._connector.dialect != "mysql":
            return text
        return text.replace("T", " ").removesuffix("Z")
