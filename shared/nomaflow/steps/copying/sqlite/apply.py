"""Making a loaded stash the content of an SQLite table, within one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from nomaflow.connectors.sqlite.connector import SqliteConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import Sheet
from nomaflow.steps.copying.naming import listed, quoted
from nomaflow.steps.copying.orders import Changes

STASH = "temp.nomaflow_stash"


@dataclass(frozen=True, slots=True)
class Stash:
    """The loaded rows in a temporary table, and the columns that name a row in both."""

    connector: SqliteConnector
    sheet: Sheet
    names: tuple[str, ...]
    key: tuple[str, ...]

    async def index(self) -> None:
        """Make the key quick to find; StepError when it names two rows of the source."""
        if not self.key:
            return
        twice = await self.connector.first(
            f"SELECT {listed(self.key)} FROM {STASH} GROUP BY {listed(self.key)} "
            "HAVING count(*) > 1 LIMIT 1"
        )
        if twice is not None:
            shown = ", ".join(f"{name} = {value}" for name, value in twice.items())
            raise StepError(
                f"the source holds the key of {self.sheet.shown} more than once: {shown}"
            )
        await self.connector.execute(
            f"CREATE UNIQUE INDEX temp.nomaflow_stash_key ON nomaflow_stash ({listed(self.key)})"
        )

    async def replace_content(self) -> Changes:
        """Let the target hold exactly the stash's rows, changing only rows that differ."""
        if not self.key:
            deleted = await self._say(f"DELETE FROM {self.sheet.sql}")
            return Changes(inserted=await self.add(), deleted=deleted)
        deleted = await self._say(
            f"DELETE FROM {self.sheet.sql} AS t WHERE NOT EXISTS "
            f"(SELECT 1 FROM {STASH} AS s WHERE {self._same_key()})"
        )
        return await self._changed(deleted)

    async def merge(self) -> Changes:
        """Insert the stash's rows, or update those whose key is there."""
        return await self._changed(0)

    async def add(self) -> int:
        """Insert every row."""
        return await self._insert("")

    async def met(self) -> int:
        """How many rows of the stash have a key that the target has."""
        return int(
            await self.connector.scalar(
                f"SELECT count(*) FROM {STASH} AS s WHERE EXISTS "
                f"(SELECT 1 FROM {self.sheet.sql} AS t WHERE {self._same_key()})"
            )
        )

    async def _changed(self, deleted: int) -> Changes:
        assigned = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in self.names)
        again = 0
        try:
            updated = await self._say(
                f"UPDATE {self.sheet.sql} AS t SET {assigned} FROM {STASH} AS s "
                f"WHERE {self._same_key()} AND {self._differs()}"
            )
        except StepError as error:
            if "UNIQUE" not in error.message:
                raise
            # A value rotates between rows of a unique column: those rows go first, then come.
            updated = again = await self._say(
                f"DELETE FROM {self.sheet.sql} AS t WHERE EXISTS (SELECT 1 FROM {STASH} AS s "
                f"WHERE {self._same_key()} AND {self._differs()})"
            )
        inserted = await self._insert(
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.sheet.sql} AS t WHERE {self._same_key()})"
        )
        return Changes(inserted - again, updated, deleted)

    async def _insert(self, condition: str) -> int:
        return await self._say(
            f"INSERT INTO {self.sheet.sql} ({listed(self.names)}) "
            f"SELECT {listed(self.names, 's.')} FROM {STASH} AS s {condition}"
        )

    def _same_key(self) -> str:
        return " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in self.key)

    def _differs(self) -> str:
        """In any letter, and in how the value is stored: 1 and '1' are not the same."""
        same = [
            f"(t.{name} IS s.{name} COLLATE BINARY AND typeof(t.{name}) = typeof(s.{name}))"
            for name in map(quoted, self.names)
        ]
        return f"NOT ({' AND '.join(same)})"

    async def _say(self, sql: str) -> int:
        return (await self.connector.execute(sql)).rowcount
