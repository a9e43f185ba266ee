"""The command line as people and scripts use it, against three real programs."""

import contextlib
import getpass
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nomaflow.cli.timeline import FINAL

NOMAFLOW = Path(sys.executable).with_name("nomaflow")
STATES = """query ($id: ID!) { run(id: $id) { status triggeredBy params dryRun logLevel } }"""


@pytest.fixture(scope="module")
def up(start, work_project):
    installation = start(work_project)
    made = installation.cli("job", "run", "notes-table", "--follow")
    assert made.returncode == 0, made.stderr
    return installation


def lines_of(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def started(up, *words):
    """Start a run without following it; gives its id."""
    done = up.cli("job", "run", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["id"]


def environment(up):
    named = {"NOMAFLOW_URL": up.state.url, "NOMAFLOW_TOKEN": up.state.admin_token}
    return os.environ | named


def following(up, *words):
    return subprocess.Popen(
        [NOMAFLOW, *words],
        env=environment(up),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C; a person's does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def test_each_verb_ends_with_0_and_prints_json(up):
    run = started(up, "quick")
    assert up.cli("logs", "--follow", run).returncode == 0
    for words in (
        ("job", "list"),
        ("job", "list", "--app", "_default", "--search", "quick"),
        ("job", "history", "quick"),
        ("job", "history", "quick", "--limit", "1", "--status", "succeeded"),
    ):
        done = up.cli(*words, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout), words
    assert run in {
        each["id"] for each in json.loads(up.cli("job", "history", "quick", "--json").stdout)
    }
    assert {line["level"] for line in lines_of(up.cli("logs", run, "--json"))} == {"INFO"}


def test_the_list_tells_of_every_job_and_nothing_is_cut(up):
    done = up.cli("job", "list")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split() == [
        "JOB",
        "SCHEDULE",
        "NEXT",
        "LAST",
        "RUN",
        "STEPS",
        "TAGS",
    ]
    assert "other-sleeper" in done.stdout
    assert "…" not in done.stdout
    assert "\x1b" not in done.stdout


async def test_a_followed_run_tells_its_steps_and_ends_with_its_status(up):
    done = up.cli("job", "run", "quick", "--follow")
    assert done.returncode == 0, done.stderr
    told = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()]
    assert told[0].split() == ["run", "queued"]
    assert any(line.startswith("note") and "succeeded" in line for line in told)
    assert told[-1].split()[:2] == ["run", "succeeded"]
    run = done.stderr.split()[1]
    state = (await up.ask(STATES, id=run))["run"]
    assert state["triggeredBy"] == f"cli:{getpass.getuser()}"


def test_ndjson_ends_with_the_run_s_last_status(up):
    events = lines_of(up.cli("job", "run", "quick", "--follow", "--json"))
    assert events[-1]["type"] == "RunChanged"
    assert events[-1]["status"] == "SUCCEEDED"
    assert len({event["cursor"] for event in events}) == len(events)
    assert {event["type"] for event in events} >= {"RunChanged", "StepChanged", "LogsWritten"}


async def test_what_was_asked_reaches_the_run(up):
    run = started(up, "sleeper", "-p", "seconds=0.1", "--log-level", "debug", "--dry-run")
    state = (await up.ask(STATES, id=run))["run"]
    assert (state["params"], state["dryRun"], state["logLevel"]) == (
        {"seconds": 0.1},
        True,
        "DEBUG",
    )


def test_the_same_idempotency_key_gives_the_same_run(up):
    first, again = (
        json.loads(up.cli("job", "run", "quick", "--idempotency-key", "once", "--json").stdout)
        for _ in range(2)
    )
    assert (first["id"], first["created"], again["created"]) == (again["id"], True, False)


def test_a_failed_run_ends_the_command_with_1_and_its_reason(up):
    done = up.cli("job", "run", "asks", "--step", "get=off", "--follow")
    assert done.returncode == 1
    assert "no earlier step with an output is named `get`" in done.stdout
    assert up.cli("logs", "asks").returncode == 0
    assert up.cli("job", "logs", "--follow", "asks").returncode == 1


def test_a_failed_run_goes_on_from_its_step(up):
    failed = started(up, "asks", "--step", "get=off")
    assert up.cli("logs", "--follow", failed).returncode == 1
    mended = ("--from", "after", "--kwarg", "after.body=5")
    done = up.cli("job", "replay", failed, *mended, "--follow")
    assert done.returncode == 0, done.stderr
    newest = up.cli("job", "history", "asks", "--limit", "1")
    assert f"again, after {failed}" in newest.stdout
    again = json.loads(up.cli("job", "replay", "asks", *mended, "--dry-run", "--json").stdout)
    assert (again["dryRun"], again["created"]) == (True, True)
    assert again["replayOf"] != {"id": failed}  # the newest run of the job


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("job", "run", "quik"), "did you mean `quick`"),
        (("job", "history", "quik"), "did you mean `quick`"),
        (("logs", "quik"), "did you mean `quick`"),
        (("job", "run", "sleeper", "-p", "seconds"), "is not NAME=VALUE"),
        (("job", "run", "sleeper", "-p", 'seconds="x"'), "must be a number"),
        (("job", "run", "sleeper", "--preset", "nope"), "preset"),
        (("job", "run", "quick", "--log-level", "loud"), "LOUD"),
        (("job", "replay", "01a21405-e5e1-7ab7-81a2-266f3cd8e249"), "no run"),
        (("job", "replay", "notes-table", "--from", "nope"), "has no step `nope`"),
        (("job", "abort", "01a21405-e5e1-7ab7-81a2-266f3cd8e249"), "no run"),
        (("logs", "01a21405-e5e1-7ab7-81a2-266f3cd8e249"), "no run"),
        (("logs", "-f", "01a21405-e5e1-7ab7-81a2-266f3cd8e249"), "no such run"),
        (("job", "list", "--url", "http://127.0.0.1:9"), "Is `nomaflow up` running"),
        (("job", "list", "--url", "nonsense"), "is not the URL of an API"),
        (("job", "dance"), "No such command"),
        (("job", "history", "quick", "--status", "nice"), "NICE"),
    ],
)
def test_what_is_refused_is_a_sentence_and_status_2(up, words, sentence):
    done = up.cli(*words)
    assert done.returncode == 2, done.stdout
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_token_is_a_sentence_that_does_not_show_it(up):
    words = {"NOMAFLOW_URL": up.state.url, "NOMAFLOW_TOKEN": "nf_wrong_secret_of_mine"}
    done = subprocess.run(
        [NOMAFLOW, "job", "list"],
        env=os.environ | words,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "refused the token from NOMAFLOW_TOKEN" in done.stderr
    assert "secret_of_mine" not in done.stderr


def test_a_running_up_is_found_by_its_home(up):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NOMAFLOW_")}
    done = subprocess.run(
        [NOMAFLOW, "job", "list", "--home", up.home, "--json"],
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


async def test_an_abort_ends_the_run_and_whoever_follows_it(up):
    run = started(up, "sleeper")
    await up.running(run, "sql")
    watching = following(up, "logs", "--follow", run)
    done = up.cli("job", "abort", run, "--reason", "enough", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["id"] == run
    assert watching.wait(30) == 1
    assert "aborted" in watching.communicate()[1]
    assert up.cli("job", "abort", run).returncode == 2


async def test_ctrl_c_leaves_the_run_alone(up):
    watching = following(up, "job", "run", "sleeper", "-p", "seconds=3", "--follow")
    run = watching.stderr.readline().split()[1]
    await up.running(run, "sql")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 130
    assert "Traceback" not in watching.communicate()[1]
    assert (await up.ended(run))["status"] == "SUCCEEDED"


async def test_following_outlives_an_api_that_is_killed(up):
    watching = following(up, "job", "run", "sleeper", "-p", "seconds=6", "--follow", "--json")
    events = [json.loads(watching.stdout.readline()) for _ in range(3)]  # it hears
    os.kill(up.pid("api"), signal.SIGKILL)
    with watching:  # not communicate(): it would pass over what readline() has read ahead
        events += [json.loads(line) for line in watching.stdout]
        said = watching.stderr.read()
    assert watching.returncode == 0, said
    cursors = [event["cursor"] for event in events]
    assert len(set(cursors)) == len(cursors)
    assert [e["status"] for e in events if e["type"] == "RunChanged"] == [
        "QUEUED",
        "RUNNING",
        "SUCCEEDED",
    ]
    stored = lines_of(up.cli("logs", events[0]["runId"], "--json"))
    heard = [line for e in events if e["type"] == "LogsWritten" for line in e["lines"]]
    assert [line["cursor"] for line in heard] == [line["cursor"] for line in stored]


def test_on_a_terminal_it_is_a_picture(up):
    reader, writer = pty.openpty()
    with subprocess.Popen(
        [NOMAFLOW, "job", "run", "quick", "--follow"],
        env=environment(up) | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
        stdin=writer,
        stdout=writer,
        stderr=writer,
    ) as process:
        os.close(writer)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says so when the other side has closed
            while piece := os.read(reader, 65536):
                shown += piece
        os.close(reader)
        assert process.wait(20) == 0
    text = shown.decode()
    assert "\x1b[" in text
    assert "✓" in text
    assert "1 row affected" in text
    assert "quick succeeded after" in " ".join(
        text.replace("\x1b[32m", "").replace("\x1b[0m", "").split()
    )


async def test_a_list_longer_than_a_page_is_whole(up):
    one = """[[jobs]]
name = "many-{0:03}"
app = "many"
[[jobs.steps]]
name = "nothing"
type = "sql_query"
connector = "default"
query = "SELECT 1"
"""
    text = "".join(one.format(number) for number in range(230))
    (up.project / "jobs" / "many.toml").write_text(text)
    count = '{ jobs(filter: {app: "many"}) { totalCount } }'
    await up.eventually(lambda: up.ask(count), lambda data: data["jobs"]["totalCount"] == 230)
    listed = json.loads(up.cli("job", "list", "--app", "many", "--json").stdout)
    assert [job["name"] for job in listed] == [f"many-{number:03}" for number in range(230)]
    near = up.cli("job", "history", "many-23O")
    assert "did you mean" in near.stderr


def test_the_words_for_an_ended_run_are_the_api_s(up):
    from graphql import build_schema

    schema = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text())
    assert set(schema.type_map["RunStatus"].values) - FINAL == {"QUEUED", "RUNNING"}
