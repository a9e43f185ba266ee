"""A copy into MySQL or MariaDB: loaded beside the target, then made its content in one commit."""

from __future__ import annotations

import asyncio
import hashlib
import random

from nomaflow.connectors.mysql.connector import MysqlConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import beside
from nomaflow.steps.copying.kinds import Sheet
from nomaflow.steps.copying.mysql import refusing
from nomaflow.steps.copying.mysql.apply import Stash
from nomaflow.steps.copying.mysql.filling import Filling
from nomaflow.steps.copying.mysql.naming import listed, qualified, quoted
from nomaflow.steps.copying.mysql.preparing import Ready, database_of, prepared
from nomaflow.steps.copying.mysql.stashing import stashed
from nomaflow.steps.copying.orders import Changes, Orders, Outcome, Plan

_POLL_SECONDS = 0.25
# A 0 in a numbered column is a 0, and a NULL in a TIMESTAMP a NULL.
_SESSION = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',NO_AUTO_VALUE_ON_ZERO')"


async def copy(orders: Orders, source: SqlConnector, target: MysqlConnector) -> Outcome:
    """Copy; the target changes in one commit or not at all."""
    await target.say(_SESSION)
    await _take_turn(orders, target, f"{await database_of(orders, target)}.{orders.target.table}")
    ready = await prepared(orders, source, target)
    try:
        if ready.sheet is None:
            return await _created(ready)
        match orders.mode:
            case "append" if not ready.checks:
                return await _appended(ready, ready.sheet)
            case _:
                return await _by_stash(ready, ready.sheet)
    finally:
        await ready.origin.close()


async def rehearse(orders: Orders, source: SqlConnector, target: MysqlConnector) -> Plan:
    """What `copy` would do; only a temporary table of this session is written."""
    ready = await prepared(orders, source, target)

    async def met(sheet: Sheet, key: tuple[str, ...]) -> tuple[int, int]:
        passages = tuple(p for p in ready.passages if p.target.name in key)
        async with stashed(ready, sheet, passages) as passed:
            stash = Stash(target, sheet, tuple(p.target for p in passages), key)
            await stash.index()
            return passed.written, await stash.met()

    try:
        names = [passage.target.name for passage in ready.passages]
        return await beside.plan(orders, ready.origin, target, ready.sheet, ready.shown, names, met)
    finally:
        await ready.origin.close()


async def _take_turn(orders: Orders, target: MysqlConnector, shown: str) -> None:
    """Hold the target for this copy; another copy waits. The lock ends with the connection."""
    digest = hashlib.blake2b(shown.encode(), digest_size=16).hexdigest()
    told = False
    while not await target.scalar("SELECT GET_LOCK(:name, 0)", {"name": f"nomaflow copy {digest}"}):
        if not told:
            orders.ctx.log.info(f"another copy is filling {shown}; waiting for its end")
            told = True
        await asyncio.sleep(_POLL_SECONDS * (0.5 + random.random()))  # noqa: S311  only to spread


async def _created(ready: Ready) -> Outcome:
    """A table of another name, which takes the target's when it is whole."""
    target = ready.target
    digest = hashlib.blake2b(ready.shown.encode(), digest_size=8).hexdigest()
    new = qualified(ready.database, f"nomaflow_new_{digest}")
    lines = [
        f"{quoted(p.target.name)} {p.target.declared}" + (" NOT NULL" if p.target.not_null else "")
        for p in ready.passages
    ]
    names = {p.source.name: p.target.name for p in ready.passages}
    if ready.origin.key and all(name in names for name in ready.origin.key):
        lines.append(f"PRIMARY KEY ({listed(names[name] for name in ready.origin.key)})")
    await target.say(f"DROP TABLE IF EXISTS {new}")
    await target.say(
        f"CREATE TABLE {new} ({', '.join(lines)}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 "
        "COLLATE=utf8mb4_bin"
    )
    try:
        async with target.transaction():
            filling = Filling(target, new, ready.passages)
            passed = await filling.fill(ready.origin, ready.heard())
            ready.check(passed)
        await target.say(f"RENAME TABLE {new} TO {ready.sql}")
    except StepError:
        await target.say(f"DROP TABLE IF EXISTS {new}")
        raise
    return Outcome(passed, "created", Changes(inserted=passed.written))


async def _appended(ready: Ready, sheet: Sheet) -> Outcome:
    async with ready.target.transaction():
        filling = Filling(ready.target, sheet.sql, ready.passages)
        passed = await filling.fill(ready.origin, ready.heard())
        ready.check(passed)
    return Outcome(passed, "append", Changes(inserted=passed.written))


async def _by_stash(ready: Ready, sheet: Sheet) -> Outcome:
    orders, target = ready.orders, ready.target
    key = beside.key_of(orders.mode, sheet, [p.target.name for p in ready.passages])
    async with stashed(ready, sheet, ready.passages) as passed:
        ready.check(passed)
        fields = tuple(passage.target for passage in ready.passages)
        stash = Stash(target, sheet, fields, key)
        await stash.index()
        try:
            async with target.transaction():
                changes = await beside.become(stash, target, orders, passed)
        except StepError as error:
            raise await refusing.explained(stash, error) from error.__cause__
    return Outcome(passed, beside.PATHS[orders.mode], changes)
