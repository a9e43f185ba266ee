"""A parent and its child through the three programs, and through the death of their worker."""

import os
import signal
from textwrap import dedent

import pytest

JOBS = """
    [[jobs]]
    name = "reporting"
    params = { day = "2026-05-01", seconds = 2 }

    [[jobs.steps]]
    name = "load"
    type = "call_job"
    job = "load-dimensions"
    params = { day = "${kw:day}", seconds = "${kw:seconds}" }

    [[jobs.steps]]
    name = "tell"
    type = "sql_query"
    connector = "default"
    query = "SELECT :day AS day, :rows::int AS rows"
    params = { day = "${out:load.output.first_row.day}", rows = "${out:load.rows_affected:-0}" }
    fetch = "first"

    [[jobs]]
    name = "load-dimensions"
    params = { day = "", seconds = 0 }

    [[jobs.steps]]
    name = "work"
    type = "sql_query"
    connector = "default"
    query = "SELECT pg_sleep(:seconds::float8), :day AS day"
    params = { day = "${kw:day}", seconds = "${kw:seconds}" }
    fetch = "first"
    """
FAMILY = """query ($id: ID!) { run(id: $id) {
  status reason interruptions
  children { id jobName status triggeredBy parent { jobName } } } }"""


@pytest.fixture(scope="module")
def up(start, folder):
    project = folder / "family"
    project.mkdir()
    (project / "jobs.toml").write_text(dedent(JOBS))
    return start(project, NOMAFLOW_LEASE_SECONDS="4", NOMAFLOW_WORKER_CAPACITY="1")


async def test_a_worker_with_one_place_dies_and_the_next_goes_on_with_the_same_child(up):
    run_id = await up.trigger("reporting")

    async def family():
        return (await up.ask(FAMILY, id=run_id))["run"]["children"]

    (child,) = await up.eventually(family, lambda born: born and born[0]["status"] == "RUNNING")
    os.kill(up.pid("worker"), signal.SIGKILL)
    run = await up.ended(run_id)
    assert run["status"] == "SUCCEEDED", run
    load, tell = run["steps"]
    assert tell["output"]["first_row"]["day"] == "2026-05-01"
    assert load["output"]["status"] == "succeeded"
    found = (await up.ask(FAMILY, id=run_id))["run"]
    assert [kept["id"] for kept in found["children"]] == [child["id"]]
    assert found["children"][0]["parent"] == {"jobName": "reporting"}
    assert found["children"][0]["triggeredBy"].startswith("call_job:reporting@")
    assert found["interruptions"] == 1


async def test_the_command_line_aborts_both(up):
    run_id = await up.trigger("reporting", params={"seconds": 60})

    async def family():
        return (await up.ask(FAMILY, id=run_id))["run"]["children"]

    await up.eventually(family, lambda born: born and born[0]["status"] == "RUNNING")
    assert up.cli("job", "abort", run_id).returncode == 0
    assert (await up.ended(run_id))["status"] == "ABORTED"
    (child,) = await up.eventually(family, lambda born: born[0]["status"] == "ABORTED")
    assert child["status"] == "ABORTED"
