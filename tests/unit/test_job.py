"""What a job may say: both vocabularies of the seeds, and a sentence for everything else."""

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow.job import words
from nomaflow.job.spec import JobSpec, SpecErrors

HOURLY = {
    "id": "github-releases-hourly",
    "description": "Hourly pull of GitHub releases into the releases table.",
    "tags": ["api-pull", "hourly", "github"],
    "enabled": True,
    "schedule": "15 * * * *",
    "timezone": "UTC",
    "params": {"repo": "fblettner/fblettner.github.io", "target_connector": "default"},
    "retry": {"attempts": 3, "backoff": "exponential", "base_seconds": 30},
    "alerts": {"on_failure": True, "on_long_run_minutes": 10, "recipients": []},
    "steps": [
        {
            "name": "fetch-releases",
            "type": "http",
            "url": "https://api.github.com/repos/${kw:repo}/releases?per_page=30",
            "method": "GET",
            "headers": {"Authorization": "Bearer ${env:GITHUB_TOKEN}"},
            "timeout": 60,
        },
        {
            "name": "upsert-releases",
            "type": "python",
            "callable": "releases.sync:upsert_releases",
            "op_kwargs": {},
            "timeout": 300,
        },
        {
            "name": "mark-synced",
            "type": "sql_query",
            "connector": "${kw:target_connector}",
            "query": "INSERT INTO sync_state (name, last_sync)\nVALUES ('github-releases', now())",
            "timeout": 30,
        },
    ],
}

BILLING = """
[[jobs]]
name = "billing-nightly-rebuild"
app = "billing"
schedule = "0 2 * * *" # cron: every day at 02:00
timezone = "Europe/Paris"
enabled = true

[jobs.retry]
max_attempts = 3
backoff = "exponential"
initial_delay_seconds = 60

[[jobs.steps]]
name = "refresh-totals"
type = "sql_query"
connector = "billing"
query = "refresh-totals:write"

[[jobs.steps]]
name = "rebuild-vat"
type = "python"
callable = "billing.invoicing:rebuild_vat"
kwargs = { period = "${month.previous}" }
"""


def job(**fields):
    """A small job that is right, with some fields of one's own."""
    step = {"name": "call", "type": "python", "callable": "pkg.mod:func"}
    return {"name": "nightly", "steps": [step], **fields}


def step(**fields):
    return {"name": "call", "type": "python", "callable": "pkg.mod:func", **fields}


def said(raw, **options):
    """The problems of a job that is wrong: path, and the sentence."""
    with pytest.raises(SpecErrors) as refused:
        JobSpec.parse(raw, **options)
    assert all(problem.message for problem in refused.value.problems)
    return {problem.path: problem.message for problem in refused.value.problems}


# --- J01, J02: what the seeds write, loads


def test_the_hourly_recipe_loads():
    spec = JobSpec.parse(HOURLY)
    assert (spec.name, spec.app, spec.timezone) == ("github-releases-hourly", "_default", "UTC")
    [clock] = spec.schedules
    assert (clock.name, clock.cron, clock.timezone) == ("default", "15 * * * *", "UTC")
    assert [s.timeout_seconds for s in spec.steps] == [60, 300, 30]
    assert [s.type for s in spec.steps] == ["http", "python", "sql_query"]
    assert spec.steps[0].config["url"].startswith("https://api.github.com/repos/${kw:repo}")
    assert spec.retry_for(spec.steps[0]).attempts == 3
    assert spec.alerts.on_long_run_minutes == 10
    assert spec.needs_parameters


@pytest.mark.parametrize(
    "more",
    [
        {"url": "HTTPS://h/x?q=1"},
        {"url": "http://[::1]:8080/"},
        {"url": "/items", "connector": "api"},
        {"url": "", "connector": "api"},
        {"url": "/items", "connector": "${kw:api}"},
        {"url": "${env:BASE}/items"},
        {"url": "ftp${env:REST}"},
        {"url": "http://[${kw:host}"},
    ],
)
def test_urls_that_might_be_sent_are_not_judged(more):
    JobSpec.parse({"name": "j", "steps": [{"name": "get", "type": "http", **more}]})


def test_the_canonical_form_is_what_was_written():
    canonical = JobSpec.parse(HOURLY).canonical()
    expected = json.loads(json.dumps(HOURLY))
    expected["name"], expected["app"] = expected.pop("id"), "_default"
    expected["alerts"].pop("recipients")
    for one in expected["steps"]:
        one["timeout_seconds"] = one.pop("timeout")
    expected["steps"][1]["kwargs"] = expected["steps"][1].pop("op_kwargs")
    assert canonical == expected


def test_the_second_vocabulary_loads_as_the_first():
    raw = tomllib.loads(BILLING)["jobs"][0]
    first = {**raw, "id": raw["name"]}
    del first["name"]
    first["retry"] = {"attempts": 3, "backoff": "exponential", "base_seconds": 60}
    second, third = dict(raw["steps"][0]), dict(raw["steps"][1])
    third["op_kwargs"] = third.pop("kwargs")
    first["steps"] = [second, third]
    assert JobSpec.parse(raw) == JobSpec.parse(first)
    assert JobSpec.parse(raw).steps[1].kwargs == {"period": "${month.previous}"}


def test_parameter_rows_become_params_and_their_schema():
    rows = [
        {"name": "day", "type": "date", "default": "2026-01-01", "description": "Which day"},
        {"name": "limit", "type": "int", "required": True},
        {"name": "dry", "type": "bool", "default": False},
    ]
    spec = JobSpec.parse(job(params=rows))
    assert spec.params == {"day": "2026-01-01", "dry": False}
    assert spec.param_schema == {
        "type": "object",
        "properties": {
            "day": {"type": "string", "format": "date", "description": "Which day"},
            "limit": {"type": "integer"},
            "dry": {"type": "boolean"},
        },
        "required": ["limit"],
    }


@pytest.mark.parametrize(
    ("written", "field", "value"),
    [
        ({"single_instance": True}, "overlap", "skip"),
        ({"single_instance": False}, "overlap", "allow"),
        ({"overlap": "ALLOW"}, "overlap", "allow"),
        ({"log_level": "debug"}, "log_level", "DEBUG"),
        ({"description": None}, "description", ""),
        ({"timeout_seconds": 90}, "timeout_seconds", 90),
        ({"priority": -5, "worker": "gpu"}, "worker", "gpu"),
    ],
)
def test_other_spellings(written, field, value):
    assert getattr(JobSpec.parse(job(**written)), field) == value


def test_the_ticker_of_seed_003():
    clock = {
        "name": "ticker",
        "interval": "1h",
        "emitOnStart": False,
        "maxEmissions": 3,
        "payload": {"syncType": "full", "startTime": None},
    }
    [spec] = JobSpec.parse(job(schedules=[clock])).schedules
    assert (spec.every_seconds, spec.fire_on_start, spec.max_fires) == (3600, False, 3)
    assert spec.params == {"syncType": "full", "startTime": None}


def test_schedules_take_the_jobs_zone():
    raw = job(
        schedule="0 2 * * *",
        timezone="Europe/Paris",
        schedules=[
            {"name": "a", "cron": "0 3 * * *"},
            {"name": "b", "every_seconds": 90, "timezone": "UTC", "enabled": False},
        ],
    )
    spec = JobSpec.parse(raw)
    assert [(s.name, s.timezone) for s in spec.schedules] == [
        ("default", "Europe/Paris"),
        ("a", "Europe/Paris"),
        ("b", "UTC"),
    ]
    assert spec.schedules[2].every_seconds == 90


def test_the_installation_may_set_the_zone():
    spec = JobSpec.parse(job(schedule="0 2 * * *"), timezone="Asia/Tokyo")
    assert spec.timezone == spec.schedules[0].timezone == "Asia/Tokyo"


def test_a_step_may_come_with_its_config_apart():
    apart = {"name": "call", "type": "python", "config": {"callable": "pkg.mod:func"}}
    assert JobSpec.parse(job(steps=[apart])) == JobSpec.parse(job())


def test_dates_of_toml_become_text():
    raw = tomllib.loads("params = { day = 2026-01-02, at = 2026-01-02T03:04:05Z }")
    spec = JobSpec.parse(job(**raw))
    assert spec.params == {"day": "2026-01-02", "at": "2026-01-02T03:04:05+00:00"}


# --- canonical and TOML forms come back equal

FULL = {
    "name": "full",
    "app": "reporting",
    "description": 'Two lines\nand "quotes"',
    "tags": ["etl"],
    "enabled": False,
    "schedule": "0 2 * * *",
    "timezone": "Europe/Paris",
    "schedules": [
        {"name": "hourly", "every": "1h", "params": {"syncType": "incremental"}},
        {"name": "tokyo", "cron": "0 0 * * * 30", "timezone": "Asia/Tokyo", "enabled": False},
        {"name": "utc", "every": "90s", "timezone": "UTC", "fire_on_start": True, "max_fires": 3},
    ],
    "overlap": "allow",
    "worker": "gpu",
    "priority": 7,
    "timeout_seconds": 60.5,
    "log_level": "DEBUG",
    "params": {"a": 1, "b": [1, {"c": None}], "d": {"e.f": "x"}},
    "param_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "retry": {"attempts": 3, "no_retry_statuses": [401], "retry_on": ["timeout"]},
    "alerts": {"on_failure": False, "recipients": ["ops", "#chan"]},
    "presets": [
        {
            "name": "sandbox",
            "params": {"a": 2},
            "kwargs": {"call it": {"x": 1}},
            "steps": {"notify": False},
            "log_level": "WARNING",
        }
    ],
    "steps": [
        {
            "name": "call it",
            "type": "python",
            "callable": "pkg.mod:func",
            "kwargs": {"x": [1, 2], "day": "${today}"},
            "retry": {"attempts": 1},
            "timeout_seconds": 5,
            "continue_on_error": True,
            "on_interrupt": "fail",
        },
        {
            "name": "notify",
            "type": "http",
            "url": "${env:HOOK}",
            "method": "POST",
            "body": {"text": "✅ done", "none": None},
            "when": 'steps."call it".output.rows > `0`',
            "enabled": False,
        },
    ],
}


@pytest.mark.parametrize("raw", [HOURLY, FULL, tomllib.loads(BILLING)["jobs"][0], job()])
def test_the_canonical_form_parses_back_equal(raw):
    spec = JobSpec.parse(raw)
    canonical = spec.canonical()
    assert JobSpec.parse(canonical) == spec
    assert JobSpec.parse(canonical).canonical() == canonical
    assert json.loads(json.dumps(canonical)) == canonical


def test_the_toml_form_parses_back_equal():
    raw = json.loads(json.dumps(FULL))
    raw["params"]["b"] = [1, {"c": 2}]
    raw["steps"][1]["body"].pop("none")
    spec = JobSpec.parse(raw)
    text = spec.to_toml()
    assert JobSpec.parse(tomllib.loads(text)["jobs"][0]) == spec
    assert text.startswith('[[jobs]]\nname = "full"\n')
    assert 'every = "1h"' in text


def test_toml_leaves_out_what_it_cannot_say():
    assert "none" not in JobSpec.parse(FULL).to_toml()


def test_a_kept_definition_comes_back_even_where_the_rules_became_stricter():
    spec = JobSpec.parse(FULL)
    assert JobSpec.restore(spec.canonical()) == spec
    kept = {**spec.canonical(), "timezone": "Europe/Nowhere", "schedule": "0 25 * * *"}
    assert JobSpec.restore(kept).timezone == "Europe/Nowhere"


def test_a_steps_policy_lies_over_the_jobs():
    spec = JobSpec.parse(
        job(
            retry={"attempts": 3, "backoff": "exponential", "base_seconds": 30},
            steps=[step(), step(name="b", retry={"attempts": 5}), step(name="c", retry={})],
        )
    )
    policies = [spec.retry_for(s) for s in JobSpec.parse(spec.canonical()).steps]
    assert [(p.attempts, p.backoff, p.base_seconds) for p in policies] == [
        (3, "exponential", 30),
        (5, "exponential", 30),
        (3, "exponential", 30),
    ]
    assert JobSpec.parse(job()).retry_for(JobSpec.parse(job()).steps[0]).attempts == 1


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, False),
        ({"params": {"a": 1}}, True),
        ({"steps": [step(kwargs={"a": 1})]}, True),
        ({"steps": [step(), step(name="b")]}, True),
    ],
)
def test_when_a_form_is_worth_showing(fields, needs):
    assert JobSpec.parse(job(**fields)).needs_parameters is needs


# --- step_defaults


def test_step_defaults_lie_under_the_steps_that_have_the_field():
    defaults = {
        "timeout": 90,
        "source": {"connector": "ops", "schema": "public"},
        "target": {"connector": "rep"},
        "headers": {"A": "1", "B": "2"},
        "retry": {"max_attempts": 2},
    }
    copy = {"type": "sql_copy", "target": {"table": "t"}}
    spec = JobSpec.parse(
        job(
            steps=[
                {"name": "a", "source": {"table": "t"}, **copy},
                {"name": "b", "source": {"table": "u", "schema": "x"}, "timeout": 5, **copy},
                {"name": "c", "type": "http", "url": "http://h/", "headers": {"B": "3"}},
                step(name="d", retry={"base_seconds": 1}),
            ]
        ),
        step_defaults=defaults,
    )
    a, b, c, d = spec.steps
    assert a.config["source"] == {"connector": "ops", "schema": "public", "table": "t"}
    assert b.config["source"] == {"connector": "ops", "schema": "x", "table": "u"}
    assert (a.timeout_seconds, b.timeout_seconds, d.timeout_seconds) == (90, 5, 90)
    assert c.config["headers"] == {"A": "1", "B": "3"}
    assert (spec.retry_for(d).attempts, spec.retry_for(d).base_seconds) == (2, 1)
    assert "source" not in c.config
    assert JobSpec.parse(spec.canonical()) == spec


def test_a_default_that_no_step_type_knows():
    found = said(job(), step_defaults={"conector": "x", "name": "y"})
    assert "did you mean `connector`?" in found["step_defaults", "conector"]
    assert ("step_defaults", "name") in found


# --- what is refused (J03-J10, SEC-*)

HTTP = {"name": "call", "type": "http", "url": "http://h/"}
SQL = {"name": "call", "type": "sql_query", "connector": "c", "query": "select 1"}

WRONG = [
    # name and other words
    ({"name": "a.b"}, ("name",), "must be 1 to 128 letters, digits, `-` or `_`"),
    ({"worker": "_system"}, ("worker",), "`_system` is reserved"),
    ({"name": "a b"}, ("name",), "must be 1 to 128"),
    ({"name": ""}, ("name",), "must"),
    ({"name": "x" * 129}, ("name",), "must be 1 to 128"),
    ({"name": "n\u202egnp"}, ("name",), "n\\u202egnp"),
    ({"name": "\u0430bc"}, ("name",), "\\u0430"),
    ({"name": 5}, ("name",), "`name` must be text, not 5"),
    ({"app": "../x"}, ("app",), "must be 1 to 128"),
    ({"tags": ["a", "b\u200b"]}, ("tags", "1"), "invisible control characters"),
    ({"description": "x\x1b[0m"}, ("description",), "invisible control characters"),
    ({"description": "a\0b"}, ("description",), "may not hold NUL"),
    ({"tags": "etl"}, ("tags",), '`tags` must be a list, not "etl"'),
    # unknown fields
    ({"tiemout_seconds": 1}, ("tiemout_seconds",), "did you mean `timeout_seconds`?"),
    ({"retry": {"attemps": 2}}, ("retry", "attemps"), "did you mean `attempts`?"),
    ({"alerts": {"on_failur": True}}, ("alerts", "on_failur"), "did you mean `on_failure`?"),
    ({"schedules": [{"name": "a", "every": "1h", "evry": 1}]}, ("schedules", "0", "evry"), "every"),
    ({"presets": [{"name": "a", "parms": {}}]}, ("presets", "0", "parms"), "params"),
    ({"steps": [step(kwarg={})]}, ("steps", "0", "kwarg"), "did you mean `kwargs`?"),
    ({"steps": [step(timeout_secs=1)]}, ("steps", "0", "timeout_secs"), "`timeout_seconds`?"),
    # types and bounds
    ({"enabled": "yes"}, ("enabled",), 'must be true or false, not "yes"'),
    ({"enabled": 1}, ("enabled",), "must be true or false, not 1"),
    ({"timeout_seconds": 0}, ("timeout_seconds",), "at least 0.1"),
    ({"timeout_seconds": 1e9}, ("timeout_seconds",), "at most 2592000"),
    ({"timeout_seconds": float("nan")}, ("timeout_seconds",), "nan"),
    ({"timeout_seconds": float("inf")}, ("timeout_seconds",), "infinite"),
    ({"priority": 2**70}, ("priority",), "64 bits"),
    ({"retry": {"max_attempts": 0}}, ("retry", "max_attempts"), "must be at least 1"),
    ({"retry": 3}, ("retry",), "`retry` must be a table, not 3"),
    ({"retry": {"retry_on": ["all"]}}, ("retry", "retry_on", "0"), "must be one of error, timeout"),
    ({"log_level": "LOUD"}, ("log_level",), "must be one of DEBUG, INFO, WARNING or ERROR"),
    ({"overlap": "sometimes"}, ("overlap",), "`overlap` must be one of skip, "),
    ({"params": "x"}, ("params",), "must be a table"),
    # clocks
    ({"schedule": "0 25 * * *"}, ("schedule",), "hour `25` must be 0 to 23 (column 3)"),
    ({"schedule": 5}, ("schedule",), "must be text"),
    ({"schedule": "30 2 30 2 *"}, ("schedule",), "no date ever matches"),
    ({"timezone": "Europe/Pari"}, ("timezone",), "did you mean `Europe/Paris`?"),
    ({"timezone": "../../etc/passwd"}, ("timezone",), "unknown timezone"),
    ({"schedules": [{"name": "a"}]}, ("schedules", "0"), "needs either `cron` or `every`"),
    (
        {"schedules": [{"name": "a", "cron": "* * * * *", "every": "1h"}]},
        ("schedules", "0"),
        "needs either",
    ),
    ({"schedules": [{"name": "a", "interval": "0s"}]}, ("schedules", "0", "interval"), "between"),
    ({"schedules": [{"name": "a", "every": True}]}, ("schedules", "0", "every"), "invalid"),
    (
        {"schedule": "@daily", "schedules": [{"name": "a", "cron": "x"}]},
        ("schedules", "0", "cron"),
        "invalid cron",
    ),
    (
        {"schedule": "@daily", "schedules": [{"name": "default", "every": "1h"}]},
        ("schedules", "0", "name"),
        "two schedules `default`",
    ),
    # steps
    ({"steps": []}, ("steps",), "at least 1"),
    ({"steps": [step(), step()]}, ("steps", "1", "name"), "two steps `call`: number 1 and"),
    ({"steps": [{"type": "python"}]}, ("steps", "0", "name"), "`name` is missing"),
    ({"steps": [7]}, ("steps", "0"), "must be a table, not 7"),
    ({"steps": [{"name": "call"}]}, ("steps", "0", "type"), "`type` is missing"),
    ({"steps": [step(name=".x")]}, ("steps", "0", "name"), "the step name `.x`"),
    ({"steps": [step(name="x ")]}, ("steps", "0", "name"), "the step name"),
    ({"steps": [step(name="a\u200bb")]}, ("steps", "0", "name"), "a\\u200bb"),
    ({"steps": [step(type="pyton")]}, ("steps", "0", "type"), "did you mean `python`?"),
    ({"steps": [{"name": "x", "type": "http"}]}, ("steps", "0", "url"), "step `x` needs `url`"),
    ({"steps": [{**HTTP, "method": "FETCH"}]}, ("steps", "0", "method"), "step `call`: `method`"),
    (
        {"steps": [{"name": "c", "type": "sql_copy", "source": {"table": "t"}}]},
        ("steps", "0", "target"),
        "step `c` needs `target`",
    ),
    (
        {"steps": [{**HTTP, "auth": {"type": "bearer"}}]},
        ("steps", "0", "auth", "token"),
        "needs `auth.token`",
    ),
    ({"steps": [step(timeout="5")]}, ("steps", "0", "timeout"), "step `call`: `timeout` must be"),
    ({"steps": [step(retry={"tries": 1})]}, ("steps", "0", "retry", "tries"), "no field `tries`"),
    ({"steps": [step(on_interrupt="ask")]}, ("steps", "0", "on_interrupt"), "retry or fail"),
    # python callables (SEC-P02)
    *[
        ({"steps": [step(callable=bad)]}, ("steps", "0", "callable"), "module.path:function")
        for bad in (
            "os.system", "mod:", ":f", "..mod:f", "a.b:c.d", "pkg.mod:obj.__class__.__mro__",
            "../x:f", "a b:c", "\u0430:f",
        )
    ],
    ({"steps": [step(callable="a:" + "b" * 10_000)]}, ("steps", "0", "callable"), "at most 255"),
    # substitutions
    ({"steps": [step(kwargs={"a": ["${foo:x}"]})]}, ("steps", "0", "kwargs", "a", "0"), "unknown"),
    ({"steps": [{**HTTP, "url": "${env:${env:X}}"}]}, ("steps", "0", "url"), "another token"),
    ({"steps": [{**HTTP, "condition": "1"}]}, ("steps", "0", "condition"), "between backticks"),
    ({"steps": [step(op_kwargs={"a": "${"})]}, ("steps", "0", "op_kwargs", "a"), "closing"),
    ({"steps": [{**SQL, "query": "select ${kw:x}"}]}, ("steps", "0", "query"), "bind the value"),
    ({"params": {"a": "${secret:x}"}}, ("params",), "belongs to connectors"),
    ({"params": {"a": "${nope:x}"}}, ("params", "a"), "unknown token"),
    ({"steps": [step(kwargs={"a": "${out:x.y}"})]}, ("steps", "0", "kwargs"), "no step before it"),
    ({"steps": [step(kwargs={"a": "${previous_step.y}"})]}, ("steps", "0", "kwargs"), "first step"),
    (
        {"steps": [step(name="a"), step(name="b", when="steps.c.output")]},
        ("steps", "1", "when"),
        "step `b` reads the output of `c`",
    ),
    ({"steps": [step(when="stepz.a")]}, ("steps", "0", "when"), "`stepz` is not known here"),
    ({"steps": [step(when="length(a")]}, ("steps", "0", "when"), "it ends too early (column 9)"),
    # parameters and their schema
    (
        {"param_schema": {"properties": {"a": {"type": "int"}}}},
        ("param_schema", "properties", "a", "type"),
        "not a JSON Schema",
    ),
    ({"param_schema": {"type": "array"}}, ("param_schema", "type"), "type object"),
    ({"param_schema": {"$ref": "http://x/"}}, ("param_schema", "$ref"), "not supported"),
    (
        {"param_schema": {"properties": {"a": {"pattern": "(a+)+$"}}}},
        ("param_schema", "properties", "a", "pattern"),
        "list the allowed values with `enum`",
    ),
    (
        {"params": {"a": "x"}, "param_schema": {"properties": {"a": {"type": "integer"}}}},
        ("params", "a"),
        'must be a whole number, not "x"',
    ),
    ({"params": [{"name": "a", "type": "integer"}]}, ("params", "0", "type"), "one of string"),
    ({"params": [{"name": "a"}, {"name": "a"}]}, ("params", "1", "name"), "two parameters `a`"),
    ({"params": [{"name": "a", "type": "int", "default": "x"}]}, ("params", "0", "default"), "a"),
    ({"params": ["a"]}, ("params", "0"), "needs a `name`"),
    (
        {"params": {"a": 1}, "schedules": [{"name": "s", "every": "1h", "params": {"a": "x"}}]},
        ("schedules", "0", "params", "a"),
        "schedule `s`: `a` must be a number",
    ),
    (
        {"param_schema": {"required": ["day"]}, "schedule": "@daily"},
        ("schedule",),
        "schedule `default`: it gives no value, and parameter `day` is required",
    ),
    # URLs that nothing could be sent to
    *[
        ({"steps": [{"name": "get", "type": "http", **more}]}, ("steps", "0", "url"), why)
        for more, why in (
            ({"url": "ftp://h/x"}, "step `get`: `url`: the scheme 'ftp' is never sent"),
            ({"url": "ftp://h/x", "connector": "api"}, "the scheme 'ftp' is never sent"),
            ({"url": "localhost:8080/x"}, "the scheme 'localhost' is never sent"),
            ({"url": "/items"}, "is not absolute; begin it with https:// or name a connector"),
            ({"url": "http://[::1"}, "the URL cannot be read: Invalid port"),
            ({"url": "http:///x"}, "names no host"),
            ({"url": "http://h:99999/"}, "port 99999 is not from 1 to 65535"),
        )
    ],
    # presets
    (
        {"params": {"a": 1}, "presets": [{"name": "p", "params": {"a": []}}]},
        ("presets", "0", "params", "a"),
        "preset `p`: `a` must be a number",
    ),
    ({"presets": [{"name": "p", "steps": {"cal": True}}]}, ("presets", "0", "steps", "cal"), "cal"),
    (
        {"presets": [{"name": "p", "op_kwargs": {"x": {}}}]},
        ("presets", "0", "op_kwargs", "x"),
        "no step `x`",
    ),
    (
        {
            "steps": [{"name": "get", "type": "http", "url": "http://h/"}],
            "presets": [{"name": "p", "op_kwargs": {"get": {"metod": "POST"}}}],
        },
        ("presets", "0", "op_kwargs", "get", "metod"),
        "preset `p`: step `get`: an http step has no kwarg `metod`; did you mean `method`?",
    ),
    # said twice
    ({"id": "x"}, ("id",), "`name` and `id` are the same field; keep one"),
    ({"overlap": "skip", "single_instance": True}, ("single_instance",), "same field"),
    (
        {"retry": {"attempts": 1, "max_attempts": 1}},
        ("retry", "max_attempts"),
        "same field; keep one",
    ),
    ({"steps": [step(kwargs={}, op_kwargs={})]}, ("steps", "0", "op_kwargs"), "same field"),
    (
        {"steps": [{"name": "c", "type": "http", "config": {"url": "http://x", "name": "y"}}]},
        ("steps", "0", "config", "name"),
        "does not belong into `config`",
    ),
    # clocks that catch up, wait, and belong to presets
    ({"catch_up": "some"}, ("catch_up",), "must be one of none, last or all"),
    ({"catch_up_limit": 0}, ("catch_up_limit",), "must be at least 1"),
    ({"catch_up_limit": 1001}, ("catch_up_limit",), "must be at most 1000"),
    ({"catch_up_window_minutes": 0}, ("catch_up_window_minutes",), "must be more than 0"),
    ({"jitter_seconds": -1}, ("jitter_seconds",), "must be at least 0"),
    ({"jitter_seconds": 3601}, ("jitter_seconds",), "must be at most 3600"),
    ({"calendar": 5}, ("calendar",), "must be text"),
    ({"install_step": "first"}, ("install_step",), "must be a whole number"),
    ({"depends_on": "x"}, ("depends_on",), "must be a list"),
    ({"depends_on": [5]}, ("depends_on", "0"), "must be a table"),
    ({"dependencies": ["a b"]}, ("dependencies", "0"), "1 to 128 letters"),
    ({"depends_on": ["x", "x"]}, ("depends_on", "1"), "named twice"),
    ({"depends_on": [{"job": "x", "of": 1}]}, ("depends_on", "0", "of"), "there is no field `of`"),
    ({"depends_on": [{"job": "x", "by": "9"}]}, ("depends_on", "0", "by"), "time of day such as"),
    (
        {"depends_on": [{"job": "x", "since": "noon"}]},
        ("depends_on", "0", "since"),
        "must be `today` or a time such as `24h`",
    ),
    ({"depends_on": ["x", "x"], "dependencies": []}, ("dependencies",), "same field; keep one"),
    (
        {
            "schedules": [{"name": "a", "every": "1h", "preset": "lage"}],
            "presets": [{"name": "large"}],
        },
        ("schedules", "0", "preset"),
        "there is no preset `lage`; did you mean `large`?",
    ),
    ({"presets": [{"name": "a", "schedule": "x"}]}, ("presets", "0", "schedule"), "invalid cron"),
    (
        {"presets": [{"name": "a", "schedule": "@daily", "timezone": "Mars"}]},
        ("presets", "0", "timezone"),
        "unknown timezone",
    ),
    (
        {
            "schedules": [{"name": "a", "every": "1h"}],
            "presets": [{"name": "a", "schedule": "@daily"}],
        },
        ("presets", "0", "name"),
        "there is a schedule of the same name",
    ),
    # of a later version
    *[
        ({"alerts": {key: "wanted"}}, ("alerts", key), f"`{key}` is not available")
        for key in words.NOT_YET["alerts"]
    ],
    *[
        ({"steps": [{"name": "x", "type": kind}]}, ("steps", "0", "type"), f"`{kind}` is not")
        for kind in words.NOT_YET_STEP_TYPES
    ],
]  # fmt: skip


@pytest.mark.parametrize(("fields", "path", "why"), WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_what_is_wrong_is_said_at_its_place(fields, path, why):
    found = said(job(**fields))
    assert path in found, found
    assert why in found[path]
    assert len(found[path]) < 500


def test_everything_wrong_is_found_at_once():
    raw = job(name="a b", schedule="x", overlap="no", steps=[step(callable="x"), {**HTTP, "a": 1}])
    paths = {
        ("name",),
        ("schedule",),
        ("overlap",),
        ("steps", "0", "callable"),
        ("steps", "1", "a"),
    }
    assert paths <= set(said(raw))


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        (table, key, value)
        for table, rows in words.NOT_YET.items()
        for key, harmless in rows.items()
        for value in (*harmless, None)
    ],
)
def test_later_fields_that_ask_for_nothing_load(table, key, value):
    clock, preset = {"name": "a", "every": "1h"}, {"name": "a"}
    tables = {"schedule": clock, "preset": preset, "alerts": {}}
    whole = {"schedules": [clock], "presets": [preset], "alerts": tables["alerts"]}
    plain = JobSpec.parse(job(**whole))
    tables.get(table, whole)[key] = value
    assert JobSpec.parse(job(**whole)) == plain


@pytest.mark.parametrize("raw", [None, 5, "x", [], [{}], {"a": b"x"}, {1: 2}])
def test_what_is_no_job_at_all(raw):
    assert said(raw)


def test_ten_thousand_levels():
    value = "x"
    for _ in range(10_000):
        value = [value]
    [message] = said(job(params={"a": value})).values()
    assert "nested deeper" in message


def test_too_many_and_too_large():
    assert "at most 200" in said(job(steps=[step(name=f"s{n}") for n in range(201)]))["steps",]
    assert "larger than 256 KB" in said(job(description="x", params={"a": "x" * 300_000}))[()]


def test_ten_thousand_steps_are_refused_quickly():
    assert said(job(steps=[step(name=f"s{n}") for n in range(10_000)]))


def test_a_wrong_step_is_not_also_a_missing_one():
    assert len(said(job(steps=[step(timeout_seconds=-5)]))) == 1
    assert "at least 1 entry" in str(said(job(steps=[])))


def test_the_place_is_named_in_the_error():
    with pytest.raises(SpecErrors, match=r"^jobs\.toml: there is no field `x`"):
        JobSpec.parse(job(x=1), where="jobs.toml")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab${}:.", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "type", "steps", "params", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
fields = st.sampled_from(
    ["id", "app", "tags", "schedule", "schedules", "params", "retry", "alerts", "presets", "steps"]
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(fields, json_values, max_size=4))
def test_any_json_is_a_job_or_refused(raw):
    try:
        spec = JobSpec.parse({**job(), **raw})
    except SpecErrors:
        return
    assert JobSpec.parse(spec.canonical()) == spec
