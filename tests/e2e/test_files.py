"""Job files change under a running installation: edits, slips of the pen, broken TOML."""

import pytest

CHANGING = """
[[jobs]]
name = "changing"
[[jobs.steps]]
name = "wait"
type = "sql_query"
connector = "default"
query = "SELECT pg_sleep(1.5)"
[[jobs.steps]]
name = "{name}"
type = "python"
callable = "work:echo"
kwargs = {{ word = "{word}" }}
"""
PROBLEMS = "{ catalogProblems { file line path message } }"
BROKEN = {
    "unknown field": ('name = "x"\nspeed = 3', "speed"),
    "two steps of one name": (
        'name = "x"\n[[jobs.steps]]\nname = "s"\ntype = "http"\nurl = "http://u/"',
        "s",
    ),
    "cron": ('name = "x"\nschedule = "0 25 * * *"', "25"),
    "timezone": ('name = "x"\nschedule = "0 2 * * *"\ntimezone = "Europe/Pari"', "Europe/Pari"),
    "missing field": ('name = "x"\n[[jobs.steps]]\nname = "no-url"\ntype = "http"', "url"),
    "broken TOML": ('name = "x', ""),
}
STEP = '\n[[jobs.steps]]\nname = "s"\ntype = "http"\nurl = "http://127.0.0.1:9/"\n'


@pytest.fixture(scope="module")
def up(work_up):
    return work_up


@pytest.fixture
async def changing(up):
    """A job file that the test may change."""
    file = up.project / "jobs" / "changing.toml"
    file.write_text(CHANGING.format(name="old", word="old"))
    there = '{ job(name: "changing") { steps { name } } }'
    await up.eventually(lambda: up.ask(there), lambda a: a["job"])
    yield file
    file.unlink()


async def test_an_edit_during_a_run_is_for_the_next(up, changing):
    run_id = await up.trigger("changing")
    await up.running(run_id, "wait")
    changing.write_text(CHANGING.format(name="new", word="new"))
    steps = '{ job(name: "changing") { steps { name } } }'
    await up.eventually(lambda: up.ask(steps), lambda a: a["job"]["steps"][1]["name"] == "new")

    run = await up.ended(run_id)
    after = await up.ended(await up.trigger("changing"))

    assert run["status"] == "SUCCEEDED"
    assert [s["name"] for s in run["steps"]] == ["wait", "old"]
    assert run["steps"][1]["output"] == {"word": "old"}
    assert after["steps"][1]["output"] == {"word": "new"}
    assert after["jobRevision"] == run["jobRevision"] + 1


@pytest.mark.parametrize("mistake", BROKEN)
async def test_a_file_that_is_wrong_says_where_and_harms_no_other(up, mistake):
    text, word = BROKEN[mistake]
    file = up.project / "jobs" / "wrong.toml"
    file.write_text(f"[[jobs]]\n{text}{STEP}")
    try:
        found = await up.eventually(lambda: up.ask(PROBLEMS), lambda a: a["catalogProblems"])
        (problem,) = found["catalogProblems"]
        assert problem["file"].endswith("jobs/wrong.toml")
        assert problem["line"] >= 1
        assert word in problem["message"] + ".".join(problem["path"])
        assert (await up.ask('{ job(name: "x") { name } }'))["job"] is None
        assert (await up.ended(await up.trigger("layers")))["status"] == "SUCCEEDED"
    finally:
        file.unlink()
    await up.eventually(lambda: up.ask(PROBLEMS), lambda a: not a["catalogProblems"])


async def test_a_file_that_breaks_keeps_its_job_as_it_was(up, changing):
    good = changing.read_text()
    changing.write_text(good.replace("[[jobs.steps]]", "[[jobs.steps", 1))
    await up.eventually(lambda: up.ask(PROBLEMS), lambda a: a["catalogProblems"])
    assert (await up.ended(await up.trigger("changing")))["status"] == "SUCCEEDED"
    changing.write_text(good)
    await up.eventually(lambda: up.ask(PROBLEMS), lambda a: not a["catalogProblems"])
