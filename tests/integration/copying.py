"""Two databases and a copy between them, for the tests of sql_copy."""

from typing import Any

from step_context import RealContext

from nomaflow.connectors import spec, sql
from nomaflow.connectors.sql import SqlConnector
from nomaflow.steps.base import StepResult
from nomaflow.steps.sql_copy import SqlCopy


class Pair:
    """A source and a target database, each with a connector of the tests' own."""

    def __init__(self, source_url: str, target_url: str) -> None:
        self.urls = {"ops": source_url, "reports": target_url}
        self.connectors = {
            name: spec.SqlConnectorSpec(kind="sql", url=url) for name, url in self.urls.items()
        }
        self.ops: SqlConnector = sql.open("ops", self.connectors["ops"])
        self.reports: SqlConnector = sql.open("reports", self.connectors["reports"])
        self.context = RealContext(self.connectors)

    async def copy(
        self, source: str | dict[str, Any], target: str | dict[str, Any], **settings: Any
    ) -> StepResult:
        """Run one copy; a plain name is a table."""
        dry_run, python = settings.pop("dry_run", False), settings.pop("python", None)
        self.context = RealContext(self.connectors, dry_run=dry_run, python=python)
        raw = {
            "source": {"connector": "ops", **_end(source)},
            "target": {"connector": "reports", **_end(target)},
            **settings,
        }
        return await self.context.run(SqlCopy.model_validate(raw))

    async def script(self, where: str, statements: str) -> None:
        """Run statements on one side, by the driver's own simple protocol."""
        connection = await {"ops": self.ops, "reports": self.reports}[where].raw()
        await connection.execute(statements)

    async def sum_of(self, where: str, table: str) -> str:
        """A checksum of a table's rows as text, in any order."""
        connector = {"ops": self.ops, "reports": self.reports}[where]
        return str(
            await connector.scalar(
                "SELECT count(*) || ' ' || md5(COALESCE(string_agg(r, E'\\n' ORDER BY r), '')) "
                f"FROM (SELECT (t.*)::text AS r FROM {table} AS t) AS rows"
            )
        )

    async def leftovers(self) -> list[Any]:
        """Tables of ours that a copy must not leave behind."""
        return await self.reports.all("SELECT relname FROM pg_class WHERE relname LIKE 'nomaflow%'")

    async def close(self) -> None:
        await self.ops.close()
        await self.reports.close()


def _end(end: str | dict[str, Any]) -> dict[str, Any]:
    return {"table": end} if isinstance(end, str) else end
