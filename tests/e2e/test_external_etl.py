"""The example external-etl: a script on its own, against a running installation (W14)."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "external-etl" / "etl.py"
PERMITS = """id,status,modified
1,issued,2026-01-01T00:00:00+00:00
2,issued,2026-01-02T00:00:00+00:00
"""


async def test_the_script_loads_what_changed_and_keeps_its_record(work_up, tmp_path):
    source, target = tmp_path / "permits.csv", tmp_path / "open_data.csv"
    access = {"NOMAFLOW_URL": work_up.state.url, "NOMAFLOW_TOKEN": work_up.state.admin_token}

    async def etl():
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, SCRIPT, source, target],
            env={**os.environ, **access},
            capture_output=True,
            text=True,
            timeout=60,
        )

    source.write_text(PERMITS)
    assert (await etl()).stdout == "2 rows\n"
    assert (await etl()).stdout == "0 rows\n"
    source.write_text(PERMITS + "3,filed,2999-01-01T00:00:00+00:00\n")
    assert (await etl()).stdout == "1 rows\n"
    source.write_text("id,status\n1,issued\n")
    broken = await etl()
    assert "KeyError: 'modified'" in broken.stderr
    answer = await work_up.ask(
        """{ runs(filter: {jobs: ["permits_to_open_data"]}, orderBy: QUEUED_ASC) { nodes {
             kind status rowsAffected external { message } } } }"""
    )
    found = answer["runs"]["nodes"]
    assert [(run["status"], run["rowsAffected"]) for run in found] == [
        ("SUCCEEDED", "2"),
        ("SUCCEEDED", "0"),
        ("SUCCEEDED", "1"),
        ("FAILED", "0"),
    ]
    assert found[3]["external"]["message"] == "KeyError: 'modified'"
    assert len(target.read_text().splitlines()) == 4
