"""A run's parameters: which layer wins, what they are read as, what is refused."""

from datetime import datetime
from itertools import combinations
from zoneinfo import ZoneInfo

import pytest

from nomaflow.errors import Code
from nomaflow.job import parameters
from nomaflow.job.spec import JobSpec, SpecErrors
from nomaflow.language import template
from nomaflow.language.template import Scope, TemplateError

LAYERS = ("job_params", "step_kwargs", "schedule_or_preset", "fire_params", "fire_kwargs")


def spec(**fields):
    step = {"name": "call", "type": "python", "callable": "a:b", "kwargs": {"threshold": 50}}
    other = {"name": "other one", "type": "http", "url": "http://h/"}
    return JobSpec.parse({"name": "nightly", "steps": [step, other], **fields})


@pytest.mark.parametrize(("below", "above"), list(combinations(LAYERS, 2)))
def test_later_layers_win(below, above):
    given = {layer: {} for layer in LAYERS}
    given[below], given[above] = {"x": below, "y": 1}, {"x": above}
    assert parameters.merge(**given) == {"x": above, "y": 1}


def test_values_replace_and_never_mix():
    merged = parameters.merge({"a": {"x": 1}}, {}, {}, {"a": {"y": 2}}, {})
    assert merged == {"a": {"y": 2}}


def test_parameters_may_name_each_other():
    scope = Scope(env={"HOST": "h"}, now=datetime(2026, 3, 15, tzinfo=ZoneInfo("UTC")))
    given = {
        "url": "${kw:base}/${kw:day}",
        "base": "https://${env:HOST}",
        "day": "${today}",
        "list": ["${kw:n}"],
        "n": 5,
    }
    assert parameters.resolve(given, scope) == {
        "url": "https://h/2026-03-15",
        "base": "https://h",
        "day": "2026-03-15",
        "list": [5],
        "n": 5,
    }


def test_what_a_parameter_brings_is_not_filled_again():
    scope = Scope(env={"A": "${env:B}", "B": "secret"})
    assert parameters.resolve({"x": "${env:A}", "y": "${kw:x}"}, scope)["y"] == "${env:B}"


def test_a_circle_of_parameters_is_an_error():
    with pytest.raises(TemplateError, match="a -> b -> a"):
        parameters.resolve({"a": "${kw:b}", "b": "x${kw:a}"}, Scope())


def test_an_unknown_parameter_is_an_error():
    with pytest.raises(TemplateError, match="there is no parameter `b`"):
        parameters.resolve({"a": "${kw:b}"}, Scope())


SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1, "maximum": 10},
        "x": {"type": "number"},
        "on": {"type": "boolean"},
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "mode": {"enum": ["full", "incremental"]},
        "list": {"type": "array"},
        "table": {"type": "object"},
        "maybe": {"type": ["integer", "null"]},
        "text": {"type": "string"},
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("n", "5", 5),
        ("n", 5, 5),
        ("x", "1.5", 1.5),
        ("x", "2", 2),
        ("x", "1e3", 1000.0),
        ("on", "false", False),
        ("on", "Yes", True),
        ("on", "0", False),
        ("day", "2026-01-02", "2026-01-02"),
        ("at", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("mode", "full", "full"),
        ("list", "[1, 2]", [1, 2]),
        ("table", '{"a": 1}', {"a": 1}),
        ("maybe", None, None),
        ("maybe", "7", 7),
        ("text", "5", "5"),
        ("n", "${kw:other}", "${kw:other}"),
    ],
)
def test_texts_are_read_as_their_types(name, given, read):
    [value] = parameters.coerce({name: given}, SCHEMA).values()
    assert value == read
    assert type(value) is type(read)


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("n", "five", '`n` must be a whole number, not "five"'),
        ("n", 1.5, "`n` must be a whole number, not 1.5"),
        ("n", 11, "`n` must be at most 10, not 11"),
        ("n", "0", "`n` must be at least 1, not 0"),
        ("n", True, "`n` must be a whole number, not true"),
        ("n", "9" * 5_000, "`n` must be a whole number"),
        ("x", "nan", "`x` must be a number"),
        ("x", "1e999", "`x` must be a number"),
        ("on", "maybe", '`on` must be true or false, not "maybe"'),
        ("day", "2026-13-01", '`day` must be a date, not "2026-13-01"'),
        ("at", "noon", '`at` must be a date-time, not "noon"'),
        ("mode", "half", '`mode` must be one of "full", "incremental", not "half"'),
        ("list", "x", "`list` must be a list"),
        ("list", "[" * 10_000, "`list` must be a list"),
        ("maybe", "x", "`maybe` must be a whole number or null"),
        ("text", 5, "`text` must be text, not 5"),
        ("txt", "x", "there is no parameter `txt`; did you mean `text`?"),
    ],
)
def test_what_is_not_of_its_type_is_refused(name, given, why):
    with pytest.raises(SpecErrors) as refused:
        parameters.coerce({name: given}, SCHEMA)
    [problem] = refused.value.problems
    assert why in problem.message


def test_without_a_schema_the_defaults_say_the_kinds():
    job = spec(params={"n": 1, "s": "x", "on": True, "day": "${today}", "none": None, "l": [1]})
    schema = parameters.schema_of(job)
    given = {"n": "2.5", "s": "y", "on": "no", "day": "2026-01-01", "none": 5, "l": [], "new": 1}
    assert parameters.coerce(given, schema) == {**given, "n": 2.5, "on": False}
    with pytest.raises(SpecErrors, match="`n` must be a number"):
        parameters.coerce({"n": "abc"}, schema)
    with pytest.raises(SpecErrors, match="`s` must be text"):
        parameters.coerce({"s": 5}, schema)


OVERRIDES = [
    (
        {"step_kwargs": {"other one": {"metod": "POST"}}},
        ("step_kwargs", "other one", "metod"),
        "step `other one`: an http step has no kwarg `metod`; did you mean `method`?",
    ),
    ({"step_kwargs": {"other one": {"qq": 1}}}, ("step_kwargs", "other one", "qq"), "it knows aut"),
    ({"params": {"n": "abc"}}, ("params", "n"), "must be a number"),
    ({"params": 5}, ("params",), "must be a table, not 5"),
    ({"step_kwargs": {"cal": {}}}, ("step_kwargs", "cal"), "no step `cal`; did you mean `call`?"),
    ({"step_kwargs": {"call": 5}}, ("step_kwargs", "call"), "must be a table"),
    ({"step_kwargs": {"call": {"threshold": "x"}}}, ("step_kwargs", "call", "threshold"), "a n"),
    ({"step_enabled": {"nope": True}}, ("step_enabled", "nope"), "has no step `nope`"),
    ({"step_enabled": {"call": "no"}}, ("step_enabled", "call"), "must be true or false"),
    ({"params": {"s": "${env:TOKEN}"}}, ("params", "s"), "may not name secrets"),
    ({"params": {"new": ["x ${TOKEN}"]}}, ("params", "new"), "may not name secrets"),
    ({"params": {"new": "${secret:x}"}}, ("params", "new"), "may not name secrets"),
    ({"params": {"new": {"a": "${foo:x}"}}}, ("params", "new", "a"), "unknown token"),
    ({"params": {"new": float("nan")}}, ("params",), "cannot be written as JSON"),
    ({"params": {"new": b"x"}}, ("params",), "cannot be written as JSON"),
    ({"params": {"new": "x" * 300_000}}, ("params",), "larger than 256 KB"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "path", "why"), OVERRIDES)
def test_what_a_fire_may_not_give(given, path, why):
    job = spec(params={"n": 1, "s": "x", "token": "${env:TOKEN}"})
    found = parameters.validate_overrides(
        job, given.get("params", {}), given.get("step_kwargs"), given.get("step_enabled")
    )
    assert [problem.path for problem in found] == [path]
    assert why in found[0].message


def test_a_fire_may_give_what_a_step_reads_or_its_job_declares():
    job = spec(
        params={"declared": 1},
        param_schema={"type": "object", "properties": {"declared": {}, "required": {}}},
        steps=[
            {"name": "get", "type": "http", "url": "http://h/${kw:place}/${params.day}"},
            {
                "name": "users",
                "type": "http_sync",
                "request": {"url": "http://h/users"},
                "map": {"id": "param('tenant')"},
                "target": {"connector": "db", "table": "users", "key": ["id"]},
            },
            {"name": "call", "type": "python", "callable": "a:b"},
        ],
    )
    given = {
        "get": {"place": "x", "day": 1, "declared": 2, "required": 3, "method": "POST"},
        "users": {"tenant": "t"},
        "call": {"anything": 1},
    }
    assert parameters.validate_overrides(job, {}, given) == []
    assert len(parameters.validate_overrides(job, {}, {"get": {"tenant": 1}})) == 1


SET = {
    "query": {"type": "sql_query", "connector": "c", "query": "SELECT :a", "params": {"a": 1}},
    "copy": {"type": "sql_copy", "source": {"table": "a"}, "target": {"table": "b"}},
    "http": {"type": "http", "url": "https://x.example"},
    "call": {"type": "python", "callable": "m:f", "kwargs": {"day": "x"}},
}


@pytest.mark.parametrize(
    ("step", "setting"),
    [
        *[("query", name) for name in ("connector", "query", "transaction")],
        *[("copy", name) for name in ("source", "target", "transform", "mode", "columns")],
        *[("http", name) for name in ("url", "headers", "auth", "connector", "follow_redirects")],
        *[("call", name) for name in ("env", "callable", "memory_mb")],
    ],
)
def test_who_may_run_a_job_does_not_change_what_its_steps_are(step, setting):
    job = spec(steps=[{"name": name, **table} for name, table in SET.items()])
    given = {step: {setting: "x"}}
    (found,) = parameters.validate_overrides(job, {}, given, may_edit=False)
    assert (found.path, found.code) == (("step_kwargs", step, setting), Code.FORBIDDEN)
    assert "takes the permission `edit`" in found.message
    assert parameters.validate_overrides(job, {}, given) == []


def test_who_may_run_a_job_tunes_its_steps_and_gives_them_values():
    job = spec(steps=[{"name": name, **table} for name, table in SET.items()])
    given = {
        "query": {"params": {"a": 2}},
        "copy": {"batch_size": 500, "max_delete": "50%"},
        "http": {"retry_count": 3},
        "call": {"day": "y", "more": 1},
    }
    assert parameters.validate_overrides(job, {"p": 1}, given, may_edit=False) == []


def test_what_a_fire_may_give():
    job = spec(params={"n": 1, "token": "${env:TOKEN}"})
    found = parameters.validate_overrides(
        job,
        {"n": 2, "token": "${env:TOKEN}", "new": "${today}"},
        {"call": {"threshold": 33.3, "more": 1}, "other one": {"method": "PUT"}},
        {"other one": False},
    )
    assert found == []


def test_a_required_parameter_must_come_from_somewhere():
    schema = {"properties": {"day": {"type": "string"}}, "required": ["day"]}
    missing = parameters.validate_overrides(spec(param_schema=schema), {})
    assert [problem.message for problem in missing] == ["parameter `day` is required"]
    assert parameters.validate_overrides(spec(param_schema=schema), {"day": "x"}) == []
    assert parameters.validate_overrides(spec(param_schema=schema, params={"day": "x"}), {}) == []
    saved = spec(param_schema=schema, presets=[{"name": "p", "params": {"day": "x"}}])
    assert parameters.validate_overrides(saved, {}, preset=saved.preset("p")) == []


def test_a_preset_lies_under_what_a_fire_gives():
    preset = {
        "name": "sandbox",
        "params": {"target": "sandbox", "n": 1},
        "kwargs": {"call": {"batch": 500, "x": 1}},
        "steps": {"call": False, "other one": False},
    }
    saved = spec(presets=[preset]).preset("sandbox")
    assert parameters.with_preset(
        saved, {"n": 2}, {"call": {"x": 2}, "other one": {"y": 1}}, {"call": True}
    ) == (
        {"target": "sandbox", "n": 2},
        {"call": {"batch": 500, "x": 2}, "other one": {"y": 1}},
        {"call": True, "other one": False},
    )


def test_data_from_outside_is_never_filled_in():
    job = spec(params={"x": ""})
    outside = template.escape({"x": "${env:TOKEN}"})
    assert parameters.validate_overrides(job, outside) == []
    assert parameters.resolve(outside, Scope(env={"TOKEN": "secret"})) == {"x": "${env:TOKEN}"}
