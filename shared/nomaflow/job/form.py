"""The written forms of a job: the canonical one that history keeps, and TOML for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.items import AoT, InlineTable, Item, Table

# Numbers that the model keeps as floats and people write as whole ones.
_WHOLE = {
    "timeout_seconds",
    "base_seconds",
    "max_seconds",
    "on_long_run_minutes",
    "catch_up_window_minutes",
    "jitter_seconds",
}
# What is written out even where it is the default, since a reader looks for it.
_SHOWN = {
    "job": ("app", "enabled", "timezone"),
    "retry": ("attempts", "backoff", "base_seconds"),
    "alerts": ("on_failure",),
    "step": ("timeout_seconds",),
}


def canonical(
    whole: Mapping[str, Any],
    differing: Mapping[str, Any],
    retries: list[dict[str, Any] | None],
) -> dict[str, Any]:
    """Build the canonical form from a model's dump, and its dump without defaults.

    `retries` are the policies of the steps with only what each one sets.
    """
    clocks = [_clock(clock, whole["timezone"]) for clock in differing.get("schedules", [])]
    job = _shown("job", whole, differing)
    out: dict[str, Any] = {}
    for key, value in job.items():
        if key == "timezone" and clocks and _is_short(clocks[0]):
            out["schedule"] = clocks.pop(0)["cron"]
        if key in ("retry", "alerts"):
            out[key] = _shown(key, whole[key], value)
        elif key == "schedules":
            if clocks:
                out[key] = clocks
        elif key == "depends_on":
            out[key] = [one["job"] if set(one) == {"job"} else one for one in value]
        elif key == "steps":
            rows = zip(whole["steps"], value, retries, strict=True)
            out[key] = [_step(full, differs, retry) for full, differs, retry in rows]
        else:
            out[key] = _whole(key, value)
    return out


def _shown(kind: str, whole: Mapping[str, Any], differing: Mapping[str, Any]) -> dict[str, Any]:
    keys = [key for key in whole if key in differing or key in _SHOWN[kind]]
    return {
        key: _whole(key, whole[key] if key not in differing else differing[key]) for key in keys
    }


def _is_short(clock: Mapping[str, Any]) -> bool:
    return set(clock) == {"name", "cron"} and clock["name"] == "default"


def _clock(clock: dict[str, Any], timezone: str) -> dict[str, Any]:
    out = dict(clock)
    if "every_seconds" in out:
        out["every"] = every(out.pop("every_seconds"))
    zone = out.pop("timezone", "UTC")
    if zone != timezone:
        out["timezone"] = zone
    return {key: _whole(key, value) for key, value in out.items()}


def _step(
    whole: Mapping[str, Any], differing: Mapping[str, Any], retry: Mapping[str, Any] | None
) -> dict[str, Any]:
    own = _shown("step", whole, differing)
    config = own.pop("config", {})
    if retry is not None:
        own["retry"] = {
            key: _whole(key, list(v) if isinstance(v, tuple) else v) for key, v in retry.items()
        }
    head = {key: own.pop(key) for key in ("name", "type")}
    return {**head, **config, **own}


def _whole(key: str, value: Any) -> Any:
    return (
        int(value) if key in _WHOLE and isinstance(value, float) and value.is_integer() else value
    )


def every(seconds: float) -> str:
    """Write an interval as people do: 3600 is `1h`, 90 is `90s`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def to_toml(job: Mapping[str, Any]) -> str:
    """Write a canonical job as a `[[jobs]]` table; nulls are left out, since TOML has none."""
    document = tomlkit.document()
    jobs = tomlkit.aot()
    jobs.append(
        _table(
            job, tables=("param_schema", "retry", "alerts"), lists=("schedules", "presets", "steps")
        )
    )
    document.append("jobs", jobs)
    return tomlkit.dumps(document)


def _table(values: Mapping[str, Any], *, tables: tuple[str, ...], lists: tuple[str, ...]) -> Table:
    table = tomlkit.table()
    plain = [key for key in values if key not in tables and key not in lists]
    for key in plain:
        if values[key] is not None:
            table.append(key, _item(values[key]))
    for key in tables:
        if key in values:
            table.append(key, _table(values[key], tables=(), lists=()))
    for key in lists:
        parts: AoT = tomlkit.aot()
        for part in values.get(key, []):
            parts.append(_table(part, tables=(), lists=()))
        if parts:
            table.append(key, parts)
    return table


def _item(value: Any) -> Item:
    match value:
        case Mapping():
            inline: InlineTable = tomlkit.inline_table()
            for key, part in value.items():
                if part is not None:
                    inline.append(key, _item(part))
            return inline
        case list():
            array = tomlkit.array()
            array.extend([_item(part) for part in value if part is not None])
            return array
        case str() if "\n" in value:
            return tomlkit.string(value, multiline=True)
        case _:
            return tomlkit.item(value)
