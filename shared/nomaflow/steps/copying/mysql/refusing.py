"""Which row of a stash MySQL meant, when it told the constraint or the number of a row only."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nomaflow.connectors.mysql import errors as mysql_errors
from nomaflow.errors import StepError
from nomaflow.steps.copying import telling
from nomaflow.steps.copying.kinds import SPOKEN, Word
from nomaflow.steps.copying.mysql.apply import STASH, Stash
from nomaflow.steps.copying.mysql.naming import listed, quoted

_PROBE = quoted("nomaflow_probe")
_CHECKS = frozenset({4025, 3819})  # of MariaDB, of MySQL
_TOO_LARGE = 1301
# ER_BAD_NULL, ER_WARN_DATA_OUT_OF_RANGE, WARN_DATA_TRUNCATED, ER_TRUNCATED_WRONG_VALUE,
# ER_TRUNCATED_WRONG_VALUE_FOR_FIELD, ER_DATA_TOO_LONG
_VALUES = frozenset({1048, 1264, 1265, 1292, 1366, 1406})
_CHECK_NAME = re.compile(
    r"CONSTRAINT `(?:[^`]*\.)?([^`]+)` failed|constraint '([^']+)' is violated"
)
_CLAUSE = """
    SELECT CHECK_CLAUSE AS words FROM information_schema.CHECK_CONSTRAINTS
    WHERE CONSTRAINT_SCHEMA = :schema AND CONSTRAINT_NAME = :name
"""


async def explained(stash: Stash, error: StepError) -> StepError:
    """The same error with the row it is about, where that can be found; the stash is still there.

    Only while nothing is begun: what is tried here is undone.
    """
    number = mysql_errors.number_of(error.__cause__) if error.__cause__ else 0
    try:
        if number in _CHECKS:
            return await _checked(stash, error)
        if number == _TOO_LARGE:
            spoken = [f.name for f in stash.fields if f.kind.word in SPOKEN | {Word.BYTES}]
            for name in spoken:
                condition = f"LENGTH({quoted(name)}) > @@max_allowed_packet"
                if shown := await _row(stash, condition, name):
                    return _with(error, shown)
        if number in _VALUES:
            return await _converted(stash, error)
    except StepError:
        return error  # the first one is the one to tell
    return error


async def _checked(stash: Stash, error: StepError) -> StepError:
    found = _CHECK_NAME.search(error.message)
    if found is None:
        return error
    where = {"schema": stash.sheet.schema, "name": found.group(1) or found.group(2)}
    of_table = ""
    if (await stash.connector.raw()).is_mariadb:
        of_table, where["table"] = " AND TABLE_NAME = :table", stash.sheet.name
    clause = await stash.connector.scalar(_CLAUSE + of_table, where)
    if not clause:
        return error
    meant = next((f.name for f in stash.fields if quoted(f.name) in clause), None)
    shown = await _row(stash, f"NOT ({clause})", meant)
    return _with(error, f"{shown}, for which {clause} is not true") if shown else error


async def _converted(stash: Stash, error: StepError) -> StepError:
    """Into a table with the target's types and nothing else, some rows at a time."""
    say, names = stash.connector.say, listed(f.name for f in stash.fields)
    order = f"ORDER BY {listed(stash.key)}" if stash.key else ""
    rows = int((await say(f"SELECT count(*) FROM {quoted(STASH)}")).rows[0][0])
    await say(f"DROP TEMPORARY TABLE IF EXISTS {_PROBE}")
    await say(
        f"CREATE TEMPORARY TABLE {_PROBE} ENGINE=InnoDB AS "
        f"SELECT {names} FROM {stash.sheet.sql} LIMIT 0"
    )

    async def refuses(low: int, high: int) -> bool:
        try:
            answer = await say(
                f"INSERT INTO {_PROBE} ({names}) SELECT {names} FROM {quoted(STASH)} {order} "
                f"LIMIT {low}, {high - low}"
            )
        except StepError:
            return True
        return bool(answer.warnings)

    place = await telling.first_refused(rows, refuses)
    await say(f"DROP TEMPORARY TABLE {_PROBE}")
    if place is None:
        return error
    meant = next(
        (f.name for f in stash.fields if re.search(rf"\W{re.escape(f.name)}\W", error.message)),
        None,
    )
    shown = await _row(stash, "1", meant, f"{order} LIMIT {place}, 1")
    return _with(error, shown) if shown else error


async def _row(stash: Stash, condition: str, column: str | None, tail: str = "LIMIT 1") -> str:
    """A row of the stash in brackets; empty when there is none."""
    names = _first(stash, column)
    cells = ", ".join(f"LEFT(CAST({quoted(name)} AS CHAR), 200)" for name in names)
    answer = await stash.connector.say(
        f"SELECT {cells} FROM {quoted(STASH)} WHERE {condition} {tail}"
    )
    return telling.row(names, answer.rows[0], column) if answer.rows else ""


def _first(stash: Stash, column: str | None) -> Sequence[str]:
    """The column in question, the key, and what else there is."""
    names = [*([column] if column else []), *stash.key, *(f.name for f in stash.fields)]
    return tuple(dict.fromkeys(names))[:20]


def _with(error: StepError, row: str) -> StepError:
    return error.reworded(f"{error.message}; in the row {row}")
