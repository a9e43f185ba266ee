"""The JSON Schema of jobs.toml, for editors: what a person may write, each field with its words."""

from __future__ import annotations

from typing import Any

from nomaflow.job import words
from nomaflow.job.spec import JobSpec, StepSpec
from nomaflow.steps import registry

_EVERY = {
    "description": "Instead of `cron`: an interval such as 10s, 5m, 1h, 1d. Also `interval`.",
    "anyOf": [{"type": "string", "pattern": r"^[0-9.smhdw]+$"}, {"type": "number"}],
}
_SCHEDULE = {
    "type": "string",
    "description": "A cron expression of 5 fields, or 6 with seconds last, or @daily ...; absent: "
    "only when asked.",
}
_ROW = {
    "type": "object",
    "description": "A parameter as a row.",
    "properties": {
        "name": {"type": "string", "description": "The parameter."},
        "type": {"enum": sorted(words.ROW_TYPES), "description": "What its value is."},
        "default": {"description": "Its value unless a run gives another."},
        "description": {"type": "string", "description": "Words for people."},
        "required": {"type": "boolean", "description": "A run without it is refused."},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def json_schema() -> dict[str, Any]:
    """Return the schema of a whole file of jobs, draft 2020-12, with every installed step type."""
    definitions: dict[str, Any] = {}
    kinds = [_step_type(name, definitions) for name in sorted(registry.all_types())]
    definitions["Step"] = {"oneOf": kinds, "description": "A link of the chain."}
    definitions["Job"] = _job(definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jobs.toml",
        "description": "Jobs of Nomaflow.",
        "type": "object",
        "properties": {
            "jobs": {
                "type": "array",
                "items": {"$ref": "#/$defs/Job"},
                "description": "The jobs, each begun by [[jobs]].",
            },
            "step_defaults": {
                "type": "object",
                "description": "Fields put under every step of this file that has such a field.",
            },
        },
        "additionalProperties": False,
        "$defs": definitions,
    }


def _job(definitions: dict[str, Any]) -> dict[str, Any]:
    schema = JobSpec.model_json_schema()
    definitions.update(schema.pop("$defs"))
    definitions.pop("StepSpec")
    _spell(definitions["RetryPolicy"], words.RETRY_ALIASES)
    clock = definitions["ScheduleSpec"]
    clock["properties"].pop("every_seconds")
    clock["properties"]["every"] = _EVERY
    _spell(clock, {k: v for k, v in words.SCHEDULE_ALIASES.items() if k != "every_seconds"})
    _spell(definitions["PresetSpec"], words.PRESET_ALIASES)
    properties = schema["properties"]
    properties["schedule"] = _SCHEDULE
    properties["steps"]["items"] = {"$ref": "#/$defs/Step"}
    rows = {"type": "array", "items": _ROW}
    told = properties["params"].pop("description")
    properties["params"] = {"description": told, "anyOf": [properties["params"], rows]}
    name = {"type": "string", "description": "The other job's name."}
    properties["depends_on"]["items"] = {"anyOf": [name, {"$ref": "#/$defs/DependencySpec"}]}
    properties["single_instance"] = {
        "type": "boolean",
        "description": "The second vocabulary's `overlap`: true is skip, false is allow.",
    }
    _spell(schema, words.JOB_ALIASES)
    schema["required"] = ["steps"]
    return schema


def _step_type(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """One step type: what all steps share and its own fields.

    Its own are not marked required, since `[step_defaults]` may give them; the loader knows.
    """
    own = _prefixed(registry.json_schema(name), name)
    definitions.update({f"{name}.{key}": part for key, part in own.pop("$defs", {}).items()})
    shared = StepSpec.model_json_schema()["properties"]
    shared.pop("config")
    kind = {"const": name, "description": registry.step_type(name).title}
    schema = {
        "title": name,
        "description": own.get("description", ""),
        "type": "object",
        "properties": {**shared, **own.get("properties", {}), "type": kind},
        "required": ["name"],
        "additionalProperties": False,
    }
    aliases = words.STEP_ALIASES
    _spell(schema, {k: v for k, v in aliases.items() if v in schema["properties"]})
    return schema


def _prefixed(schema: Any, name: str) -> Any:
    """Give the type's inner definitions names of their own, `http.BearerAuth`."""
    match schema:
        case dict():
            return {
                key: part.replace("#/$defs/", f"#/$defs/{name}.")
                if key == "$ref" and isinstance(part, str)
                else {k.replace("#/$defs/", ""): _prefixed(v, name) for k, v in part.items()}
                if key == "$defs"
                else _mapped(part, name)
                if key == "mapping"
                else _prefixed(part, name)
                for key, part in schema.items()
            }
        case list():
            return [_prefixed(part, name) for part in schema]
        case _:
            return schema


def _mapped(mapping: Any, name: str) -> Any:
    if not isinstance(mapping, dict):
        return mapping
    return {
        key: part.replace("#/$defs/", f"#/$defs/{name}.") if isinstance(part, str) else part
        for key, part in mapping.items()
    }


def _spell(schema: dict[str, Any], aliases: dict[str, str]) -> None:
    """Let the other spellings of a table's fields stand beside the canonical ones."""
    for alias, name in aliases.items():
        properties = schema["properties"]
        properties[alias] = {**properties[name], "description": f"The same as `{name}`."}
