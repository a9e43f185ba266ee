"""A whole project run for real in its own tests: servers, programs, jobs, and what became of them.

    with running(Path("my-project"), env={"SLACK_WEBHOOK_URL": stub.url}) as trial:
        trial.sql("INSERT INTO orders SELECT generate_series(1, 3)")
        run = trial.run("nightly", params={"day": "2026-05-01"})
        assert run.status == "succeeded", run.reason
        assert run.steps["copy-orders"].output["target_rows"] == 3

Clocks do not fire meanwhile. Needs the extra `embedded`; one start takes a few seconds, so share
it among tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from nomaflow.connectors import sql
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.errors import Code, NomaflowError
from nomaflow.outside import address
from nomaflow.outside.address import Address
from nomaflow.store import roles

READY_SECONDS = 120.0
_LOOK_SECONDS = 0.1
_TRIGGER = """mutation ($input: RunTriggerInput!) {
  runTrigger(input: $input) { run { id } errors { message path } } }"""
_RUN = """query ($id: ID!) { run(id: $id) {
  id jobName status reason dryRun params finishedAt
  steps { name type status reason summary output rowsAffected error { type message traceback } }
  logs(first: 1000) { nodes { level step message } } } }"""


@dataclass(frozen=True, slots=True)
class TrialStep:
    """A step of a run that is over; `output` is history's, big values in it are previews."""

    name: str
    type: str
    status: str
    reason: str | None
    summary: str
    output: Mapping[str, Any]
    rows_affected: int | None
    error: str | None
    """The class and the message of what it failed with."""


@dataclass(frozen=True, slots=True)
class TrialRun:
    """A run that is over."""

    id: str
    job: str
    status: str
    """`succeeded`, `partial`, `failed`, `aborted` or `skipped`."""
    reason: str | None
    params: Mapping[str, Any]
    dry_run: bool
    steps: Mapping[str, TrialStep]
    """By name, in order."""
    log: tuple[tuple[str, str], ...]
    """The first 1 000 lines: level and message."""


class Trial:
    """One running installation of a project."""

    def __init__(self, place: Address, home: Path, log: Path) -> None:
        self._place, self._log = place, log
        self.url = place.url
        self.token = place.token
        self.home = home
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {place.token}"}, trust_env=False, timeout=30
        )

    def run(
        self,
        job: str,
        *,
        params: Mapping[str, Any] | None = None,
        step_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        dry_run: bool = False,
        seconds: float = 120,
    ) -> TrialRun:
        """Run a job and wait for its end.

        NomaflowError INVALID when it may not start, in the words of the API; UNAVAILABLE when it
        is not over in time.
        """
        wishes = {
            "job": job,
            "params": dict(params or {}),
            "stepKwargs": {name: dict(given) for name, given in (step_kwargs or {}).items()},
            "dryRun": dry_run,
        }
        answer = self.query(_TRIGGER, input=wishes)["runTrigger"]
        if answer["run"] is None:
            words = "; ".join(error["message"] for error in answer["errors"])
            raise NomaflowError(Code.INVALID, f"job `{job}` may not start: {words}")
        return self._end(answer["run"]["id"], seconds)

    def sql(self, statement: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run one statement on the connector `default`, as a step would; its rows.

        To arrange what a job is to find, and to look at what it did. StepError in the words of the
        database when it refuses.
        """
        state = json.loads((self.home / "state.json").read_text())
        with ThreadPoolExecutor(1) as aside:  # the test may have an event loop of its own
            return aside.submit(asyncio.run, _on_default(state, statement, params)).result()

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """Ask the API anything; NomaflowError with its words when it refuses."""
        body = {"query": text, "variables": variables}
        answer = self._http.post(f"{self.url}/graphql", json=body).json()
        if answer.get("errors"):
            words = "; ".join(error["message"] for error in answer["errors"])
            raise NomaflowError(Code.INVALID, f"the API refused: {words}")
        data: dict[str, Any] = answer["data"]
        return data

    def said(self) -> str:
        """Everything that the programs have written, for a test that fails."""
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """Give the connection back."""
        self._http.close()

    def _end(self, run_id: str, seconds: float) -> TrialRun:
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            run = self.query(_RUN, id=run_id)["run"]
            if run["finishedAt"] is not None:
                return _over(run)
            time.sleep(_LOOK_SECONDS)
        raise NomaflowError(
            Code.UNAVAILABLE, f"run {run_id} is not over after {seconds:g} s: {self.said()[-2000:]}"
        )


@contextlib.contextmanager
def running(project: Path, *, env: Mapping[str, str] | None = None) -> Iterator[Trial]:
    """Start everything on a project folder with data of its own, and end it with the block.

    `env` stands in for the project's `.env`. NomaflowError UNAVAILABLE with what the programs said
    when they do not start.
    """
    home = Path(tempfile.mkdtemp(prefix="nomaflow-trial-"))
    home.chmod(0o711)  # as root the servers are another user, who must pass through it
    log = home / "up.log"
    settings = {name: text for name, text in os.environ.items() if not name.startswith("NOMAFLOW_")}
    settings["NOMAFLOW_SCHEDULER_ENABLED"] = "false"
    if env is not None:
        settings["NOMAFLOW_ENV_FILE"] = str(_env_file(home, env))
    try:
        process = _start(home / "home", project, settings, log)
        try:
            trial = Trial(_ready(process, home / "home", log), home / "home", log)
            with contextlib.closing(trial):
                yield trial
        finally:
            _stop(process)
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _on_default(
    state: Mapping[str, str], statement: str, params: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    url = await roles.default_url(state["database_url"])
    opened = sql.open("default", SqlConnectorSpec(kind="sql", url=url))
    try:
        result = await opened.execute(statement, params)
        return [dict(row) for row in result.rows]
    finally:
        await opened.close()


def _env_file(home: Path, env: Mapping[str, str]) -> Path:
    path = home / "env"
    lines = []
    for name, value in env.items():
        if "'" in value or "\n" in value:
            raise NomaflowError(Code.INVALID, f"the value of {name} holds a quote or a line break")
        lines.append(f"{name}='{value}'\n")
    path.write_text("".join(lines))
    path.chmod(0o600)
    return path


def _start(
    home: Path, project: Path, settings: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from nomaflow.cli.main import main; main()"]
    command += ["up", "--home", str(home), "--project", str(project.resolve())]
    with log.open("wb") as written:
        return subprocess.Popen(
            command,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
        )


def _ready(process: subprocess.Popen[bytes], home: Path, log: Path) -> Address:
    give_up = time.monotonic() + READY_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            place = address.find(home=home, environment={})
            here = (home / "state.json").exists()
            if here and httpx.get(f"{place.url}/ready", trust_env=False).is_success:
                return place
        time.sleep(_LOOK_SECONDS)
    words = log.read_text(errors="replace")[-3000:]
    raise NomaflowError(Code.UNAVAILABLE, f"the project did not start:\n{words}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _over(run: Mapping[str, Any]) -> TrialRun:
    steps = {
        step["name"]: TrialStep(
            name=step["name"],
            type=step["type"],
            status=step["status"].lower(),
            reason=step["reason"],
            summary=step["summary"],
            output=step["output"] or {},
            rows_affected=None if step["rowsAffected"] is None else int(step["rowsAffected"]),
            error=f"{step['error']['type']}: {step['error']['message']}" if step["error"] else None,
        )
        for step in run["steps"]
    }
    return TrialRun(
        id=run["id"],
        job=run["jobName"],
        status=run["status"].lower(),
        reason=run["reason"],
        params=run["params"],
        dry_run=run["dryRun"],
        steps=steps,
        log=tuple((line["level"], line["message"]) for line in run["logs"]["nodes"]),
    )
