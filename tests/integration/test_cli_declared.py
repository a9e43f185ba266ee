"""`nomaflow check` and `nomaflow schema`, run as a person runs them, without any server."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema

NOMAFLOW = Path(sys.executable).parent / "nomaflow"
GOOD = '[[jobs]]\nname = "j"\n[[jobs.steps]]\nname = "a"\ntype = "sql_query"\n'
SQL = 'connector = "default"\nquery = "SELECT 1"\n'


def nomaflow(*arguments):
    return subprocess.run([NOMAFLOW, *arguments], capture_output=True, text=True, timeout=30)


def test_a_good_project_passes(tmp_path):
    (tmp_path / "jobs.toml").write_text(GOOD + SQL)
    done = nomaflow("check", "--project", tmp_path)
    assert (done.returncode, done.stdout) == (0, "1 job can be loaded, no problems.\n")


def test_each_problem_is_told_with_its_line(tmp_path):
    (tmp_path / "jobs.toml").write_text(GOOD + SQL + "qury = 1\n")
    done = nomaflow("check", "--project", tmp_path)
    assert done.returncode == 2
    assert done.stdout.startswith("jobs.toml:8: ")
    assert "qury" in done.stdout
    told = json.loads(nomaflow("check", "--project", tmp_path, "--json").stdout)
    assert told["jobs"] == []
    assert told["problems"][0]["line"] == 8


def test_the_schema_names_every_step_type(tmp_path):
    file = tmp_path / "nomaflow.schema.json"
    assert nomaflow("schema", "-o", file).returncode == 0
    text = file.read_text()
    assert json.loads(text)["title"] == "jobs.toml"
    for kind in ("sql_query", "sql_copy", "http", "python"):
        assert f'"{kind}"' in text


def test_the_schema_of_calendars_takes_what_the_reader_takes(tmp_path):
    schema = json.loads(nomaflow("schema", "calendars").stdout)
    check = jsonschema.Draft202012Validator(schema)
    good = {
        "calendars": {"a": {"weekdays": ["mon"], "exclude": ["12-25", "2026-12-24..2026-12-26"]}},
        "blackouts": [
            {
                "name": "b",
                "from": "2026-12-05T20:00:00Z",
                "until": "2026-12-06T20:00:00Z",
                "jobs": ["*"],
            }
        ],
    }
    assert [e.message for e in check.iter_errors(good)] == []
    for bad in (
        {"calendars": {"a": {}}},
        {"calendars": {"a b": {"weekdays": ["mon"]}}},
        {"calendars": {"a": {"weekdays": ["noday"]}}},
        {"calendars": {"a": {"exclude": ["christmas"]}}},
        {"blackouts": [{"name": "b", "from": "x", "until": "y"}]},
        {"calendar": {}},
    ):
        assert not check.is_valid(bad), bad
