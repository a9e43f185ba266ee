"""Who is told what of a run, and in which words."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from nomaflow.alert_spec import Channels, ChannelSpec, RouteSpec
from nomaflow.alerts import body, decide, facts
from nomaflow.alerts.facts import Event, RunFacts
from nomaflow.job.spec import AlertSpec

RUN = UUID("0198a8c4-0000-7000-8000-000000000001")
OPS = ChannelSpec(kind="slack", url="https://slack.example/T/B/x", default=True)
PAGER = ChannelSpec(kind="webhook", url="https://pager.example")
CHANNELS = Channels({"ops": OPS, "pager": PAGER})
FAILED = RunFacts(
    run_id=RUN,
    job_name="reporting-nightly-sync",
    app="reporting",
    tags=("etl",),
    state="failed",
    triggered_by="cron",
    trigger="cron",
    started_at=datetime(2026, 11, 22, 2, 0, tzinfo=UTC),
    finished_at=datetime(2026, 11, 22, 2, 3, 4, 500_000, tzinfo=UTC),
    failing_step="copy-orders",
    error='relation "orders" does not exist',
    url="http://127.0.0.1:8080/runs/x",
)


def test_a_failed_run_tells_the_default_channel_when_nobody_is_named():
    (message,) = decide.on_finish(AlertSpec(), FAILED, CHANNELS)
    assert (message.event, message.channel, message.recipient) == ("failed", "ops", "")
    assert message.job_name == "reporting-nightly-sync"
    assert message.payload == {
        "event": "failed",
        "job_id": "reporting-nightly-sync",
        "job_name": "reporting-nightly-sync",
        "app": "reporting",
        "tags": ["etl"],
        "run_id": str(RUN),
        "state": "failed",
        "triggered_by": "cron",
        "started_at": "2026-11-22T02:00:00.000Z",
        "finished_at": "2026-11-22T02:03:04.500Z",
        "step": "copy-orders",
        "error": 'relation "orders" does not exist',
        "url": "http://127.0.0.1:8080/runs/x",
    }


@pytest.mark.parametrize("state", ["succeeded", "partial", "aborted", "skipped"])
def test_other_endings_tell_nobody(state):
    assert decide.on_finish(AlertSpec(), replace(FAILED, state=state), CHANNELS) == []


def test_nobody_is_told_without_a_block_or_with_on_failure_off():
    assert decide.on_finish(None, FAILED, CHANNELS) == []
    assert decide.on_finish(AlertSpec(on_failure=False), FAILED, CHANNELS) == []
    assert decide.on_long_run(AlertSpec(), FAILED, CHANNELS, minutes=5) == []
    assert decide.on_long_run(None, FAILED, CHANNELS, minutes=5) == []


def test_a_long_run_says_how_long_and_what_the_limit_is():
    block = AlertSpec(on_long_run_minutes=90)
    running = replace(FAILED, state="running", finished_at=None, failing_step=None, error=None)
    (message,) = decide.on_long_run(block, running, CHANNELS, minutes=92)
    assert message.event == "long_run"
    assert message.payload["finished_at"] is None
    assert body.sentence(message.payload) == (
        "reporting-nightly-sync is still running after 92 minutes; its limit is 90"
    )


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        ([], [("ops", "")]),
        (["pager", "ops"], [("pager", ""), ("ops", "")]),
        (["ops", "ops", "#team", "#team"], [("ops", ""), ("ops", "#team")]),
        (["@ann"], [("ops", "@ann")]),
        (["a@b.c"], [("default", "a@b.c")]),
        (["nobody"], [("nobody", "")]),
    ],
)
def test_each_recipient_is_told_once(recipients, expected):
    assert decide.targets(recipients, CHANNELS, FAILED) == expected


def test_a_route_leads_where_nobody_is_named():
    routed = Channels(CHANNELS.by_name, (RouteSpec(tag="etl", channel="pager"),))
    assert decide.targets([], routed, FAILED) == [("pager", "")]
    assert decide.targets(["ops"], routed, FAILED) == [("ops", "")]
    assert decide.targets([], routed, replace(FAILED, tags=())) == [("ops", "")]


def test_an_outside_run_tells_by_its_job_or_by_a_route():
    routed = Channels(CHANNELS.by_name, (RouteSpec(job="outside-*", channel="pager"),))
    outside = replace(FAILED, job_name="outside-etl", app="", tags=())
    assert decide.on_outside(None, Event.FAILED, FAILED, routed) == []
    (message,) = decide.on_outside(None, Event.FAILED, outside, routed)
    assert (message.event, message.channel) == ("failed", "pager")
    (message,) = decide.on_outside(AlertSpec(), Event.STALE, FAILED, routed, minutes="90")
    assert (message.event, message.channel) == ("stale", "ops")
    assert body.sentence(message.payload) == (
        "reporting-nightly-sync gave no sign of life for 90 minutes"
    )
    (short,) = decide.on_outside(AlertSpec(), Event.STALE, FAILED, routed, minutes="0")
    assert body.sentence(short.payload).endswith(" gave no sign of life for less than a minute")


def test_without_channels_the_message_is_written_all_the_same():
    (message,) = decide.on_finish(AlertSpec(), FAILED, Channels())
    assert (message.channel, message.recipient) == ("default", "")
    assert decide.targets(["#team"], Channels(), FAILED) == [("default", "#team")]


def payload(**more):
    return {**FAILED.payload(Event.FAILED), **more}


def test_the_slack_message_names_job_step_error_and_link():
    message = json.loads(body.of(OPS, payload(), "#team").content)
    assert message["channel"] == "#team"
    assert message["username"] == "Nomaflow"
    assert message["text"].splitlines() == [
        ":x: *reporting-nightly-sync failed*",
        "Step: `copy-orders`",
        'Error: relation "orders" does not exist',
        "Triggered by cron, started 2026-11-22T02:00:00.000Z, finished 2026-11-22T02:03:04.500Z",
        f"<http://127.0.0.1:8080/runs/x|Run {RUN}>",
    ]
    assert "channel" not in json.loads(body.of(OPS, payload()).content)


def test_an_error_cannot_page_a_whole_slack_channel():
    text = json.loads(body.of(OPS, payload(error="<!channel> & <@U1>")).content)["text"]
    assert "Error: &lt;!channel&gt; &amp; &lt;@U1&gt;" in text


def test_a_webhook_gets_the_whole_object():
    sent = body.of(PAGER, payload())
    assert sent.content_type == "application/json"
    assert json.loads(sent.content) == payload()


def test_every_word_of_a_template_is_filled_in():
    text = "${job_name} ${run_id} ${state} ${error} ${started_at} ${url} ${step} ${triggered_by}"
    channel = OPS.model_copy(update={"template": text})
    assert json.loads(body.of(channel, payload(error="boom")).content)["text"] == (
        f"reporting-nightly-sync {RUN} failed boom 2026-11-22T02:00:00.000Z "
        "http://127.0.0.1:8080/runs/x copy-orders cron"
    )


def test_an_error_with_quotes_cannot_break_a_json_template():
    template = '{"summary": "${job_name}: ${error}", "tags": ["${app}"], "severity": 1}'
    channel = PAGER.model_copy(update={"template": template})
    sent = body.of(channel, payload())
    assert json.loads(sent.content) == {
        "summary": 'reporting-nightly-sync: relation "orders" does not exist',
        "tags": ["reporting"],
        "severity": 1,
    }
    plain = body.of(PAGER.model_copy(update={"template": "${job_name}!"}), payload())
    assert (plain.content, plain.content_type) == (
        b"reporting-nightly-sync!",
        "text/plain; charset=utf-8",
    )


def test_a_very_long_error_is_cut_and_says_so():
    long = replace(FAILED, error="x" * 10_000).payload(Event.FAILED)["error"]
    assert len(long) < facts.LONGEST_ERROR + 100
    assert long.endswith("(cut; the whole error is in the run's history)")


def test_the_link_leads_to_the_run_and_is_left_out_when_the_address_is_unknown():
    assert facts.run_url("http://host:8080/", RUN) == f"http://host:8080/runs/{RUN}"
    assert facts.run_url("", RUN) == ""
