"""Which source column fills which target column, and how a value crosses without changing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nomaflow.steps.copying import matching
from nomaflow.steps.copying.naming import quoted
from nomaflow.steps.copying.postgres.catalog import Column, Table

COMPLAINT = "nomaflow:"
"""How a value that would not survive the crossing announces itself in the server's error."""

_INTEGERS = frozenset({"int2", "int4", "int8"})
_TEXTS = frozenset({"text", "varchar", "bpchar"})
_CLOCKS = frozenset({"timestamp", "timestamptz", "time", "timetz"})
_WIDTHS = frozenset({"varchar", "bpchar", "varbit"})
_EXACT = frozenset(
    {
        *((small, big) for small in ("int2", "int4", "int8") for big in ("numeric",)),
        ("int2", "int4"),
        ("int2", "int8"),
        ("int4", "int8"),
        ("int2", "float4"),
        ("int2", "float8"),
        ("int4", "float8"),
        ("float4", "float8"),
        ("date", "timestamp"),
        ("json", "jsonb"),
        ("jsonb", "json"),
        ("cidr", "inet"),
        ("bit", "varbit"),
    }
)
"""Pairs of types where no value can change on the way."""

_ZONE = r":[0-9]{2}(\.[0-9]+)?\s*([+-][0-9]|[zZ]|[A-Z]{3,})"
_CLOCK_ONLY = r"^\s*[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?\s*$"


@dataclass(frozen=True, slots=True)
class Pair:
    """One source column and the target column it fills."""

    source: Column
    target: Column


@dataclass(frozen=True, slots=True)
class Crossing:
    """How one pair crosses.

    `value` is selected at the source; `typed` is the same as the target's own type, for a
    statement that does the whole copy on one server. `needs_text` says the types have no common
    binary form. `probe` is a statement that fails when the two types cannot be converted.
    `reads_as_text`: the source type's text, read as the target's type, is that value.
    """

    pair: Pair
    value: str
    typed: str
    needs_text: bool = False
    probe: str | None = None
    reads_as_text: bool = False

    @property
    def may_refuse(self) -> bool:
        """Whether a value of the source may be none of the target's type."""
        is_plain = self.typed == quoted(self.pair.source.name)
        return not is_plain or self.pair.source.full_type != self.pair.target.full_type


def match(
    source: Sequence[Column], target: Table, mapping: Mapping[str, str], where: str
) -> tuple[Pair, ...]:
    """Pair the columns by name, or as `mapping` (target to source) says.

    StepError naming every column that is missing on one side.
    """
    found = matching.match(source, target.columns, mapping, where=where, shown=target.shown)
    return tuple(Pair(*pair) for pair in found)


def crossing(pair: Pair, number: int, *, same_database: bool) -> Crossing:
    """Decide how a pair crosses; `number` is how a value that cannot names its column."""
    source, target = pair.source, pair.target
    name = quoted(source.name)
    if source.type == target.type and (source.is_builtin or same_database):
        value = name
        if _narrows(source, target):
            value = _kept(name, name, [_fits(name, target)], target, number)
        lost = source.names_objects and not same_database
        needs_text = lost or not source.has_binary
        return Crossing(pair, value, value, needs_text, reads_as_text=value == name)
    if source.is_enum or target.is_enum:
        return _enum(pair, number)
    if not (source.is_builtin and target.is_builtin) or target.names_objects:
        # Only the text form of such a type means the same on both servers.
        return Crossing(pair, name, f"{name}::text::{_spelled(target)}", needs_text=True)
    return _converted(pair, name, number)


def _converted(pair: Pair, name: str, number: int) -> Crossing:
    """Both are PostgreSQL's own types, and differ."""
    source, target = pair.source, pair.target
    through_text = source.type_name in {"float4", "float8"} and target.type_name == "numeric"
    plain = f"{name}::text" if through_text else name
    cast = f"({plain})::{_spelled(target)}"
    conditions = _conditions(source, target, name, cast)
    if _may_be_cut(source, target):
        conditions.append(_fits(cast, target))
    value = _kept(name, cast, conditions, target, number)
    null = f"(NULL::{_spelled(source)})"
    return Crossing(
        pair,
        value,
        value,
        needs_text=not (source.has_binary and target.has_binary),
        probe=f"SELECT {value.replace(name, null)}",
        # A number that is too big for a smaller integer is refused by COPY itself.
        reads_as_text={source.type_name, target.type_name} <= _INTEGERS
        or (not conditions and source.type_name in _TEXTS | _INTEGERS),
    )


def _conditions(source: Column, target: Column, name: str, cast: str) -> list[str]:
    """What must hold so that the cast has lost nothing."""
    if target.type_name in _TEXTS or (source.type_name, target.type_name) in _EXACT:
        return []
    if source.type_name not in _TEXTS:
        return [f"({cast})::{_spelled(source)} IS NOT DISTINCT FROM {name}"]
    # A text may say more than the type it is read as keeps: a time, a zone, more letters.
    more = {
        "date": f"({cast})::timestamp IS NOT DISTINCT FROM {name}::timestamp",
        "timestamp": f"({name}::text !~ '{_ZONE}')",
        "time": f"({name}::text ~ '{_CLOCK_ONLY}')",
        "name": f"({cast})::text = {name}::text",
        "char": f"({cast})::text = {name}::text",
    }
    return [more[target.type_name]] if target.type_name in more else []


def _enum(pair: Pair, number: int) -> Crossing:
    """An enum is its label, in both forms of COPY."""
    source, target = pair.source, pair.target
    name = quoted(source.name)
    label = f"{name}::text"
    if target.is_enum:
        return Crossing(pair, label, f"{label}::{_spelled(target)}")
    if target.is_builtin and target.type_name in _TEXTS:
        conditions = [_fits(label, target)] if target.typmod >= 0 else []
        value = _kept(name, label, conditions, target, number)
        return Crossing(pair, value, f"({value})::{_spelled(target)}")
    return Crossing(pair, name, f"{label}::{_spelled(target)}", needs_text=True)


def _kept(name: str, value: str, conditions: Sequence[str], target: Column, number: int) -> str:
    """The value where the conditions hold; elsewhere an error that tells the value and its column.

    SQL has no way to raise an error, but no number reads like this text.
    """
    if not conditions:
        return value
    complaint = f"('{COMPLAINT}{number}:' || left({name}::text, 200))::int4::text"
    holds = " AND ".join(f"({condition})" for condition in conditions)
    return (
        f"CASE WHEN {name} IS NULL OR ({holds}) THEN {value} "
        f"ELSE {complaint}::{_spelled(target)} END"
    )


def _fits(value: str, target: Column) -> str:
    return f"({value})::{target.full_type} IS NOT DISTINCT FROM ({value})::{_spelled(target)}"


def _narrows(source: Column, target: Column) -> bool:
    """Whether the target's length, precision or scale could cut a value of the source."""
    if target.typmod < 0 or source.typmod == target.typmod:
        return False
    element = target.type_name.lstrip("_")
    if source.typmod < 0 or source.type_name != target.type_name:
        return True
    if element in _WIDTHS or element in _CLOCKS:
        return source.typmod > target.typmod
    if element == "numeric":
        return _scale(source.typmod) > _scale(target.typmod)
    return True


def _may_be_cut(source: Column, target: Column) -> bool:
    """Whether a value that was converted may still be too long or too precise for the target."""
    if target.typmod < 0:
        return False
    if target.type_name == "numeric" and source.type_name in _INTEGERS:
        return _scale(target.typmod) < 0
    return target.type_name not in _TEXTS or _narrows(source, target)


def _scale(typmod: int) -> int:
    return (((typmod - 4) & 0x7FF) ^ 1024) - 1024  # numeric.c, numeric_typmod_scale


def _spelled(column: Column) -> str:
    """The type without a length: `bit` and `character` alone would mean a length of one."""
    return f"pg_catalog.{quoted(column.type_name)}" if column.is_builtin else column.base
