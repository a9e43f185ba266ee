"""The rows of a copy into MySQL before they are the target's: looked at where MySQL would not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from nomaflow.connectors.mysql.connector import MysqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import Passage, Sheet
from nomaflow.steps.copying.mysql.apply import STASH
from nomaflow.steps.copying.mysql.crossing import Check
from nomaflow.steps.copying.mysql.filling import Filling
from nomaflow.steps.copying.mysql.naming import listed, quoted
from nomaflow.steps.copying.mysql.preparing import Ready
from nomaflow.steps.copying.orders import Passed


@asynccontextmanager
async def stashed(
    ready: Ready, sheet: Sheet, passages: tuple[Passage, ...]
) -> AsyncIterator[Passed]:
    """The rows in a temporary table of the session, every value looked at that MySQL would not."""
    target = ready.target
    checks = {passage.target.name: check for passage, check in ready.checks}
    special = ", ".join(
        f"{quoted(passage.target.name)} {checks[passage.target.name].stash_type}"
        for passage in passages
        if passage.target.name in checks
    )
    names = [passage.target.name for passage in passages]
    stash = quoted(STASH)
    await target.say(f"DROP TEMPORARY TABLE IF EXISTS {stash}")
    await target.say(
        f"CREATE TEMPORARY TABLE {stash} {f'({special})' if special else ''} ENGINE=InnoDB "
        f"AS SELECT {listed(names)} FROM {sheet.sql} LIMIT 0"
    )
    filled = tuple(
        replace(passage, target=replace(passage.target, declared=checks[name].stash_type))
        if (name := passage.target.name) in checks
        else passage
        for passage in passages
    )
    async with target.transaction():
        passed = await Filling(target, stash, filled).fill(ready.origin, ready.heard())
    for passage, check in ready.checks:
        if passage.target.name in names:
            await _looked_at(target, passage, check)
    yield passed
    await target.say(f"DROP TEMPORARY TABLE {stash}")


async def _looked_at(target: MysqlConnector, passage: Passage, check: Check) -> None:
    name = quoted(passage.target.name)
    held = check.holds.replace("{v}", name)
    null = "" if "IS NOT NULL" in check.holds else f"{name} IS NOT NULL AND "
    answer = await target.say(
        f"SELECT CAST({name} AS CHAR) FROM {quoted(STASH)} WHERE {null}NOT ({held}) LIMIT 1"
    )
    if answer.rows:
        old, new = passage.source, passage.target
        raise StepError(
            f"the source column {old.name!r} ({old.declared}) holds {answer.rows[0][0]!r:.200}, "
            f"which the target column {new.name!r} ({new.declared}) cannot hold without loss; "
            "widen it, or convert the value in `source.query`"
        )
