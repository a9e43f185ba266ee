"""What is told of connectors that steps name: none there, of another kind, no such query."""

import subprocess
import sys
from pathlib import Path

import pytest

from nomaflow.in_force import catalog, connector_changes
from nomaflow.in_force.connector_changes import Asked
from nomaflow.store import problems
from nomaflow.vault import Vault

CONNECTORS = """
[connectors.ops]
kind = "sql"
url = "sqlite:///ops.db"
[connectors.ops.queries.totals]
sql = "SELECT 1"
[connectors.ops.queries.refresh]
operation = "write"
sql = "DELETE FROM t"
[connectors.api]
kind = "http"
url = "https://api.example"
"""
JOB = """
[[jobs]]
name = "j"
params = { c = "ops" }
[[jobs.steps]]
name = "s"
"""


async def told(shop, step, connectors=CONNECTORS):
    """The problems of a job with this step: path below the step, and sentence."""
    await shop.declare(JOB + step, **{"connectors.toml": connectors})
    found = await problems.all_of_them(shop.db)
    assert all(row.path[:4] == ("jobs", "j", "steps", "0") and row.line == 2 for row in found)
    return [(row.path[4:], row.message.removeprefix("job `j`: step `s`: ")) for row in found]


SQL = 'type = "sql_query"\nconnector = "{}"\nquery = "{}"'


@pytest.mark.parametrize(
    ("step", "path", "words"),
    [
        (SQL.format("opps", "SELECT 1"), ("connector",), "there is no connector `opps`; did you"),
        (SQL.format("api", "SELECT 1"), ("connector",), "`api` is of kind http; this step needs k"),
        (SQL.format("ops", "total"), ("query",), "no query named `total`; did you mean `totals`?"),
        (SQL.format("ops", "totals:write"), ("query",), "only reads; it cannot write"),
        (SQL.format("ops", "refresh"), ("query",), "refer to it as `refresh:write`"),
        (SQL.format("default", "totals"), ("query",), "`default` has no query named `totals`"),
        (
            'type = "http"\nconnector = "ops"\nurl = "x"',
            ("connector",),
            "this step needs kind http",
        ),
        (
            (
                'type = "sql_copy"\nsource = { connector = "ops", table = "a" }\n'
                'target = { connector = "no", table = "b" }'
            ),
            ("target", "connector"),
            "there is no connector `no`",
        ),
        (
            (
                'type = "http_sync"\nrequest = { connector = "api", url = "x" }\n'
                'map = { a = "a" }\n'
                'target = { connector = "ops", query = "store:write" }'
            ),
            ("target", "query"),
            "no query named `store`",
        ),
        (
            (
                'type = "ldap_sync"\nconnector = "api"\nsearch_base = "dc=x"\n'
                'mapping = { uid = "u" }\n'
                'target_connector = "ops"\ntarget_query = "refresh:write"'
            ),
            ("connector",),
            "this step needs kind ldap",
        ),
    ],
)
async def test_what_a_step_names_and_is_not_there_is_told(shop, step, path, words):
    ((where, message),) = await told(shop, step)
    assert where == path
    assert words in message
    assert {r["name"] for r in await shop.db.fetch("SELECT name FROM jobs")} == {"j"}


@pytest.mark.parametrize(
    "step",
    [
        SQL.format("ops", "SELECT 1"),
        SQL.format("ops", "totals"),
        SQL.format("ops", "refresh:write"),
        SQL.format("${kw:c}x", "totals"),
        SQL.format("default", "SELECT 1"),
        'type = "sql_copy"\nsource = { table = "a" }\ntarget = { table = "b" }',
    ],
)
async def test_what_is_there_or_known_later_is_not(shop, step):
    assert await told(shop, step) == []


async def test_a_connector_that_cannot_be_read_is_told_once(shop):
    broken = CONNECTORS.replace('kind = "http"', 'kind = "htp"')
    await shop.declare(
        JOB + 'type = "http"\nconnector = "api"\nurl = "x"', **{"connectors.toml": broken}
    )
    (only,) = await problems.all_of_them(shop.db)
    assert only.path == ("connectors", "api", "kind")


async def test_a_file_that_is_no_toml_says_nothing_of_its_connectors(shop):
    await shop.declare(JOB + SQL.format("ops", "totals"), **{"connectors.toml": "[connectors"})
    (only,) = await problems.all_of_them(shop.db)
    assert only.file == "connectors.toml"


async def test_one_that_comes_through_the_api_ends_it_and_jobs_of_the_api_are_told_too(shop):
    await shop.declare(JOB + SQL.format("late", "SELECT 1"), **{"connectors.toml": CONNECTORS})
    step = {"name": "s", "type": "sql_query", "connector": "never", "query": "SELECT 1"}
    await catalog.create(shop.db, shop.bell, {"name": "made", "steps": [step]}, by="user:a")
    asked = Asked("late", "sql", {"url": "sqlite:///late.db"})
    vault = Vault(("a key of tests that is long enough",))
    await connector_changes.create(shop.db, shop.project, vault, asked, by="user:a")
    await catalog.sync(shop.db, shop.bell, shop.project)
    (only,) = await problems.all_of_them(shop.db)
    assert (only.file, only.path[1]) == ("(API)", "made")
    assert "there is no connector `never`" in only.message


def test_check_tells_what_the_files_alone_can_know(tmp_path):
    (tmp_path / "connectors.toml").write_text(CONNECTORS)
    step = '\n[[jobs.steps]]\nname = "{}"\n'
    other = step.format("t") + SQL.format("made-by-the-api", "SELECT 1")
    (tmp_path / "jobs.toml").write_text(JOB + SQL.format("ops", "total") + other)
    nomaflow = Path(sys.executable).with_name("nomaflow")
    done = subprocess.run(
        [nomaflow, "check", "--project", tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        (
            "jobs.toml:2: job `j`: step `s`: connector `ops` has no query named `total`; "
            "did you mean `totals`?"
        ),
        "1 job can be loaded, 1 problem.",
    ]
