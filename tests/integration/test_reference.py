"""The reference pages of jobs equal the code: every field, its default, every word."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from nomaflow.clock import calendar_words
from nomaflow.job import words
from nomaflow.job.spec import AlertSpec, DependencySpec, JobSpec, PresetSpec, ScheduleSpec, StepSpec
from nomaflow.language import expression, template
from nomaflow.language import functions as expression_functions
from nomaflow.project import schema
from nomaflow.project.folder import Project
from nomaflow.retry import RetryPolicy

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
JOBS = (REFERENCE / "jobs.md").read_text(encoding="utf-8")
SUBSTITUTIONS = (REFERENCE / "substitutions.md").read_text(encoding="utf-8")
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)

TABLES = [
    ("The job", JobSpec, {"schedule"}, set()),
    ("schedules", ScheduleSpec, {"every"}, {"every_seconds"}),
    ("depends_on", DependencySpec, set(), set()),
    ("retry", RetryPolicy, set(), set()),
    ("alerts", AlertSpec, set(), set()),
    ("presets", PresetSpec, set(), set()),
    ("steps", StepSpec, set(), {"config"}),
]  # fmt: skip


# What a schedule takes over from its job unless it says otherwise.
OF_THE_JOB = (
    "timezone",
    "catch_up",
    "catch_up_limit",
    "catch_up_window_minutes",
    "jitter_seconds",
    "calendar",
)


def section(page, heading):
    return re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[1]


def rows(page, heading):
    return {
        cells[1].strip(" `"): cells[3].strip()
        for line in section(page, heading).splitlines()
        if len(cells := line.split("|")) > 4 and cells[1].strip().startswith("`")
    }


@pytest.mark.parametrize(("heading", "model", "more", "less"), TABLES)
def test_every_field_of_the_models_is_in_the_page(heading, model, more, less):
    assert set(rows(JOBS, heading)) == (set(model.model_fields) | more) - less


def shown(field):
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    value = list(value) if isinstance(value, tuple) else value
    return f"`{json.dumps(value)}`"


@pytest.mark.parametrize(("heading", "model", "more", "less"), TABLES)
def test_every_default_is_right(heading, model, more, less):
    told = rows(JOBS, heading)
    in_words = {("steps", "on_interrupt"), *(("schedules", name) for name in OF_THE_JOB)}
    for name, field in model.model_fields.items():
        if name not in less and (heading, name) not in in_words:
            assert told[name] == shown(field), name


def test_every_other_spelling_is_in_the_page():
    for heading, aliases in (
        ("The job", {**words.JOB_ALIASES, "single_instance": "overlap"}),
        ("retry", words.RETRY_ALIASES),
        ("schedules", words.SCHEDULE_ALIASES),
        ("presets", {"op_kwargs": "kwargs", "step_enabled": "steps"}),
        ("steps", {"timeout": "timeout_seconds", "condition": "when"}),
    ):
        for alias in set(aliases) - {"every_seconds"}:
            assert f"`{alias}" in section(JOBS, heading), alias


def test_what_is_not_in_this_version_is_told():
    told = section(JOBS, "Not in this version")
    later = [key for table in words.NOT_YET.values() for key in table]
    for word in [*later, *words.NOT_YET_STEP_TYPES]:
        assert f"`{word}`" in told, word
    assert set(re.findall(r"`(\w+)`", told)) == {*later, *words.NOT_YET_STEP_TYPES}


@pytest.mark.parametrize("text", [*TOML.findall(JOBS), *TOML.findall(SUBSTITUTIONS)])
def test_every_example_loads_and_fits_the_schema(text, tmp_path):
    (tmp_path / "jobs.toml").write_text(text, encoding="utf-8")
    found = Project(tmp_path).read_jobs()
    assert [p.message for p in found.problems] == []
    assert found.jobs
    validator = Draft202012Validator(schema.json_schema())
    assert list(validator.iter_errors(tomllib.loads(text))) == []


def test_every_date_and_every_word_of_the_run_is_in_the_page():
    for word in calendar_words.WORDS:
        assert f"`${{{word}}}`" in SUBSTITUTIONS
    told = section(SUBSTITUTIONS, "Substitutions")
    for name in ("run_id", "job_name", "step", "attempt", "triggered_by", "scheduled_for"):
        assert f"`{name}`" in told or f":{name}}}`" in told
        template.check(f"${{ctx:{name}}}")


def test_every_token_of_the_page_is_known():
    for text in re.findall(r"`(\$\{[^`}]+\})`", section(SUBSTITUTIONS, "Substitutions")):
        if text not in {"${namespace:path}", "${...}"}:
            template.check(text)


def test_every_function_of_ours_is_in_the_page():
    ours = {
        name.removeprefix("_func_")
        for name in vars(expression_functions.Functions)
        if name.startswith("_func_")
    }
    for name in ours - {"join", "to_string"}:
        assert f"`{name}`" in SUBSTITUTIONS, name


CELLS = [
    cell.replace("\\|", "|")
    for line in section(SUBSTITUTIONS, "Expressions").splitlines()
    if line.startswith("| ") and len(parts := re.split(r"(?<!\\)\|", line)) == 4
    for cell in re.findall(r"(?<!`)(`{1,2})(?!`)(.+?)\1(?!`)", parts[2])
    for cell in [cell[1].strip()]
]


@pytest.mark.parametrize("text", CELLS)
def test_every_expression_of_the_table_is_one(text):
    expression.compile(text)


# --- the schema for editors


def tables(value, path=()):
    """Every `properties` of a schema, with its place."""
    if isinstance(value, dict):
        if isinstance(value.get("properties"), dict):
            yield path, value["properties"]
        for key, part in value.items():
            yield from tables(part, (*path, key))
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from tables(part, (*path, str(at)))


def test_every_field_of_the_schema_has_a_description():
    whole = schema.json_schema()
    Draft202012Validator.check_schema(whole)
    discriminators = {"type"}
    for path, properties in tables(whole):
        for name, field in properties.items():
            reference = field.get("$ref", "").removeprefix("#/$defs/")
            told = field.get("description") or whole["$defs"].get(reference, {}).get("description")
            assert told or (name in discriminators and "const" in field), (path, name)


STEPS = '[[jobs]]\nname = "x"\nsteps = [{ name = "a", type = "python", callable = "a:b" }]\n'


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (STEPS, True),
        (STEPS.replace("name", "id", 1), True),
        (STEPS + "retry = { max_attempts = 3 }", True),
        (STEPS + 'schedules = [{ name = "t", interval = "1h", payload = {} }]', True),
        (STEPS.replace(', callable = "a:b"', ", op_kwargs = {}, timeout = 5"), True),
        (STEPS.replace("python", "http").replace('callable = "a:b"', 'retry_count = "${n}"'), True),
        (STEPS.replace("callable", "calable"), False),
        (STEPS.replace("python", "pyton"), False),
        (STEPS + "tiemout = 1", False),
        ('[[jobs]]\nname = "x"\nsteps = []', False),
    ],
)
def test_the_schema_knows_right_from_wrong(text, fits):
    errors = list(Draft202012Validator(schema.json_schema()).iter_errors(tomllib.loads(text)))
    assert (errors == []) is fits
