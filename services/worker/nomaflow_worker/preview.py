"""What history keeps of a big output: its shape and beginning, with the full size said."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

_FIRST_ITEMS = 20
_FIRST_CHARACTERS = 2_000


def size(value: Any) -> int:
    """Bytes of the value as JSON."""
    return len(to_json(value, fallback=str, inf_nan_mode="null"))


def of(value: Any, limit: int) -> Any:
    """Return `value` if it fits in `limit` bytes, else a preview: big parts are cut and marked."""
    if size(value) <= limit:
        return value
    if isinstance(value, dict):
        share = max(limit // max(len(value), 1), 256)
        kept = {
            key: part if size(part) <= share else _cut(part, share) for key, part in value.items()
        }
        return kept if size(kept) <= 2 * limit else _cut(value, limit)
    return _cut(value, limit)


def _cut(value: Any, limit: int) -> dict[str, Any]:
    mark: dict[str, Any] = {"truncated": True, "bytes": size(value)}
    match value:
        case str():
            mark["characters"] = len(value)
            mark["preview"] = value[: min(limit, _FIRST_CHARACTERS)]
        case list():
            mark["items"] = len(value)
            mark["preview"] = _beginning(value, limit)
        case dict():
            mark["keys"] = [str(key)[:100] for key in list(value)[:_FIRST_ITEMS]]
    return mark


def _beginning(items: list[Any], limit: int) -> list[Any]:
    kept: list[Any] = []
    room = limit
    for item in items[:_FIRST_ITEMS]:
        room -= size(item)
        if room < 0:
            break
        kept.append(item)
    return kept
