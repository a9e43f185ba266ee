"""`nomaflow.trial`: a project's own tests run its jobs for real."""

from pathlib import Path
from textwrap import dedent

import pytest

from nomaflow.errors import NomaflowError
from nomaflow.trial import running

FILES = {
    "jobs.toml": """
        [[jobs]]
        name = "count"
        schedule = "* * * * * *"
        params = { minimum = 1 }
        [[jobs.steps]]
        name = "make"
        type = "sql_query"
        connector = "default"
        query = "CREATE TABLE IF NOT EXISTS marks (n int)"
        [[jobs.steps]]
        name = "mark"
        type = "python"
        callable = "marks:mark"
        env = ["GREETING"]
        """,
    "plugins/marks.py": """
        import os

        async def mark(ctx, *, minimum: int):
            ctx.log.info(os.environ["GREETING"])
            if ctx.dry_run:
                return {"marks": 0}
            db = ctx.get_connector("default")
            await db.execute("INSERT INTO marks VALUES (1)")
            count = await db.scalar("SELECT count(*) FROM marks")
            if count < minimum:
                raise ValueError(f"only {count}")
            return {"marks": count}
        """,
}


@pytest.fixture(scope="module")
def trial(folder: Path):
    project = folder / "marks"
    for name, text in FILES.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    (project / ".env").write_text("GREETING=of the file\n")
    with running(project, env={"GREETING": "good morning"}) as trial:
        yield trial
    assert not trial.home.exists()


def test_a_job_runs_whole_and_says_what_became_of_it(trial):
    rehearsed = trial.run("count", dry_run=True)
    assert (rehearsed.status, rehearsed.dry_run) == ("succeeded", True), rehearsed.reason
    assert rehearsed.steps["mark"].output == {"marks": 0}
    run = trial.run("count")
    assert run.status == "succeeded", run.reason
    assert list(run.steps) == ["make", "mark"]
    # The clock would fire each second; in a trial it does not.
    assert run.steps["mark"].output == {"marks": 1}
    assert ("INFO", "***") in run.log


def test_a_failure_and_a_refusal_are_in_words(trial):
    run = trial.run("count", step_kwargs={"mark": {"minimum": 100}})
    assert run.status == "failed"
    assert run.steps["mark"].error == "ValueError: only 2"
    with pytest.raises(NomaflowError, match="there is no job `cuont`; did you mean `count`"):
        trial.run("cuont")
    with pytest.raises(NomaflowError, match="may not start"):
        trial.run("count", params={"minimum": "many"})


def test_a_project_that_cannot_start_says_why(tmp_path):
    with pytest.raises(NomaflowError, match="did not start"), running(tmp_path / "nowhere"):
        pass
