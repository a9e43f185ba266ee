"""Whether MySQL holds every value of a source column, and how to find the values it would change.

Strict mode and the count of warnings tell most losses. What is here are those that MySQL keeps
to itself: hundredths of a second, blanks at the end of a CHAR, digits of a FLOAT, numbers taken
for the places of an ENUM's labels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nomaflow.errors import StepError
from nomaflow.steps.copying.kinds import CLOCKS, Field, Kind, Word

_MICROSECONDS = 6
_LABEL = re.compile(r"'(?:[^']|'')*'")


@dataclass(frozen=True, slots=True)
class Check:
    """A type that keeps the source's values as they are, and what must hold of them (`{v}`)."""

    stash_type: str
    holds: str


def check(source: Field, target: Field) -> Check | None:
    """What must be looked at before the values may go on; None where MySQL says it by itself.

    StepError for two types between which a value could change unseen.
    """
    declared = target.declared.lower()
    found: Check | bool | None
    if source.declared.lower() == declared and source.kind == target.kind:
        found = None
    elif declared.startswith("enum"):
        labels = ", ".join(_LABEL.findall(target.declared))
        spoken = source.kind.word in {Word.TEXT, Word.UUID, Word.OTHER}
        found = Check("longtext", f"CAST({{v}} AS BINARY) IN ({labels})") if spoken else False
    elif declared.startswith(("set", "year")):
        found = False
    else:
        found = _by_kind(source.kind, target.kind, declared)
    if found is False:
        raise StepError(
            f"the source column {source.name!r} ({source.declared}) cannot be copied into the "
            f"target column {target.name!r} ({target.declared}) without a possible loss; convert "
            "it in `source.query`, or change the target"
        )
    if not isinstance(found, Check):
        found = None
    if target.not_null and not source.not_null and declared.startswith("timestamp"):
        # MySQL may write the present time for a NULL.
        held = f" AND {found.holds}" if found else ""
        return Check("datetime(6) NULL", f"{{v}} IS NOT NULL{held}")
    return found


def _by_kind(  # noqa: C901, PLR0911, PLR0912  a line per pair of words
    source: Kind, target: Kind, declared: str
) -> Check | bool | None:
    match (source.word, target.word):
        case (Word.FLOAT, Word.FLOAT):
            if (target.size or 64) >= (source.size or 64):
                return None
            return Check("double", "{v} = CAST({v} AS FLOAT)")
        case (Word.TEXT | Word.OTHER | Word.UUID | Word.JSON, Word.TEXT):
            if declared.startswith("char"):
                return Check("longtext", "{v} NOT LIKE '% '")
            return None
        case (Word.BYTES, Word.BYTES):
            if declared.startswith("binary"):
                return Check("longblob", f"LENGTH({{v}}) = {target.size or _length(declared)}")
            return None
        case (old, new) if old in CLOCKS and new in CLOCKS:
            if (old is Word.TIME) is not (new is Word.TIME):
                return False
            return _fraction(source, target)
        case (Word.INTEGER, Word.FLOAT):
            return None if (source.size or 64) <= (target.size or 64) // 2 else False
        case (Word.DECIMAL, Word.INTEGER | Word.BOOL):
            if source.scale == 0:
                return None
            return Check("decimal(65,30)", "{v} = TRUNCATE({v}, 0)")
        case (Word.TEXT | Word.OTHER, Word.INTEGER):
            return Check("longtext", "{v} REGEXP '^ *[-+]?[0-9]+ *$'")
        case (Word.OTHER, Word.OTHER):
            return None if declared.startswith(("bit", "inet")) else False
        case (old, new):
            return None if (old, new) in _TOLD else False


_NUMBERS = (Word.INTEGER, Word.DECIMAL, Word.FLOAT)
_TOLD = frozenset(
    {
        *((word, word) for word in Word if word is not Word.OTHER),
        (Word.BOOL, Word.INTEGER),
        (Word.BOOL, Word.DECIMAL),
        (Word.INTEGER, Word.BOOL),
        (Word.INTEGER, Word.DECIMAL),
        (Word.FLOAT, Word.DECIMAL),
        (Word.TEXT, Word.DECIMAL),
        (Word.TEXT, Word.JSON),
        (Word.TEXT, Word.UUID),
        (Word.TEXT, Word.DATE),
        (Word.TEXT, Word.OTHER),
        (Word.OTHER, Word.JSON),
        (Word.OTHER, Word.DECIMAL),
        (Word.DATE, Word.MOMENT),
        (Word.DATE, Word.INSTANT),
        (Word.MOMENT, Word.DATE),
        (Word.INSTANT, Word.DATE),
        *((word, Word.TEXT) for word in (*_NUMBERS, Word.DATE, Word.TIME, Word.MOMENT)),
    }
)
"""Pairs of words whose losses MySQL tells by an error or a warning."""


def _fraction(source: Kind, target: Kind) -> Check | None:
    """MySQL drops the digits after the second that a column has no room for."""
    kept = target.size or 0
    before = _MICROSECONDS if source.size is None else source.size
    if before <= kept:
        return None
    kind = "time(6)" if source.word is Word.TIME else "datetime(6)"
    return Check(kind, f"MICROSECOND({{v}}) % {10 ** (_MICROSECONDS - kept)} = 0")


def _length(declared: str) -> int:
    found = re.search(r"\((\d+)\)", declared)
    return int(found.group(1)) if found else 1


def declared(kind: Kind, *, is_mariadb: bool, key_share: int | None) -> str:  # noqa: C901, PLR0911
    """The type that holds every value of a kind.

    `key_share`: letters that a column of the primary key may have, since an index has no room for
    more; None for other columns.
    """
    match kind.word:
        case Word.BOOL:
            return "tinyint(1)"
        case Word.INTEGER:
            return {8: "tinyint", 16: "smallint", 32: "int"}.get(kind.size or 64, "bigint")
        case Word.DECIMAL:
            return _decimal(kind)
        case Word.FLOAT:
            return "float" if kind.size == 32 else "double"  # noqa: PLR2004  bits
        case Word.TEXT | Word.OTHER:
            size = kind.size if kind.word is Word.TEXT else None
            if key_share is not None:
                return f"varchar({min(size or key_share, key_share)})"
            return f"varchar({size})" if size and size <= _MOST_LETTERS else "longtext"
        case Word.BYTES:
            return f"varbinary({key_share})" if key_share is not None else "longblob"
        case Word.DATE:
            return "date"
        case Word.TIME | Word.MOMENT | Word.INSTANT:
            # TIMESTAMP ends in 2038; an instant is kept in UTC.
            plain = "time" if kind.word is Word.TIME else "datetime"
            fraction = _MICROSECONDS if kind.size is None else min(kind.size, _MICROSECONDS)
            return f"{plain}({fraction})" if fraction else plain
        case Word.UUID:
            return "uuid" if is_mariadb else "char(36)"
        case Word.JSON:
            return "json"


_MOST_LETTERS = 255  # more of them would soon fill the 65 535 bytes of a row
_MOST_DIGITS, _MOST_SCALE = 65, 30


def _decimal(kind: Kind) -> str:
    """A decimal without bounds gets as many digits as there are."""
    size, scale = kind.size or _MOST_DIGITS, kind.scale
    if kind.size is None:
        scale = _MOST_SCALE
    scale = scale or 0
    if scale < 0:  # numeric(3, -2) of PostgreSQL counts hundreds
        size, scale = size - scale, 0
    return f"decimal({min(max(size, scale), _MOST_DIGITS)},{min(scale, _MOST_SCALE)})"
