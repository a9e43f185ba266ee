"""A run's events become what a person sees: lines, a picture, a verdict."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from rich.console import Console

from nomaflow.cli import timeline_view, words
from nomaflow.cli.follow import flat
from nomaflow.cli.timeline import Timeline

RUN = "0199c0de-7b3f-7c11-9d5e-0123456789ab"
START = datetime(2026, 11, 25, 1, 0, tzinfo=UTC)


def after(seconds):
    return words.instant(START + timedelta(seconds=seconds))


def run_changed(seconds, status, reason=None, error=None):
    run = {"startedAt": None, "finishedAt": None, "error": error}
    return {
        "__typename": "RunChanged",
        "cursor": "1",
        "at": after(seconds),
        "runId": RUN,
        "status": status,
        "reason": reason,
        "run": run,
    }


def step_changed(seconds, name, status, attempt=1, **facts):
    step_run = {"type": "sql_copy", "summary": "", "reason": None, "error": None} | facts
    return {
        "__typename": "StepChanged",
        "cursor": "2",
        "at": after(seconds),
        "runId": RUN,
        "step": name,
        "position": 0,
        "stepStatus": status,
        "attempt": attempt,
        "stepRun": step_run,
    }


def progressed(seconds, name, done, total=None, message=None):
    progress = {"done": str(done), "total": total and str(total), "unit": "rows"}
    return {
        "__typename": "StepProgressed",
        "cursor": "3",
        "at": after(seconds),
        "runId": RUN,
        "step": name,
        "progress": progress | {"message": message},
    }


def logged(seconds, message, step=None, level="INFO"):
    line = {"cursor": "4", "at": after(seconds), "level": level, "step": step, "message": message}
    return {
        "__typename": "LogsWritten",
        "cursor": "4",
        "at": after(seconds),
        "runId": RUN,
        "lines": [line],
    }


@pytest.fixture
def timeline():
    steps = [("copy-customers", "sql_copy"), ("copy-orders", "sql_copy"), ("notify-slack", "http")]
    return Timeline.of(
        {
            "id": RUN,
            "jobName": "reporting-nightly-sync",
            "triggeredBy": "cli:bob",
            "dryRun": False,
            "queuedAt": after(0),
            "steps": [
                {"position": i, "name": name, "type": kind} for i, (name, kind) in enumerate(steps)
            ],
        },
        stamp=words.instant,
    )


def seen(timeline, seconds, *, width=120, height=40):
    console = Console(width=width, markup=False, color_system=None, record=True, file=None)
    with console.capture() as captured:
        now = START + timedelta(seconds=seconds)
        console.print(timeline_view.draw(timeline, now, height=height))
    return captured.get()


def test_plain_lines_tell_each_event_with_its_moment(timeline):
    events = [
        run_changed(0.0, "QUEUED"),
        run_changed(0.1, "RUNNING"),
        step_changed(0.1, "copy-customers", "RUNNING"),
        logged(0.2, "reading public.customers", step="copy-customers"),
        step_changed(1.6, "copy-customers", "SUCCEEDED", summary="100 000 rows"),
        step_changed(1.6, "copy-orders", "RUNNING"),
        run_changed(3.1, "SUCCEEDED"),
    ]
    assert [line for event in events for line in timeline.hear(event)] == [
        "2026-11-25T01:00:00.000Z  run      queued",
        "2026-11-25T01:00:00.100Z  run      running",
        "2026-11-25T01:00:00.100Z  copy-customers  running",
        "2026-11-25T01:00:00.200Z  INFO     copy-customers: reading public.customers",
        "2026-11-25T01:00:01.600Z  copy-customers  succeeded · 1.5 s · 100 000 rows",
        "2026-11-25T01:00:01.600Z  copy-orders  running",
        "2026-11-25T01:00:03.100Z  run      succeeded · 3.0 s",
    ]
    assert timeline.is_over


def test_progress_is_said_at_most_every_five_seconds_of_the_run(timeline):
    timeline.hear(step_changed(0, "copy-orders", "RUNNING"))
    heard = [timeline.hear(progressed(n, "copy-orders", n * 1000, 12_000)) for n in range(12)]
    assert [bool(lines) for lines in heard] == [n % 5 == 0 for n in range(12)]
    assert "10 000 / 12 000 rows · 83 % · 1 000 rows/s" in heard[10][0]


def test_the_picture_shows_the_running_step_with_its_bar_and_speed(timeline):
    timeline.hear(run_changed(0, "RUNNING"))
    timeline.hear(step_changed(0, "copy-customers", "SUCCEEDED", summary="100 000 rows"))
    timeline.hear(step_changed(0, "copy-orders", "RUNNING"))
    timeline.hear(progressed(1, "copy-orders", 100_000, 500_000))
    timeline.hear(progressed(2, "copy-orders", 300_000, 500_000))
    timeline.hear(logged(2, "300000 rows so far", step="copy-orders"))
    picture = seen(timeline, 2.5)
    assert "reporting-nightly-sync" in picture
    assert "running  2.5 s" in picture
    assert "✓  copy-customers" in picture
    assert "300 000 / 500 000 rows · 60 % · 200 000 rows/s" in picture
    assert "━" in picture
    assert "·  notify-slack" in picture
    assert "INFO    copy-orders: 300000 rows so far" in picture


def test_a_failure_shows_its_attempt_its_error_and_what_was_passed_over(timeline):
    timeline.hear(run_changed(0, "RUNNING"))
    error = {"type": "StepError", "message": "relation gone\nsecond line"}
    retrying = step_changed(1, "copy-orders", "RETRYING", error=error)
    assert timeline.hear(retrying)[0].endswith("retrying · relation gone\nsecond line")
    timeline.hear(step_changed(61, "copy-orders", "RUNNING", attempt=2))
    timeline.hear(step_changed(62, "copy-orders", "FAILED", attempt=2, error=error))
    skipped = {"reason": "skipped: earlier step failed"}
    timeline.hear(step_changed(62, "notify-slack", "SKIPPED", attempt=0, **skipped))
    timeline.hear(run_changed(62, "FAILED", "step `copy-orders` failed", error))
    picture = seen(timeline, 63, height=None)
    assert "✗  copy-orders" in picture
    assert "attempt 2 · failed: relation gone" in picture
    assert "skipped: earlier step failed" in picture
    assert timeline_view.verdict(timeline).plain == (
        "reporting-nightly-sync failed after 1:02 min\ncopy-orders: relation gone\nsecond line"
    )


def test_an_abort_is_said_once(timeline):
    timeline.hear(step_changed(0, "copy-orders", "RUNNING"))
    timeline.hear(step_changed(3, "copy-orders", "ABORTED", reason="aborted by cli:bob"))
    timeline.hear(run_changed(3, "ABORTED", "aborted by cli:bob"))
    picture = seen(timeline, 3, height=None)
    assert picture.count("aborted by cli:bob") == 1
    assert "aborted: " not in picture


def test_a_retry_starts_its_clock_and_its_progress_anew(timeline):
    timeline.hear(step_changed(0, "copy-orders", "RUNNING"))
    timeline.hear(progressed(5, "copy-orders", 9, 10))
    timeline.hear(step_changed(6, "copy-orders", "RETRYING"))
    timeline.hear(step_changed(66, "copy-orders", "RUNNING", attempt=2))
    step = timeline.steps["copy-orders"]
    assert (step.progress, step.seconds(START + timedelta(seconds=67))) == (None, 1.0)


def test_many_steps_stay_within_the_window_around_the_running_one(timeline):
    timeline.steps.clear()
    for number in range(40):
        event = step_changed(number, f"step-{number:02}", "SUCCEEDED" if number < 25 else "PENDING")
        timeline.hear(event | {"position": number})
    picture = seen(timeline, 99, height=20)
    assert len(picture.splitlines()) <= 20
    assert "step-25" in picture
    assert "earlier steps" in picture
    assert "more steps" in picture


def test_a_log_line_with_brackets_is_shown_as_it_is(timeline):
    timeline.hear(logged(0, "[red]not markup[/] :smile: [/b]"))
    assert "[red]not markup[/] :smile: [/b]" in seen(timeline, 0)


def test_a_step_switched_off_before_the_run_is_known_from_the_plan():
    off = {"position": 0, "name": "get", "type": "http", "status": "SKIPPED"}
    run = {"id": RUN, "jobName": "asks", "triggeredBy": "api", "steps": [off | {"reason": "off"}]}
    assert "-  get" in seen(Timeline.of(run), 0)


def test_an_event_of_a_kind_from_the_future_is_passed_over(timeline):
    assert timeline.hear({"__typename": "SomethingNew", "at": after(0)}) == []


def test_a_step_that_was_not_in_the_plan_joins_it(timeline):
    timeline.hear(step_changed(0, "surprise", "RUNNING"))
    assert timeline.steps["surprise"].type == "sql_copy"


def test_ndjson_says_type_first_and_one_word_for_status():
    event = step_changed(0, "copy-orders", "RUNNING") | {"runId": "UnVuOjAx"}
    assert next(iter(flat(event))) == "type"
    assert flat(event)["status"] == "RUNNING"


def test_a_global_id_gives_its_uuid_and_anything_else_stays():
    import base64

    opaque = base64.urlsafe_b64encode(f"Run:{RUN}".encode()).decode().rstrip("=")
    assert words.run_id(opaque) == RUN
    assert words.run_id(RUN) == RUN
    assert words.run_id("reporting-nightly-sync") == "reporting-nightly-sync"
    assert words.is_run_id(opaque)
    assert words.is_run_id(str(UUID(RUN)))
    assert not words.is_run_id("nightly")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (125, "2:05 min"),
        (3725, "1:02:05 h"),
        (-1, "0.0 s"),
        (None, ""),
    ],
)
def test_durations_are_written_for_people(seconds, text):
    assert words.duration(seconds) == text
