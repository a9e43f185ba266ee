"""The reference of alerts names every field, word and figure that the code has."""

import re
from pathlib import Path

import pytest

from nomaflow import alert_spec
from nomaflow.alert_spec import ChannelSpec
from nomaflow.alerts import deliver, facts
from nomaflow.alerts.facts import Event
from nomaflow.job.spec import AlertSpec
from nomaflow.store import missed
from nomaflow_scheduler import lateness, main, prune

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference/alerts.md").read_text(encoding="utf-8")


def section(heading):
    return re.search(rf"^#+ {heading}$(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def shown(field):
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return f"`{str(value).lower()}`" if isinstance(value, bool) else "-"


@pytest.mark.parametrize(
    ("heading", "model"), [("The job's block", AlertSpec), ("alerts.toml", ChannelSpec)]
)
def test_every_field_is_documented(heading, model):
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section(heading), re.MULTILINE))
    assert rows == {
        name: f"{shown(field)} | {field.description}" for name, field in model.model_fields.items()
    }


def test_every_word_of_a_template_is_documented():
    listed = re.findall(r"^\| `\$\{(\w+)\}` \|", section("Templates"), re.MULTILINE)
    assert tuple(listed) == alert_spec.WORDS


def test_the_object_of_a_webhook_is_documented():
    names = re.findall(r'^  "(\w+)":', section("What a channel receives"), re.MULTILINE)
    told = facts.RunFacts(
        run_id="x",
        job_name="j",
        app="a",
        tags=(),
        state="failed",
        triggered_by="cron",
        trigger="cron",
        started_at=None,
        finished_at=None,
    )
    assert names == list(told.payload(Event.FAILED))
    assert all(f"`{event.value}`" in PAGE for event in Event)


def test_every_kind_and_table_of_later_versions_is_named():
    later = (*alert_spec.LATER, *alert_spec.TABLES_LATER)
    assert [name for name in later if f"`{name}`" not in section("alerts.toml")] == []


def test_the_figures_are_those_of_the_code():
    figures = section("Delivery")
    assert f"within {deliver.ANSWER_SECONDS:g} seconds" in figures
    assert f"There are {deliver.TRIES} tries: {deliver.FIRST_WAIT_SECONDS:g} s" in figures
    assert f"up to {deliver.LONGEST_WAIT_SECONDS / 60:g} minutes" in figures
    assert f"{deliver.HOLD_SECONDS:g} s)" in figures
    waits = sum(deliver.wait_seconds(n) for n in range(1, deliver.TRIES))
    assert f"about {waits / 60:.0f} minutes" in figures
    assert f"every {main.WATCH_SECONDS:g} seconds" in section("The job's block")
    assert f"{facts.LONGEST_ERROR:,}".replace(",", " ") in PAGE
    time = (DOCS / "explanation/time.md").read_text(encoding="utf-8")
    assert f"**{lateness.GRACE.seconds} seconds** late" in time
    assert f"more than {missed.MOST_SINGLY:,}".replace(",", " ") in time
    assert f"a run named `{prune.JOB}`" in time
