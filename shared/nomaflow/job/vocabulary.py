"""Brings what people write to one vocabulary: aliases, short forms, JSON values.

Both vocabularies of the seeds load (J01, J02).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

from nomaflow.clock import schedule
from nomaflow.errors import NomaflowError
from nomaflow.job import step_defaults, words
from nomaflow.job.problems import Path, Problem, written

DEEPEST = 32
LARGEST_INT = 2**63 - 1


@dataclass(slots=True)
class Reading:
    """A job on its way from what was written to the one vocabulary."""

    problems: list[Problem] = field(default_factory=list)
    spelled: dict[Path, Path] = field(default_factory=dict)

    def wrong(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path, message))

    def as_written(self, path: Path) -> Path:
        """Lead from a path of the one vocabulary back to what the person wrote."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.spelled:
                return self.spelled[path[:length]] + path[length:]
        return path

    def job(self, raw: Any, *, timezone: str, defaults: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the job as plain JSON in canonical words, steps with their own `config`.

        None when it is not JSON at all; the problems say why.
        """
        job = self._plain(raw, ())
        below = self._plain(defaults, ("step_defaults",))
        if self.problems:
            return None
        if not isinstance(job, dict):
            self.wrong((), f"a job is a table, not {written(job)}")
            return None
        job = self._renamed(job, words.JOB_ALIASES, ())
        self._overlap(job)
        self._param_rows(job)
        self._dependencies(job)
        self._lowered(job, "catch_up")
        self._emptied(job, "calendar")
        if isinstance(job.get("log_level"), str):
            job["log_level"] = job["log_level"].upper()
        if isinstance(job.get("retry"), dict):
            job["retry"] = self._renamed(job["retry"], words.RETRY_ALIASES, ("retry",))
        if isinstance(job.get("alerts"), dict):
            job["alerts"] = self._renamed(job["alerts"], {}, ("alerts",))
            self._later(job["alerts"], "alerts", ("alerts",))
        job.setdefault("timezone", timezone)
        self._schedules(job)
        self._each(job, "presets", self._preset)
        self._each(job, "steps", self._step)
        self._defaults(job, below)
        return job

    def _plain(  # noqa: C901, PLR0911, PLR0912  a case for each kind of value
        self, value: Any, path: Path
    ) -> Any:
        match value:
            case str():
                if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
                    self.wrong(path, "a text may not hold NUL or half of a surrogate pair")
                return value
            case bool() | None:
                return value
            case int():
                if abs(value) > LARGEST_INT:
                    self.wrong(path, "a whole number must fit into 64 bits")
                return int(value)
            case float():
                if not math.isfinite(value):
                    self.wrong(path, "a number may not be infinite or nan")
                return float(value)
            case datetime() | date() | time():
                return value.isoformat()
            case Mapping() | list() | tuple() if len(path) >= DEEPEST:
                self.wrong(path[:8], f"it is nested deeper than {DEEPEST} levels")
                return None
            case Mapping():
                for key in value:
                    self._plain(str(key), (*path, "?"))
                return {str(k): self._plain(part, (*path, str(k))) for k, part in value.items()}
            case list() | tuple():
                return [self._plain(part, (*path, str(at))) for at, part in enumerate(value)]
            case _:
                self.wrong(path, f"a {type(value).__name__} cannot be written as JSON")
                return None

    def _renamed(
        self, table: dict[str, Any], aliases: Mapping[str, str], path: Path
    ) -> dict[str, Any]:
        """Give every key its canonical name and drop nulls, which mean "not given" here."""
        out: dict[str, Any] = {}
        written_path = self.as_written(path)
        for key, value in table.items():
            name = aliases.get(key, key)
            if name in out:
                other = self.as_written((*path, name))[-1]
                message = f"`{other}` and `{key}` are the same field; keep one"
                self.wrong((*written_path, key), message)
            elif value is not None:
                out[name] = value
                if name != key:
                    self.spelled[(*path, name)] = (*written_path, key)
        return out

    def _later(self, table: dict[str, Any], kind: str, path: Path) -> None:
        for key, harmless in words.NOT_YET[kind].items():
            if key in table:
                value = table.pop(key)
                value = value.lower() if isinstance(value, str) else value
                if value not in harmless:
                    at = self.as_written((*path, key))
                    self.wrong(at, f"`{at[-1]}` is not available in this version")

    def _overlap(self, job: dict[str, Any]) -> None:
        if "single_instance" in job:
            alone = job.pop("single_instance")
            if not isinstance(alone, bool):
                self.wrong(("single_instance",), "`single_instance` must be true or false")
            elif "overlap" in job:
                message = "`overlap` and `single_instance` are the same field; keep one"
                self.wrong(("single_instance",), message)
            else:
                job["overlap"] = "skip" if alone else "allow"
        if isinstance(job.get("overlap"), str):
            job["overlap"] = job["overlap"].lower()

    def _dependencies(self, job: dict[str, Any]) -> None:
        """Make the short form, a name, a table of its own."""
        given = job.get("depends_on")
        if isinstance(given, list):
            job["depends_on"] = [{"job": one} if isinstance(one, str) else one for one in given]
            for at, one in enumerate(given):
                if isinstance(one, str):
                    key = self.as_written(("depends_on",))
                    self.spelled["depends_on", str(at), "job"] = (*key, str(at))

    def _lowered(self, table: dict[str, Any], key: str) -> None:
        if isinstance(table.get(key), str):
            table[key] = table[key].lower()

    def _emptied(self, table: dict[str, Any], key: str) -> None:
        """Read an empty text as "not given"."""
        if table.get(key) == "":
            del table[key]

    def _param_rows(self, job: dict[str, Any]) -> None:
        """Turn rows of name, type, default and description into `params` and `param_schema`."""
        rows = job.get("params")
        if not isinstance(rows, list):
            return
        if "param_schema" in job:
            self.wrong(("params",), "give `params` as a table when there is a `param_schema`")
        schema: dict[str, Any] = {"type": "object", "properties": {}}
        values: dict[str, Any] = {}
        for at, row in enumerate(rows):
            self._param_row(row, ("params", str(at)), values, schema)
        job["params"], job["param_schema"] = values, schema

    def _param_row(
        self, row: Any, path: Path, values: dict[str, Any], schema: dict[str, Any]
    ) -> None:
        name = row.get("name") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name:
            self.wrong(path, "a parameter row needs a `name`")
            return
        kind = row.get("type", "string")
        properties = schema["properties"]
        if name in properties:
            self.wrong((*path, "name"), f"there are two parameters `{name}`")
        elif not isinstance(kind, str) or kind not in words.ROW_TYPES:
            kinds = ", ".join(words.ROW_TYPES)
            self.wrong((*path, "type"), f"`type` must be one of {kinds}, not {written(kind)}")
        elif unknown := sorted(set(row) - words.ROW_FIELDS):
            self.wrong((*path, unknown[0]), f"there is no field `{unknown[0]}` in a parameter")
        else:
            properties[name] = dict(words.ROW_TYPES[kind])
            if row.get("description"):
                properties[name]["description"] = row["description"]
            if row.get("required"):
                schema.setdefault("required", []).append(name)
            if row.get("default") is not None:
                values[name] = row["default"]
                self.spelled["params", name] = (*path, "default")

    def _schedules(self, job: dict[str, Any]) -> None:
        """Make the short form `schedule` the clock named `default`, before the others."""
        clocks: list[Any] = []
        short = job.pop("schedule", None)
        if short not in (None, ""):
            clocks.append({"name": "default", "cron": short, "timezone": job["timezone"]})
            self.spelled["schedules", "0"] = ("schedule",)
            self.spelled["schedules", "0", "cron"] = ("schedule",)
            self.spelled["schedules", "0", "timezone"] = ("timezone",)
        given = job.pop("schedules", [])
        if not isinstance(given, list):
            self.wrong(("schedules",), "`schedules` must be a list of tables")
            given = []
        for at, clock in enumerate(given):
            place = ("schedules", str(len(clocks)))
            self.spelled[place] = ("schedules", str(at))
            if isinstance(clock, dict):
                clocks.append({"timezone": job["timezone"], **self._schedule(clock, place)})
            else:
                clocks.append(clock)
        job["schedules"] = clocks

    def _schedule(self, clock: dict[str, Any], path: Path) -> dict[str, Any]:
        clock = self._renamed(clock, words.SCHEDULE_ALIASES, path)
        self._lowered(clock, "catch_up")
        every = clock.pop("every", None)
        if every is not None:
            at = self.as_written((*path, "every"))
            self.spelled[(*path, "every_seconds")] = at
            try:
                if isinstance(every, bool) or not isinstance(every, str | int | float):
                    every = written(every)
                clock["every_seconds"] = schedule.every_seconds(every)
            except NomaflowError as error:
                self.wrong(at, error.message)
                clock["every_seconds"] = schedule.SHORTEST_EVERY
        return clock

    def _preset(self, preset: dict[str, Any], path: Path) -> dict[str, Any]:
        preset = self._renamed(preset, words.PRESET_ALIASES, path)
        self._emptied(preset, "schedule")
        if isinstance(preset.get("log_level"), str):
            preset["log_level"] = preset["log_level"].upper()
        return preset

    def _step(self, step: dict[str, Any], path: Path) -> dict[str, Any]:
        """Part the fields that all steps share from the type's own."""
        inner = step.pop("config", None) if isinstance(step.get("config"), dict) else None
        if inner is not None:
            for key in sorted(set(inner) & (set(step) | words.STEP_COMMON)):
                self.wrong((*path, "config", key), f"`{key}` does not belong into `config`")
            step = {**inner, **step}
        step = self._renamed_step(step, path)
        if isinstance(step.get("retry"), dict):
            step["retry"] = self._renamed(step["retry"], words.RETRY_ALIASES, (*path, "retry"))
        common = {key: step[key] for key in step if key in words.STEP_COMMON}
        config = {key: step[key] for key in step if key not in words.STEP_COMMON}
        self.spelled[(*path, "config")] = path
        for name in words.STEP_ALIASES.values():
            if (*path, name) in self.spelled and name not in words.STEP_COMMON:
                self.spelled[(*path, "config", name)] = self.spelled[(*path, name)]
        return {**common, "config": config}

    def _renamed_step(self, step: dict[str, Any], path: Path) -> dict[str, Any]:
        nulls = {k: v for k, v in step.items() if v is None and k not in words.STEP_COMMON}
        return {**self._renamed(step, words.STEP_ALIASES, path), **nulls}

    def _defaults(self, job: dict[str, Any], written_defaults: Any) -> None:
        if not isinstance(written_defaults, dict):
            self.wrong(("step_defaults",), "`step_defaults` must be a table")
        elif written_defaults:
            defaults = self._step(written_defaults, ("step_defaults",))
            for key, message in step_defaults.unknown(defaults):
                at = self.as_written(("step_defaults", "config", key))
                self.wrong(at, message)
            if isinstance(job.get("steps"), list):
                job["steps"] = [
                    step_defaults.under(step, defaults) if isinstance(step, dict) else step
                    for step in job["steps"]
                ]

    def _each(self, job: dict[str, Any], key: str, read: Any) -> None:
        if isinstance(job.get(key), list):
            job[key] = [
                read(part, (key, str(at))) if isinstance(part, dict) else part
                for at, part in enumerate(job[key])
            ]
