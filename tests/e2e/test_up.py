"""`nomaflow up` as an operator meets it: it starts, heals, ends, comes back, refuses plainly."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import pytest

import nomaflow
from nomaflow.cli import home as homes
from nomaflow.embedded import accounts
from nomaflow.errors import NomaflowError

NOMAFLOW = Path(sys.executable).with_name("nomaflow")
START_SECONDS = 60
PROGRAMS = ("api", "scheduler", "worker")
pytestmark = pytest.mark.timeout(300)  # several whole starts in one test, on a busy machine

JOBS = """
[[jobs]]
name = "hello"
[[jobs.steps]]
name = "count"
type = "sql_query"
connector = "default"
query = "SELECT 1 AS one"

[[jobs]]
name = "slow"
[[jobs.steps]]
name = "sleep"
type = "sql_query"
connector = "default"
query = "SELECT pg_sleep(300)"
"""


def until(claim, seconds=30.0):
    """Wait for something another process does; gives what the claim gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := claim():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {claim.__name__}")


class Up:
    """One `nomaflow up`, what it said, and the processes below it."""

    def __init__(self, folder, *options, rights=None, **environment):
        self.home = folder / "home"
        self.log = folder / "up.log"
        project = folder / "project"
        project.mkdir(exist_ok=True)
        (project / "jobs.toml").write_text(JOBS)
        plain = {k: v for k, v in os.environ.items() if not k.startswith("NOMAFLOW_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [NOMAFLOW, "up", "--home", self.home, "--project", project, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=plain | environment,
                **(rights or {}),
            )

    @property
    def said(self):
        return self.log.read_text()

    def family(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def state(self):
        assert self.process.poll() is None, self.said
        with contextlib.suppress(NomaflowError):
            return homes.State.read(self.home)

    def ready(self):
        state = self.state()
        with contextlib.suppress(httpx.HTTPError):
            return state and httpx.get(f"{state.url}/ready").status_code == 200

    def wait_until_ready(self):
        until(self.ready, START_SECONDS)
        return self

    def program(self, name):
        """The running process of one of the three programs."""
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if f"nomaflow_{name}" in child.cmdline():
                    return child
        return None

    def api(self, method, path, **options):
        state = self.state()
        token = {"Authorization": f"Bearer {state.admin_token}"}
        return httpx.request(method, f"{state.url}{path}", headers=token, **options)

    def query(self, document, **variables):
        answer = self.api(
            "POST", "/graphql", json={"query": document, "variables": variables}
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def runs(self):
        nodes = self.query("{ runs(first: 50) { nodes { id status } } }")["runs"]["nodes"]
        return {node["id"]: node["status"] for node in nodes}

    def run_hello(self):
        assert self.api("POST", "/admin/jobs/hello/run", json={}).is_success

        def succeeded():
            runs = self.runs()
            return runs if set(runs.values()) == {"SUCCEEDED"} else None

        return until(succeeded)

    def stop(self, wish=signal.SIGTERM):
        self.process.send_signal(wish)
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def open_folder():
    # Short, and open to the user the servers run as: pytest's own folders are neither.
    made = Path(tempfile.mkdtemp(prefix="nf-up-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def a_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextlib.contextmanager
def running(folder, *options, rights=None, **environment):
    up = Up(folder, *options, rights=rights, **environment)
    try:
        yield up.wait_until_ready()
    finally:
        if up.process.poll() is None:
            up.stop()


@pytest.fixture
def folder():
    with open_folder() as made:
        yield made


@pytest.fixture
def free_port():
    return a_free_port()


@pytest.fixture(scope="module")
def shared_up():
    """One installation for the tests that only look at it."""
    with open_folder() as folder, running(folder, "--port", a_free_port()) as up:
        yield up


@pytest.fixture
def up(folder, free_port):
    """An installation that the test may break."""
    with running(folder, "--port", free_port) as started:
        yield started


def test_it_serves_says_where_and_listens_on_this_machine_alone(shared_up):
    up = shared_up
    state = up.state()
    assert httpx.get(f"{state.url}/health").status_code == 200
    assert httpx.post(f"{state.url}/graphql", json={"query": "{ __typename }"}).status_code == 401

    def welcomed():
        return "Nomaflow is up" in up.said

    until(welcomed)
    assert up.said.count(state.admin_token) == 2  # by itself, and in the link
    assert f"{state.url}/graphiql#token={state.admin_token}" in up.said
    assert "2 jobs, 2 steps" in up.said
    family = [psutil.Process(up.process.pid), *up.family()]
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    for name in ("admin-token", "secret-key", "state.json", "postgres-password"):
        assert (up.home / name).stat().st_mode & 0o777 == 0o600


def test_a_second_up_on_one_home_and_a_taken_port_are_refused_in_a_sentence(shared_up, folder):
    up = shared_up
    (folder / "project").mkdir()
    port = up.state().url.rpartition(":")[2]

    def refusal(*options):
        asked = subprocess.run(
            [NOMAFLOW, "up", "--project", folder / "project", *options],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert asked.returncode == 2, asked.stdout
        assert "Traceback" not in asked.stderr
        return asked.stderr

    assert f"process {up.process.pid}" in refusal("--home", up.home)
    taken = refusal("--home", folder / "other", "--port", port)
    assert f"Port {port} on 127.0.0.1 is taken" in taken
    assert "does not exist" in refusal("--project", folder / "absent")


def test_another_worker_joins_by_the_home(shared_up):
    up = shared_up
    worker = subprocess.Popen(
        [NOMAFLOW, "worker", "--home", up.home],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def two_workers():
            return len(up.query("{ system { workers { name } } }")["system"]["workers"]) == 2

        until(two_workers)
        for kind in PROGRAMS:
            asked = subprocess.run(
                [NOMAFLOW, "healthcheck", kind, "--home", up.home], capture_output=True, text=True
            )
            assert asked.returncode == 0, asked.stderr
    finally:
        worker.terminate()
        assert worker.wait(timeout=60) == 0


def test_what_dies_is_started_again_and_what_ran_is_kept(up, folder, free_port):
    first = up.run_hello()
    for name in PROGRAMS:
        killed = up.program(name)
        killed.kill()

        def replaced(name=name, killed=killed):
            found = up.program(name)
            return found and found.pid != killed.pid

        until(replaced)
        assert f"{name} was killed by SIGKILL; starting it again" in up.said
    up.wait_until_ready()
    for program in ("postgres", "valkey-server"):
        next(p for p in up.family() if p.name().startswith(program)).kill()

    def both_answer_again():
        return up.said.count("answers again") == 2

    until(both_answer_again)
    up.wait_until_ready()
    assert len(up.run_hello()) == len(first) + 1
    family = up.family()
    assert up.stop() == 0
    assert not [process for process in family if process.is_running()]
    assert "everything has ended in good order" in up.said
    assert not (up.home / "state.json").exists()

    with running(folder, "--port", free_port) as again:
        assert first.items() <= again.runs().items()
        assert len(again.run_hello()) == len(first) + 2
        assert again.stop(signal.SIGINT) == 0


def test_a_killed_supervisor_leaves_no_process_and_loses_nothing(up, folder, free_port):
    ran = up.run_hello()
    family = up.family()
    up.process.kill()
    up.process.wait()

    def gone():
        return not any(process.is_running() for process in family)

    until(gone)
    with running(folder, "--port", free_port) as again:
        assert ran.items() <= again.runs().items()


def test_a_second_wish_to_end_does_not_wait_for_the_step(up):
    assert up.api("POST", "/admin/jobs/slow/run", json={}).is_success

    def running_now():
        return "RUNNING" in up.runs().values()

    until(running_now)
    family = up.family()
    up.process.send_signal(signal.SIGINT)

    def is_draining():
        return "worker is stopping" in up.said

    until(is_draining)
    assert up.process.poll() is None
    assert up.stop(signal.SIGINT) == 0
    assert "worker did not end in time; killing it" in up.said
    assert not [process for process in family if process.is_running()]


async def test_given_servers_replace_the_embedded_ones(folder, free_port, database_url, redis_url):
    token = "x" * 20

    def serve():
        environment = {"NOMAFLOW_DATABASE_URL": database_url, "NOMAFLOW_REDIS_URL": redis_url}
        environment["NOMAFLOW_ADMIN_TOKEN"] = token
        with running(folder, "--port", free_port, **environment) as up:
            assert not (up.home / "postgres").exists()
            assert not (up.home / "admin-token").exists()
            assert token not in up.said
            assert up.stop() == 0

    await asyncio.to_thread(serve)


@pytest.mark.skipif(os.geteuid() != 0, reason="all these tests ran as an ordinary user")
def test_root_is_not_needed(folder, free_port):
    account = accounts.choose()
    for needed in (NOMAFLOW, Path(sys.executable).resolve(), Path(nomaflow.__file__)):
        if not account.can_enter(needed.parent):
            pytest.skip(f"{account.name!r} may not enter {needed.parent}")
    shutil.chown(folder, account.name)
    rights = {"user": account.uid, "group": account.gid, "extra_groups": [], "cwd": "/"}
    with running(folder, "--port", free_port, rights=rights) as up:
        assert {process.uids().real for process in up.family()} == {account.uid}
        up.run_hello()
        assert up.stop() == 0


def test_a_worker_without_a_running_up_is_told_so(folder):
    asked = subprocess.run(
        [NOMAFLOW, "worker", "--home", folder], capture_output=True, text=True, timeout=60
    )
    assert asked.returncode == 2
    assert "No `nomaflow up` is running" in asked.stderr
    assert "Traceback" not in asked.stderr
