"""Making a loaded stash the content of a MySQL table, within one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from nomaflow.connectors.mysql import errors as mysql_errors
from nomaflow.connectors.mysql.connector import MysqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import SPOKEN, Field, Sheet
from nomaflow.steps.copying.mysql.naming import listed, quoted
from nomaflow.steps.copying.orders import Changes

STASH = "nomaflow_stash"
_STASH_SQL = quoted(STASH)
_DUPLICATE = 1062


@dataclass(frozen=True, slots=True)
class Stash:
    """The loaded rows beside the target, and the columns that name a row in both."""

    connector: MysqlConnector
    sheet: Sheet
    fields: tuple[Field, ...]
    key: tuple[str, ...]

    async def index(self) -> None:
        """Make the key quick to find; StepError when it names two rows of the source."""
        if not self.key:
            return
        try:
            await self._say(f"ALTER TABLE {_STASH_SQL} ADD UNIQUE INDEX ({listed(self.key)})")
        except StepError as error:
            if _number(error) == _DUPLICATE:
                raise StepError(
                    f"the source holds the key ({', '.join(self.key)}) of {self.sheet.shown} more "
                    f"than once, as this database compares it: {error.message}"
                ) from None
            raise

    async def replace_content(self) -> Changes:
        """Let the target hold exactly the stash's rows, changing only rows that differ."""
        if not self.key:
            deleted = await self._say(f"DELETE FROM {self.sheet.sql}")
            return Changes(inserted=await self._insert(""), deleted=deleted)
        deleted = await self.vanish()
        return await self._changed(deleted)

    async def merge(self) -> Changes:
        """Insert the stash's rows, or update those whose key is there."""
        return await self._changed(0)

    async def add(self) -> int:
        """Insert every row."""
        return await self._insert("")

    async def met(self) -> int:
        """How many rows of the target have a key that the stash has."""
        joined = f"{self.sheet.sql} AS t JOIN {_STASH_SQL} AS s ON {self._same_key()}"
        return int((await self.connector.say(f"SELECT count(*) FROM {joined}")).rows[0][0])

    async def vanish(self) -> int:
        """Take away the rows whose key the stash lacks."""
        return await self._say(
            f"DELETE t FROM {self.sheet.sql} AS t LEFT JOIN {_STASH_SQL} AS s "
            f"ON {self._same_key()} WHERE s.{quoted(self.key[0])} IS NULL"
        )

    async def _changed(self, deleted: int) -> Changes:
        joined = f"{self.sheet.sql} AS t JOIN {_STASH_SQL} AS s ON {self._same_key()}"
        assigned = ", ".join(f"t.{quoted(f.name)} = s.{quoted(f.name)}" for f in self.fields)
        try:
            updated = await self._say(f"UPDATE {joined} SET {assigned} WHERE {self._differs()}")
            again = 0
        except StepError as error:
            if _number(error) != _DUPLICATE:
                raise
            # A value rotates between rows of a unique column: those rows go first, then come.
            updated = again = await self._say(f"DELETE t FROM {joined} WHERE {self._differs()}")
        missing = f"LEFT JOIN {self.sheet.sql} AS t ON {self._same_key()}"
        inserted = await self._insert(f"{missing} WHERE t.{quoted(self.key[0])} IS NULL")
        return Changes(inserted - again, updated, deleted)

    async def _insert(self, condition: str) -> int:
        names = [field.name for field in self.fields]
        return await self._say(
            f"INSERT INTO {self.sheet.sql} ({listed(names)}) "
            f"SELECT {listed(names, 's.')} FROM {_STASH_SQL} AS s {condition}"
        )

    def _same_key(self) -> str:
        return " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in self.key)

    def _differs(self) -> str:
        """In any letter: a collation may take `a` for `A`."""
        same = []
        for field in self.fields:
            name = quoted(field.name)
            if field.kind.word in SPOKEN:
                same.append(f"CAST(t.{name} AS BINARY) <=> CAST(s.{name} AS BINARY)")
            else:
                same.append(f"t.{name} <=> s.{name}")
        return f"NOT ({' AND '.join(same)})"

    async def _say(self, sql: str) -> int:
        """Run a statement; StepError when the server had to change a value."""
        answer = await self.connector.say(sql)
        if answer.warnings:
            words = (await self.connector.warnings())[0][2]
            raise StepError(
                f"connector {self.connector.name!r}: a value was not kept as it is; the server "
                f"says: {words}"
            )
        return answer.changed


def _number(error: StepError) -> int | None:
    cause = error.__cause__
    return mysql_errors.number_of(cause) if isinstance(cause, BaseException) else None
