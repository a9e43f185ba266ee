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


def test_a_calendar_that_no_file_declares_is_told(tmp_path):
    job = GOOD.replace('name = "j"\n', 'name = "j"\ncalendar = "bussiness-days"\n')
    (tmp_path / "jobs.toml").write_text(job + SQL)
    (tmp_path / "calendars.toml").write_text('[calendars.business-days]\nweekdays = ["mon"]\n')
    done = nomaflow("check", "--project", tmp_path)
    assert done.returncode == 2
    assert "there is no calendar `bussiness-days`; did you mean `business-days`?" in done.stdout
    assert done.stdout.endswith("1 job can be loaded, 1 problem.\n")
    (tmp_path / "calendars.toml").write_text('[calendars.bussiness-days]\nweekdays = ["x"]\n')
    done = nomaflow("check", "--project", tmp_path)
    assert "there is no calendar" not in done.stdout  # it is there, and wrong itself


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
