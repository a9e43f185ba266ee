"""A copy into MySQL or MariaDB: loaded beside the target, then made its content in one commit."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from nomaflow.connectors.mysql import MysqlConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import matching
from nomaflow.steps.copying.kinds import Field, Kind, Passage, Sheet, Word
from nomaflow.steps.copying.mysql import catalog, crossing
from nomaflow.steps.copying.mysql.apply import STASH, Stash
from nomaflow.steps.copying.mysql.crossing import Check
from nomaflow.steps.copying.mysql.filling import Filling
from nomaflow.steps.copying.mysql.naming import listed, qualified, quoted
from nomaflow.steps.copying.orders import Changes, Orders, Outcome, Passed, Plan
from nomaflow.steps.copying.origins import opening
from nomaflow.steps.copying.origins.base import Origin
from nomaflow.steps.copying.progress import Progress

_POLL_SECONDS = 0.25
_KEY_LETTERS = 768  # 3 072 bytes of an InnoDB index, four for a letter
_HAS_UUID = (10, 7)  # MariaDB's type of its own came with 10.7
# A 0 in a numbered column is a 0, and a NULL in a TIMESTAMP a NULL.
_SESSION = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',NO_AUTO_VALUE_ON_ZERO')"


async def copy(orders: Orders, source: SqlConnector, target: MysqlConnector) -> Outcome:
    """Copy; the target changes in one commit or not at all."""
    await target.say(_SESSION)
    first = await _prepared(orders, source, target)
    await first.origin.close()
    await _take_turn(orders, target, first.shown)
    ready = await _prepared(orders, source, target)
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
    ready = await _prepared(orders, source, target)
    try:
        rows = await ready.origin.count()
        sheet = ready.sheet
        if sheet is None:
            why = "the target is not there yet"
            return Plan(ready.shown, True, "created", why, rows, 0)
        before = await _rows_of(target, sheet)
        key = sheet.row_key([p.target.name for p in ready.passages])
        path = {"overwrite": "in_place", "append": "append", "upsert": "upsert"}[orders.mode]
        changes = None
        if key and orders.mode != "append":
            changes = await _counted_changes(ready, sheet, key)
        why = "the rows go into a temporary table first, then into the target in one transaction"
        return Plan(ready.shown, False, path, why, rows, before, changes)
    finally:
        await ready.origin.close()


@dataclass(frozen=True, slots=True)
class _Ready:
    orders: Orders
    target: MysqlConnector
    origin: Origin
    sheet: Sheet | None
    database: str
    passages: tuple[Passage, ...]
    checks: tuple[tuple[Passage, Check], ...]

    @property
    def shown(self) -> str:
        return f"{self.database}.{self.orders.target.table}"

    @property
    def sql(self) -> str:
        return qualified(self.database, self.orders.target.table)

    def heard(self) -> Progress:
        return Progress(self.orders.ctx, None, self.orders.batch_size)

    def check(self, passed: Passed) -> None:
        self.orders.limits.check_passed(passed, self.origin.shown, self.shown)
        if not passed.read:
            self.orders.ctx.log.warning(f"the source ({self.origin.shown}) has no rows")


async def _prepared(orders: Orders, source: SqlConnector, target: MysqlConnector) -> _Ready:
    end = orders.target
    database = end.schema_name or await target.scalar("SELECT DATABASE()")
    if not database:
        raise StepError(f"connector {target.name!r} has no database; name one in `target.schema`")
    sheet = await catalog.table(target, end.schema_name, end.table)
    await _refuse_itself(orders, source, target, sheet)
    origin = await opening.origin(orders, source, sheet.fields if sheet else None)
    try:
        fields = sheet.fields if sheet else await _likeness(orders, origin, target)
        shown = f"{database}.{end.table}"
        if sheet is None and orders.mode != "overwrite":
            raise StepError(
                f"the target table {shown} is not in {target.name!r}; {orders.mode} needs one"
            )
        if sheet is not None:
            await _refuse(orders, sheet, target)
        pairs = matching.match(
            origin.fields, fields, orders.columns, where=origin.shown, shown=shown
        )
        passages = tuple(Passage(*pair) for pair in pairs)
        checks = [(p, crossing.check(p.source, p.target)) for p in passages] if sheet else []
        found = tuple((p, check) for p, check in checks if check is not None)
        if sheet is not None and orders.mode == "upsert":
            _refuse_keyless(sheet, passages)
    except BaseException:
        await origin.close()
        raise
    return _Ready(orders, target, origin, sheet, str(database), passages, found)


async def _likeness(orders: Orders, origin: Origin, target: MysqlConnector) -> tuple[Field, ...]:
    """The columns of a target that is to be made."""
    server = await target.raw()
    version = str(server.get_server_info())
    is_mariadb = server.is_mariadb
    numbers = [int(part) for part in version.removeprefix("5.5.5-").split(".")[:2]]
    has_uuid = is_mariadb and tuple(numbers) >= _HAS_UUID
    new_names = {old: new for new, old in orders.columns.items()}
    made = []
    for field in origin.fields:
        if orders.columns and field.name not in new_names:
            continue
        share = _KEY_LETTERS // len(origin.key) if field.name in origin.key else None
        declared = crossing.declared(field.kind, is_mariadb=has_uuid, key_share=share)
        kind = Kind(Word.BYTES) if "binary" in declared or "blob" in declared else field.kind
        name = new_names.get(field.name, field.name)
        not_null = field.not_null or field.name in origin.key
        made.append(Field(name, kind, declared, not_null, has_default=True))
    return tuple(made)


async def _refuse(orders: Orders, sheet: Sheet, target: MysqlConnector) -> None:
    if sheet.is_view:
        raise StepError(
            f"the target {sheet.shown} of {target.name!r} is a view; {orders.mode} needs a table"
        )
    engine = await target.scalar(
        "SELECT e.TRANSACTIONS AS yes FROM information_schema.TABLES AS t "
        "JOIN information_schema.ENGINES AS e ON e.ENGINE = t.ENGINE "
        "WHERE t.TABLE_SCHEMA = :schema AND t.TABLE_NAME = :name",
        {"schema": sheet.schema, "name": sheet.name},
    )
    if engine != "YES":
        raise StepError(
            f"the target {sheet.shown} has a storage engine without transactions, where a copy "
            "that fails half-way could not be undone; make it InnoDB",
            retryable=False,
        )


def _refuse_keyless(sheet: Sheet, passages: tuple[Passage, ...]) -> None:
    if not sheet.primary_key:
        raise StepError(f"upsert needs a primary key, and {sheet.shown} has none")
    names = {passage.target.name for passage in passages}
    if missing := [name for name in sheet.primary_key if name not in names]:
        raise StepError(
            f"upsert needs every column of the primary key of {sheet.shown}, and {missing[0]!r} is "
            "not copied"
        )


async def _refuse_itself(
    orders: Orders, source: SqlConnector, target: MysqlConnector, sheet: Sheet | None
) -> None:
    if sheet is None or not isinstance(source, MysqlConnector) or orders.source.table is None:
        return
    words = "SELECT CONCAT_WS(' ', @@hostname, @@port, @@datadir)"
    here, there = await source.scalar(words), await target.scalar(words)
    other = await catalog.table(source, orders.source.schema_name, orders.source.table)
    if here == there and other and (other.schema, other.name) == (sheet.schema, sheet.name):
        raise StepError(
            f"{sheet.shown} would be copied onto itself: source and target are one table",
            retryable=False,
        )


async def _take_turn(orders: Orders, target: MysqlConnector, shown: str) -> None:
    """Hold the target for this copy; another copy waits. The lock ends with the connection."""
    digest = hashlib.blake2b(shown.encode(), digest_size=16).hexdigest()
    told = False
    while not await target.scalar("SELECT GET_LOCK(:name, 0)", {"name": f"nomaflow copy {digest}"}):
        if not told:
            orders.ctx.log.info(f"another copy is filling {shown}; waiting for its end")
            told = True
        await asyncio.sleep(_POLL_SECONDS * (0.5 + random.random()))  # noqa: S311  only to spread


async def _created(ready: _Ready) -> Outcome:
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


async def _appended(ready: _Ready, sheet: Sheet) -> Outcome:
    async with ready.target.transaction():
        filling = Filling(ready.target, sheet.sql, ready.passages)
        passed = await filling.fill(ready.origin, ready.heard())
        ready.check(passed)
    return Outcome(passed, "append", Changes(inserted=passed.written))


async def _by_stash(ready: _Ready, sheet: Sheet) -> Outcome:
    orders, target = ready.orders, ready.target
    names = [passage.target.name for passage in ready.passages]
    key = sheet.primary_key if orders.mode == "upsert" else sheet.row_key(names)
    async with _stashed(ready, sheet, ready.passages) as passed:
        ready.check(passed)
        fields = tuple(passage.target for passage in ready.passages)
        stash = Stash(target, sheet, fields, () if orders.mode == "append" else key)
        await stash.index()
        async with target.transaction():
            before = await _rows_of(target, sheet)
            match orders.mode:
                case "append":
                    changes = Changes(inserted=await stash.add())
                case "upsert":
                    changes = await stash.merge()
                case _:
                    changes = await stash.replace_content()
                    gone = changes.deleted
                    gone = gone if key else max(0, gone - changes.inserted)
                    orders.limits.check_deleted(gone, before, sheet.shown)
                    await _check_rows(ready, sheet, passed)
    path = {"overwrite": "in_place", "append": "append", "upsert": "upsert"}[orders.mode]
    return Outcome(passed, path, changes)


async def _check_rows(ready: _Ready, sheet: Sheet, passed: Passed) -> None:
    if not ready.orders.limits.check_rows:
        return
    rows = await _rows_of(ready.target, sheet)
    if rows != passed.written:
        raise StepError(
            f"{passed.written} rows were copied and {sheet.shown} then held {rows}: a trigger of "
            "the target changed them; nothing was kept"
        )


@asynccontextmanager
async def _stashed(
    ready: _Ready, sheet: Sheet, passages: tuple[Passage, ...]
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


async def _counted_changes(ready: _Ready, sheet: Sheet, key: tuple[str, ...]) -> Changes:
    target = ready.target
    passages = tuple(p for p in ready.passages if p.target.name in key)
    async with _stashed(ready, sheet, passages) as passed:
        stash = Stash(target, sheet, tuple(p.target for p in passages), key)
        await stash.index()
        before = await _rows_of(target, sheet)
        kept = await stash.met()
    deleted = before - kept if ready.orders.mode == "overwrite" else 0
    return Changes(passed.written - kept, kept, deleted)


async def _rows_of(target: MysqlConnector, sheet: Sheet) -> int:
    return int(await target.scalar(f"SELECT count(*) AS rows_now FROM {sheet.sql}"))
