"""test-your-jobs.md as a newcomer follows it: the files of the page, and `pytest`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(300)
def test_the_page_is_all_it_takes(folder: Path):
    project = folder / "my-project"
    first, *_ = BLOCK.findall((HOW_TO / "python-steps.md").read_text(encoding="utf-8"))
    page = BLOCK.findall((HOW_TO / "test-your-jobs.md").read_text(encoding="utf-8"))
    for name, text in [first, *page]:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-rA"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=280,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "3 passed" in done.stdout
    assert "warning" not in done.stdout.lower()
