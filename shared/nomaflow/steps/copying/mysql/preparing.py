"""Both ends of a copy into MySQL looked at before rows move."""

from __future__ import annotations

from dataclasses import dataclass

from nomaflow.connectors.mysql.connector import MysqlConnector
from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import StepError
from nomaflow.steps.copying import matching, refusals
from nomaflow.steps.copying.kinds import Field, Kind, Passage, Sheet, Word
from nomaflow.steps.copying.mysql import catalog, crossing
from nomaflow.steps.copying.mysql.crossing import Check
from nomaflow.steps.copying.mysql.naming import qualified
from nomaflow.steps.copying.orders import Orders, Passed
from nomaflow.steps.copying.origins import opening
from nomaflow.steps.copying.origins.base import Origin
from nomaflow.steps.copying.progress import Progress

_KEY_LETTERS = 768  # 3 072 bytes of an InnoDB index, four for a letter
_HAS_UUID = (10, 7)  # MariaDB's type of its own came with 10.7


@dataclass(frozen=True, slots=True)
class Ready:
    """A copy that is about to run; without `sheet` the target is to be made."""

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
        """Who is told of rows that pass."""
        return Progress(self.orders.ctx, None, self.orders.batch_size)

    def check(self, passed: Passed) -> None:
        """StepError for too few rows, or rows lost on the way."""
        self.orders.limits.check_passed(passed, self.origin.shown, self.shown)
        if not passed.read:
            self.orders.ctx.log.warning(f"the source ({self.origin.shown}) has no rows")


async def prepared(orders: Orders, source: SqlConnector, target: MysqlConnector) -> Ready:
    """Look at both ends; StepError for whatever can be known now."""
    end = orders.target
    database = await database_of(orders, target)
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
            refusals.keyless(sheet.shown, sheet.primary_key, [p.target.name for p in passages])
    except BaseException:
        await origin.close()
        raise
    return Ready(orders, target, origin, sheet, database, passages, found)


async def database_of(orders: Orders, target: MysqlConnector) -> str:
    """The database that the target table is in."""
    database = orders.target.schema_name or await target.scalar("SELECT DATABASE()")
    if not database:
        raise StepError(f"connector {target.name!r} has no database; name one in `target.schema`")
    return str(database)


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


async def _refuse_itself(
    orders: Orders, source: SqlConnector, target: MysqlConnector, sheet: Sheet | None
) -> None:
    if sheet is None or not isinstance(source, MysqlConnector) or orders.source.table is None:
        return
    words = "SELECT CONCAT_WS(' ', @@hostname, @@port, @@datadir)"
    here, there = await source.scalar(words), await target.scalar(words)
    other = await catalog.table(source, orders.source.schema_name, orders.source.table)
    if here == there and other and (other.schema, other.name) == (sheet.schema, sheet.name):
        raise refusals.itself(sheet.shown)
