"""Values changed on the way because the step or a connector says so, by SQL of the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import Field, Kind, Word
from nomaflow.steps.copying.orders import Dress

_BLANKS = {
    "postgresql": "E' \\t\\n\\r'",
    "sqlite": "' ' || char(9) || char(10) || char(13)",
}
_KEPT = frozenset(
    {Word.DATE, Word.TIME, Word.MOMENT, Word.INSTANT, Word.BOOL, Word.BYTES, Word.TEXT}
)


@dataclass(frozen=True, slots=True)
class Dressed:
    """One column of the dressed source: an expression over the bare one, its name and kind."""

    sql: str
    field: Field
    source: str


def columns(
    fields: Sequence[Field], spelled: Sequence[str], dress: Dress, dialect: str
) -> tuple[Dressed, ...]:
    """The source's columns dressed; `spelled` are their names as SQL.

    StepError for a column to strip that the source lacks.
    """
    names = {field.name.lower() for field in fields}
    if missing := [name for name in dress.strip if name.lower() not in names]:
        raise StepError(
            f"`strip_both_columns` names {missing[0]!r}, and the source has no such column"
        )
    return tuple(
        _column(field, sql, dress, dialect) for field, sql in zip(fields, spelled, strict=True)
    )


def _column(field: Field, sql: str, dress: Dress, dialect: str) -> Dressed:
    kind, name = field.kind, field.name
    if dress.jde:
        sql, kind = _as_jde(sql, kind, dress, dialect)
        name = name.lower()
    if kind.word is Word.TEXT:
        if field.name.lower() in {wanted.lower() for wanted in dress.strip}:
            sql = _stripped(sql, dialect)
        elif dress.trim:
            sql = f"TRIM(TRAILING ' ' FROM {sql})" if dialect == "mysql" else f"rtrim({sql}, ' ')"
    not_null = field.not_null
    if dress.coalesce and kind.word in {Word.TEXT, Word.INTEGER, Word.DECIMAL, Word.FLOAT}:
        not_null = True
        sql = (
            f"COALESCE(NULLIF({sql}, ''), ' ')" if kind.word is Word.TEXT else f"COALESCE({sql}, 0)"
        )
    return Dressed(sql, replace(field, name=name, kind=kind, not_null=not_null), field.name)


def _as_jde(sql: str, kind: Kind, dress: Dress, dialect: str) -> tuple[str, Kind]:
    """The rules of `type_coercion = "jde"`: whole numbers are bigint, what is unknown is text."""
    match kind.word:
        case Word.INTEGER:
            return _whole(sql, dialect), Kind(Word.INTEGER, 64)
        case Word.DECIMAL if kind.scale == 0 or dress.truncate:
            return _whole(sql, dialect), Kind(Word.INTEGER, 64)
        case Word.DECIMAL:
            return sql, kind
        case Word.TEXT:
            return _without_nul(sql, dialect), kind
        case word if word in _KEPT:
            return sql, kind
        case _:
            return _as_text(sql, dialect), Kind(Word.TEXT)


def _whole(sql: str, dialect: str) -> str:
    """Cut toward zero."""
    match dialect:
        case "postgresql":
            return f"trunc({sql}::numeric)::bigint"
        case "mysql":
            return f"CAST(TRUNCATE({sql}, 0) AS SIGNED)"
        case _:
            return f"CAST({sql} AS INTEGER)"


def _without_nul(sql: str, dialect: str) -> str:
    match dialect:
        case "postgresql":
            return f"{sql}::varchar"  # its texts hold no NUL
        case "mysql":
            return f"REPLACE({sql}, CHAR(0), '')"
        case _:
            return f"replace({sql}, char(0), '')"


def _as_text(sql: str, dialect: str) -> str:
    match dialect:
        case "postgresql":
            return f"{sql}::text"
        case "mysql":
            return f"CAST({sql} AS CHAR)"
        case _:
            return f"CAST({sql} AS TEXT)"


def _stripped(sql: str, dialect: str) -> str:
    if dialect == "mysql":
        return f"REGEXP_REPLACE({sql}, '^[ \\\\t\\\\n\\\\r]+|[ \\\\t\\\\n\\\\r]+$', '')"
    word = "btrim" if dialect == "postgresql" else "trim"
    return f"{word}({sql}, {_BLANKS[dialect]})"
