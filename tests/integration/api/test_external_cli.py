"""`nomaflow external`, run as a shell script runs it, against a real API."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from .conftest import TOKEN

NOMAFLOW = Path(sys.executable).parent / "nomaflow"
FROM_TO = ("--source", "amanda", "--destination", "socrata")


@pytest.fixture
def shell(api, tmp_path):
    """Run `nomaflow external ...`; status, output and errors."""

    async def run(*arguments, wait=True):
        process = await asyncio.create_subprocess_exec(
            NOMAFLOW,
            "external",
            *arguments,
            env={**os.environ, "NOMAFLOW_URL": api.url, "NOMAFLOW_TOKEN": TOKEN},
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        if not wait:
            return process
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return process.returncode, out.decode().strip(), err.decode().strip()

    return run


async def rows(api):
    found = await api.db.fetch(
        """SELECT r.status, r.triggered_by, e.records_processed, e.message, e.heartbeat_at
           FROM nomaflow.runs r JOIN nomaflow.external_runs e ON e.run_id = r.id
           ORDER BY r.queued_at"""
    )
    return [dict(row) for row in found]


async def test_step_by_step(api, shell):
    assert await shell("most-recent", "permits") == (1, "", "")
    status, run, _ = await shell("start", "permits", *FROM_TO, "--heartbeat", "60")
    assert status == 0
    assert await shell("heartbeat", run, "-m", "half") == (0, "", "")
    done = await shell("finish", run, "success", "--records", "12", "--json")
    assert json.loads(done[1])["records_processed"] == 12
    status, seconds, _ = await shell("most-recent", "permits", "--destination", "socrata")
    started = await api.db.fetchval("SELECT started_at FROM nomaflow.runs")
    assert (status, float(seconds)) == (0, pytest.approx(started.timestamp(), abs=0.001))
    status, iso, _ = await shell("most-recent", "permits", "--iso")
    assert iso == started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    (row,) = await rows(api)
    assert row["triggered_by"].startswith("cli:")


async def test_wrong_words_are_told(shell):
    status, _, told = await shell("finish", "00000000-0000-7000-8000-000000000000", "success")
    assert (status, "there is no run" in told) == (2, True)
    status, _, told = await shell("finish", "x", "done")
    assert (status, told) == (2, "nomaflow: a result is 'success' or 'error', not 'done'")


SCRIPT = """
import json, os
assert os.environ["NOMAFLOW_LAST_RUN"] == os.environ.get("EXPECTED", "")
print("loading", os.environ["NOMAFLOW_RUN_ID"][:4] and "now")
with open(os.environ["NOMAFLOW_RESULT"], "w") as file:
    json.dump({"records_processed": 7, "message": "create: 7"}, file)
"""


async def test_any_command_becomes_a_run(api, shell, tmp_path):
    (tmp_path / "load.py").write_text(SCRIPT)
    status, out, err = await shell(
        "run", "permits", *FROM_TO, "--", sys.executable, "load.py", "--flag", "-x"
    )
    assert (status, out, err) == (0, "loading now", "")
    (row,) = await rows(api)
    assert (row["status"], row["records_processed"], row["message"]) == (
        "succeeded",
        7,
        "create: 7",
    )


async def test_a_failing_command_tells_why_and_keeps_its_status(api, shell):
    code = "import sys; print('working'); sys.stderr.write('no such table\\n'); sys.exit(3)"
    status, out, err = await shell("run", "permits", *FROM_TO, "--", sys.executable, "-c", code)
    assert (status, out, err) == (3, "working", "no such table")
    (row,) = await rows(api)
    assert (row["status"], row["message"]) == ("failed", "exit status 3\nno such table")
    status, _, err = await shell("run", "permits", *FROM_TO, "--", "./missing")
    assert (status, "No such file" in err) == (127, True)
    assert [one["status"] for one in await rows(api)] == ["failed", "failed"]


async def test_a_signal_reaches_the_command_and_is_recorded(api, shell):
    code = "import time; print('up', flush=True); time.sleep(60)"
    process = await shell("run", "permits", *FROM_TO, "--", sys.executable, "-c", code, wait=False)
    assert await process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    (row,) = await rows(api)
    assert (row["status"], row["message"]) == ("failed", "exit status 143, as after SIGTERM")


async def test_it_gives_signs_of_life_and_ends_when_someone_aborts_it(api, shell):
    code = "import time; print('up', flush=True); time.sleep(60)"
    process = await shell(
        *("run", "permits", *FROM_TO, "--heartbeat", "1", "--", sys.executable, "-c", code),
        wait=False,
    )
    assert await process.stdout.readline() == b"up\n"
    async with asyncio.timeout(20):
        while (await rows(api))[0]["heartbeat_at"] is None:
            await asyncio.sleep(0.05)
        run = await api.db.fetchval("SELECT id FROM nomaflow.runs")
        abort = "mutation ($run: ID!) { runAbort(run: $run) { errors { code } } }"
        await api.query(abort, run=str(run))
        await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert (await rows(api))[0]["status"] == "aborted"
