"""A worker that is root runs the user's code as somebody who may do nothing, where that works."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nomaflow_worker.sandbox.pool import Sandbox
from nomaflow_worker.sandbox.request import ChildRequest

ROOT = Path(__file__).parents[3]
SOURCE = """
import os
def f(ctx, forbidden):
    try:
        open(forbidden).read()
        read = True
    except PermissionError:
        read = False
    try:
        os.setuid(0)
        root = True
    except PermissionError:
        root = False
    with open("mine", "w") as file:
        file.write("x")
    return [os.getuid(), os.getgroups(), read, root]
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def nobody() -> int:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        pytest.skip("this system has no user nobody")


def may_run(python: str) -> bool:
    """Whether nobody can start this interpreter, and it is one our packages are made for."""
    same = f"import sys, json.tool; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    try:
        tried = subprocess.run([python, "-c", same], user=nobody(), cwd="/", check=False)
    except OSError:
        return False
    return tried.returncode == 0


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> str:
    found = next(
        filter(may_run, (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")), ""
    )
    if not found:
        pytest.skip("no Python here that nobody can read")
    ours = [ROOT / "shared", ROOT / "services/worker", sysconfig.get_path("purelib")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, ours)))
    return found


@pytest.fixture
def plugins() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nomaflow-plugins-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "m.py").write_text(SOURCE)
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o600)
    yield folder
    shutil.rmtree(folder)


class Deaf:
    def log(self, *_: object) -> None: ...


async def call(plugins: Path, python: str) -> list[object]:
    sandbox = Sandbox(plugins, python=python, user=nobody())
    await sandbox.start()
    try:
        request = ChildRequest("m:f", "r", "j", "s", kwargs={"forbidden": str(plugins / "secret")})
        return await sandbox.call(request, Deaf(), timeout_seconds=20)
    finally:
        await sandbox.stop()


async def test_the_code_runs_as_nobody(python, plugins):
    assert await call(plugins, python) == [nobody(), [], False, False]


async def test_plugins_that_nobody_may_read_run_as_root_and_it_is_said(python, plugins):
    plugins.chmod(0o700)
    with capture_logs() as logs:
        uid, _, read, root = await call(plugins, python)
    assert (uid, read, root) == (0, True, True)
    (said,) = logs
    assert said["event"] == "python steps run as root: an unprivileged user cannot run them"
    assert str(plugins) in said["reason"]
