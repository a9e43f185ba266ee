"""The JSON Schema of calendars.toml, for editors: what may be written, each field with words."""

from __future__ import annotations

from typing import Any

_DAY = r"^(\d{4}-\d{2}-\d{2}(\s*\.\.\s*\d{4}-\d{2}-\d{2})?|\d{2}-\d{2})$"
_NAME = r"^[A-Za-z0-9_-]{1,128}$"
_PATTERN = r"^[A-Za-z0-9_\-*?\[\]!]{1,128}$"
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def json_schema() -> dict[str, Any]:
    """Return the schema of the whole file, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "calendars.toml",
        "description": "When jobs of Nomaflow may fire.",
        "type": "object",
        "properties": {
            "calendars": {
                "type": "object",
                "description": "The calendars, each begun by [calendars.NAME].",
                "propertyNames": {"pattern": _NAME},
                "additionalProperties": {"$ref": "#/$defs/Calendar"},
            },
            "blackouts": {
                "type": "array",
                "description": "The blackouts, each begun by [[blackouts]].",
                "items": {"$ref": "#/$defs/Blackout"},
            },
        },
        "additionalProperties": False,
        "$defs": {"Calendar": _calendar(), "Blackout": _blackout()},
    }


def _calendar() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "The days and hours at which jobs that name it may fire.",
        "properties": {
            "weekdays": _list(
                {"enum": list(_WEEKDAYS)}, "The open weekdays; absent: every day of the week."
            ),
            "exclude": _days(
                "Closed days: `2026-12-25`, `12-25` for every year, or the span "
                "`2026-12-24..2027-01-02`."
            ),
            "include": _days("Days that are open from midnight to midnight, whatever closes them."),
            "windows": _list(
                {"type": "string"},
                "Open hours: `mon-fri 08:00-18:00`, `22:00-06:00`; absent: the whole day.",
            ),
            "ics": {
                "type": "string",
                "description": "An iCalendar file beside this one; the days of its events are "
                "closed.",
            },
        },
        "minProperties": 1,
        "additionalProperties": False,
    }


def _blackout() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "A stretch of time in which some jobs do not fire.",
        "properties": {
            "name": {"type": "string", "pattern": _NAME, "description": "Its name."},
            "from": _time("Its first instant, with an offset: `2026-12-05T20:00:00Z`."),
            "until": _time("The instant at which it is over, at most 366 days later."),
            "jobs": _patterns('Names of jobs, or patterns: `["*"]`, `["report-*"]`.'),
            "connectors": _patterns("Also every job with a step that uses one of these."),
            "action": {
                "enum": ["skip", "postpone"],
                "default": "skip",
                "description": "`skip` drops what was due; `postpone` fires it once at the end.",
            },
        },
        "required": ["name", "from", "until"],
        "anyOf": [{"required": ["jobs"]}, {"required": ["connectors"]}],
        "additionalProperties": False,
    }


def _days(description: str) -> dict[str, Any]:
    # A date of TOML's own reaches an editor's validator as text.
    return _list({"type": "string", "pattern": _DAY}, description)


def _patterns(description: str) -> dict[str, Any]:
    return _list({"type": "string", "pattern": _PATTERN}, description)


def _time(description: str) -> dict[str, Any]:
    return {"type": "string", "format": "date-time", "description": description}


def _list(items: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": description}
