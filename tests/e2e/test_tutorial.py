"""The tutorial, followed to the letter: its files, its commands, what it says will happen."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-job.md"
JOB = '{ job(name: "note-the-time") { description nextFireAt retry { attempts } } }'


@pytest.fixture
async def tutorial(work_up):
    """The blocks of the page, one after another, in a file of the project."""
    file, secrets = work_up.project / "jobs" / "tutorial.toml", work_up.project / ".env"
    blocks = iter(re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))

    async def next_block(there):
        file.write_text(next(blocks))
        await work_up.eventually(lambda: work_up.ask(JOB), lambda a: a["job"] and there(a["job"]))

    yield next_block, secrets
    file.unlink()
    secrets.unlink()


async def test_the_tutorial_says_what_happens(work_up, tutorial):
    next_block, secrets = tutorial
    run = ("job", "run", "note-the-time", "--follow")
    secrets.write_text(f"CLOCK_URL={work_up.state.url}/health\n")

    await next_block(lambda job: job["nextFireAt"] is None)
    for rows in (1, 2):
        followed = work_up.cli(*run)
        assert followed.returncode == 0, followed.stdout + followed.stderr
        async with work_up.database() as connection:
            said = await connection.fetch("SELECT said FROM public.clock")
        assert [row["said"] for row in said] == ["200"] * rows

    secrets.write_text("CLOCK_URL=http://127.0.0.1:9/\n")
    followed = work_up.cli(*run)
    assert followed.returncode == 1
    assert re.search(r"keep\s+skipped.*earlier step failed", followed.stdout)

    await next_block(lambda job: job["nextFireAt"])
    assert "note-the-time" in work_up.cli("job", "list").stdout
    await next_block(lambda job: job["retry"]["attempts"] == 3)
