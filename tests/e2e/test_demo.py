"""What `make demo ONCE=1` does: from nothing to a green sync that was shown live."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.fixture(scope="module")
def shown(folder):
    demo = folder / "demo"
    command = [sys.executable, str(DEMO), "--once", "--folder", str(demo)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_each_step_is_shown_live_with_its_counts(shown):
    steps = re.findall(r"(copy-customers|copy-orders|notify-slack)  (running|succeeded.*)", shown)
    assert [name for name, _ in steps] == [
        name for name in ("copy-customers", "copy-orders", "notify-slack") for _ in range(2)
    ]
    assert "100 000 rows" in steps[1][1]
    assert "500 000 rows" in steps[3][1]
    assert "status=200" in steps[5][1]


def test_the_message_the_comparison_and_the_addresses_are_told(shown):
    assert shown.count("equal by checksum") == 2
    assert shown.count("Slack heard  ✅ reporting-nightly-sync succeeded") == 1
    assert re.search(r"http://127\.0\.0\.1:\d+/graphiql#token=nf_admin_", shown)
    assert re.search(r"http://127\.0\.0\.1:\d+/graphql$", shown, re.MULTILINE)
