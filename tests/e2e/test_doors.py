"""Every way in leads to the same dispatch: cron, GraphQL, the REST door, the command line."""

import getpass
import json
from datetime import datetime, timedelta
from itertools import pairwise

import httpx
import pytest

TICKING = """
[[jobs]]
name = "ticking"
schedule = "* * * * * *"
[[jobs.steps]]
name = "wait"
type = "sql_query"
connector = "default"
query = "SELECT pg_sleep(2.5)"
"""
RUNS = """query ($job: String!) { runs(first: 100, filter: {jobs: [$job]}) { nodes {
  status reason triggeredBy scheduleName scheduledFor startedAt steps { name } } } }"""


@pytest.fixture(scope="module")
def up(work_up):
    return work_up


async def door(up, job, headers, body):
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        return await client.post(f"{up.state.url}/admin/jobs/{job}/run", headers=headers, json=body)


async def test_a_token_by_graphql_and_by_the_rest_door_is_api(up):
    run = await up.ended(await up.trigger("layers"))
    assert (run["status"], run["triggeredBy"]) == ("SUCCEEDED", "api")

    answer = await door(up, "layers", up.headers, {"params": {"a": "rest"}})
    assert answer.is_success
    run = await up.ended(answer.json()["run_id"])
    assert (run["status"], run["triggeredBy"]) == ("SUCCEEDED", "api")
    assert run["steps"][0]["output"]["a"] == "rest"

    assert (await door(up, "layer", up.headers, {})).status_code == 404
    assert (await door(up, "layers", up.headers, {"params": [1]})).status_code == 422


def test_the_command_line_says_whose_it_is(up):
    followed = up.cli("job", "run", "layers", "--param", "a=typed", "--follow")
    assert followed.returncode == 0, followed.stderr
    assert "run succeeded" in followed.stdout

    (last,) = json.loads(up.cli("job", "history", "layers", "--limit", "1", "--json").stdout)
    assert last["triggeredBy"] == f"cli:{getpass.getuser()}"
    listed = json.loads(up.cli("job", "list", "--json").stdout)
    assert {"layers", "quick"} <= {job["name"] for job in listed}
    logged = up.cli("logs", "--follow", last["id"])
    assert "run succeeded" in logged.stdout

    failed = up.cli("job", "run", "asks", "--follow")  # nothing says where SLOW_URL is
    assert failed.returncode == 1
    unknown = up.cli("job", "run", "layer")
    assert unknown.returncode == 2
    assert "`layers`" in unknown.stderr


async def test_cron_fires_once_a_second_and_what_it_could_not_run_is_a_row(up):
    file = up.project / "jobs" / "ticking.toml"
    file.write_text(TICKING)
    try:
        answer = await up.eventually(
            lambda: up.ask(RUNS, job="ticking"),
            lambda a: sum(r["status"] == "SUCCEEDED" for r in a["runs"]["nodes"]) == 2,
        )
    finally:
        file.unlink()
    runs = answer["runs"]["nodes"]
    assert {run["triggeredBy"] for run in runs} == {"cron"}
    due = sorted(run["scheduledFor"] for run in runs)
    assert len(set(due)) == len(due) >= 5
    moments = [datetime.fromisoformat(at) for at in due]
    assert {b - a for a, b in pairwise(moments)} == {timedelta(seconds=1)}
    skipped = [run for run in runs if run["status"] == "SKIPPED"]
    assert len(skipped) >= 3
    assert {run["reason"] for run in skipped} == {"skipped: previous run still running"}
    assert {(run["startedAt"], len(run["steps"])) for run in skipped} == {(None, 0)}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nf_wrong_token_of_someone"}])
async def test_without_a_token_no_door_opens(up, headers):
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(
            f"{up.state.url}/graphql", headers=headers, json={"query": "{ jobs { totalCount } }"}
        )
    assert not answer.json().get("data")
    assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert (await door(up, "layers", headers, {})).status_code == 401
