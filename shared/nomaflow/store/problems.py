"""What is wrong with the project's files right now: file, line, path, sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nomaflow.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """One problem; `at` is when it was first seen."""

    file: str
    line: int | None
    path: tuple[str, ...]
    message: str
    at: datetime | None = None

    @property
    def key(self) -> tuple[str, int | None, tuple[str, ...], str]:
        """What makes it the same problem at the next look."""
        return (self.file, self.line, self.path, self.message)


async def all_of_them(connection: Connection | Database) -> list[ProblemRow]:
    """Read every problem, in the order of the files."""
    rows = await connection.fetch(
        "SELECT file, line, path, message, at FROM nomaflow.catalog_problems ORDER BY file, line"
    )
    return [ProblemRow(r["file"], r["line"], tuple(r["path"]), r["message"], r["at"]) for r in rows]


async def replace(connection: Connection, problems: Sequence[ProblemRow]) -> Sequence[ProblemRow]:
    """Make these the problems there are; answers those that are new."""
    before = {p.key: p for p in await all_of_them(connection)}
    if before.keys() == {p.key for p in problems}:
        return []
    await connection.execute("DELETE FROM nomaflow.catalog_problems")
    await connection.executemany(
        """INSERT INTO nomaflow.catalog_problems (file, line, path, message, at)
           VALUES ($1, $2, $3, $4, coalesce($5, now()))""",
        [
            (p.file, p.line, list(p.path), p.message, before[p.key].at if p.key in before else None)
            for p in problems
        ],
    )
    return [p for p in problems if p.key not in before]
