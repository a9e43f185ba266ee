"""What `make demo` runs: the three recipes in one project, and the nightly sync before your eyes.

Starts `nomaflow up` with embedded servers, makes the recipes' databases, stands in for Slack and
GitHub, triggers the sync through the API and stays up. `--once` stops everything after the run.
"""

import argparse
import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import asyncpg

from nomaflow import private_files
from nomaflow.cli import home as homes
from nomaflow.embedded import orphans
from nomaflow.errors import NomaflowError

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / ".nomaflow" / "demo"
NOMAFLOW = Path(sys.executable).with_name("nomaflow")
JOB = "reporting-nightly-sync"
READY_SECONDS = 120.0
EQUAL = """SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY id)) FROM {table} AS t"""


def load(path: Path) -> ModuleType:
    """Import a file of a recipe, whose folder is no Python package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def say(line: str = "") -> None:
    print(line, flush=True)


class Demo:
    """One demo from an empty folder to a green run."""

    def __init__(self, folder: Path, home: Path | None, port: int | None) -> None:
        self.project = folder / "project"
        self.project.mkdir(parents=True, exist_ok=True)
        chosen = homes.choose(home, self.project)
        self.home = folder / "home" if chosen.is_relative_to(self.project) else chosen
        self.port = port
        self.log = folder / "up.log"
        self.up: subprocess.Popen[bytes] | None = None
        self.stopped = threading.Event()
        quiet = {"tell": lambda _line: None}
        self.slack = load(HERE / "nightly-sync" / "slack_stub.py").SlackStub(**quiet)
        self.token = f"ghp_{secrets.token_urlsafe(24)}"
        self.github = load(HERE / "hourly-api-pull" / "releases_stub.py").ReleasesStub(self.token)

    def run(self, *, once: bool) -> int:
        """Do it all; gives the exit status."""
        for wish in (signal.SIGINT, signal.SIGTERM):
            signal.signal(wish, lambda *_: self.stopped.set())
        try:
            self._assemble()
            state = self._start()
            asyncio.run(self._fill(state.database_url))
            green = self._follow(state) and asyncio.run(self._compare(state.database_url))
            self._show(state)
            if once or not green:
                return 0 if green else 1
            self._stay()
        except (NomaflowError, Stopped) as end:
            say(f"demo: {end}")
            return 1
        else:
            return 0
        finally:
            self._stop()

    def _assemble(self) -> None:
        """Put the recipes into one project folder, anew each time."""
        if homes.is_running(self.home):
            raise Stopped(f"a Nomaflow already runs on {self.home}; stop it first")
        for recipe in ("hourly-api-pull", "billing"):
            shutil.copytree(HERE / recipe / "plugins", self.project / "plugins", dirs_exist_ok=True)
        jobs = self.project / "jobs"
        jobs.mkdir(exist_ok=True)
        for recipe in ("nightly-sync", "hourly-api-pull"):
            shutil.copy(HERE / recipe / "jobs.toml", jobs / f"{recipe}.toml")
        shutil.copy(HERE / "nightly-sync" / "alerts.toml", self.project)
        connectors = [
            (HERE / recipe / "connectors.toml").read_text(encoding="utf-8")
            for recipe in ("nightly-sync", "hourly-api-pull", "billing")
        ]
        (self.project / "connectors.toml").write_text("\n".join(connectors), encoding="utf-8")
        say(f"Project      {short(self.project)} (the three recipes of examples/)")
        say(f"Data         {short(self.home)}")

    def _start(self) -> homes.State:
        """Start `nomaflow up` and wait until it is ready."""
        command = [str(NOMAFLOW), "up", "--project", str(self.project), "--home", str(self.home)]
        command += ["--port", str(self.port)] if self.port else []
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NOMAFLOW_")}
        with self.log.open("wb") as log:
            self.up = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=orphans.die_with_parent(  # noqa: PLW1509  it only calls prctl(2)
                    signal.SIGTERM
                ),
            )
        say("Starting     PostgreSQL, Valkey, API, scheduler and worker ...")
        began = time.monotonic()
        while time.monotonic() - began < READY_SECONDS:
            self._check()
            try:
                state = homes.State.read(self.home)
                if answers(f"{state.url}/ready"):
                    say(f"Ready        {state.url} after {time.monotonic() - began:.1f} s")
                    return state
            except NomaflowError:  # not yet
                pass
            self.stopped.wait(0.1)
        raise Stopped(f"not ready after {READY_SECONDS:g} s\n{tail(self.log)}")

    def _check(self) -> None:
        if self.stopped.is_set():
            raise Stopped("stopped")
        if self.up and self.up.poll() is not None:
            raise Stopped(f"`nomaflow up` ended with {self.up.returncode}\n{tail(self.log)}")

    async def _fill(self, owner_url: str) -> None:
        """Make the recipes' databases and write the `.env` that leads to them."""
        databases = load(HERE / "databases.py")
        began = time.monotonic()
        urls = {name: await databases.make(owner_url, name) for name in databases.FILLED_BY}
        secrets_of_the_project = {
            "OPS_DB_URL": urls["ops"],
            "REPORTING_DB_URL": urls["reporting"],
            "BILLING_DB_URL": urls["billing"],
            "SLACK_WEBHOOK_URL": self.slack.url("/success"),
            "ON_CALL_WEBHOOK_URL": self.slack.url("/on-call"),
            "GITHUB_API_URL": self.github.url,
            "GITHUB_TOKEN": self.token,
        }
        lines = [f"{name}={value}\n" for name, value in secrets_of_the_project.items()]
        private_files.write(self.project / ".env", "".join(lines))
        seconds = time.monotonic() - began
        say(f"Filled       100 000 customers and 500 000 orders in {seconds:.1f} s")

    def _follow(self, state: homes.State) -> bool:
        """Trigger the sync by the command line, which follows it live; True when it is green."""
        self._check()
        environment = os.environ | {
            "NOMAFLOW_URL": state.url,
            "NOMAFLOW_TOKEN": state.admin_token,
        }
        command = [str(NOMAFLOW), "job", "run", JOB, "--follow"]
        say(f"\n$ nomaflow {' '.join(command[1:])}\n")
        ended = subprocess.run(command, env=environment, check=False)
        self._check()
        said = self.slack.texts("/success")
        say()
        for text in said:
            say(f"Slack heard  {text}")
        for text in self.slack.texts("/on-call"):
            say(f"On-call      {text}")
        return ended.returncode == 0 and len(said) == 1

    async def _compare(self, owner_url: str) -> bool:
        """Check by count and checksum that both tables arrived whole."""
        equal = True
        for table in ("customers", "orders"):
            source = await fingerprint(owner_url, "ops", f"public.{table}")
            target = await fingerprint(owner_url, "reporting", f"reporting.{table}")
            same = source == target
            equal &= same
            verdict = "equal by checksum" if same else f"DIFFERENT: {source} became {target}"
            rows = f"{target[0]:,}".replace(",", " ")
            say(f"Compared     reporting.{table}: {rows} rows, {verdict}")
        return equal

    def _show(self, state: homes.State) -> None:
        """Say where everything is."""
        say(f"""
GraphiQL     {state.url}/graphiql#token={state.admin_token}
GraphQL      {state.url}/graphql
Token        {state.admin_token}
Log          {short(self.log)}
""")

    def _stay(self) -> None:
        nomaflow, home = short(NOMAFLOW), f"--home {short(self.home)}"
        say(f"""\
Next         {nomaflow} job list {home}
             {nomaflow} job run github-releases-tables --follow {home}
             {nomaflow} job run github-releases-hourly --follow {home}

Everything stays up; Ctrl-C ends it.""")
        while not self.stopped.wait(0.5):
            self._check()

    def _stop(self) -> None:
        if self.up and self.up.poll() is None:
            say("Ending       ...")
            self.up.terminate()
            self.up.wait()
        self.slack.close()
        self.github.close()


class Stopped(Exception):
    """The demo cannot go on; the message says why."""


def short(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def answers(url: str) -> bool:
    """Tell whether a GET of that URL is answered with 200."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=5) as response:
            return response.status == 200
    except (URLError, OSError):
        return False


async def fingerprint(owner_url: str, database: str, table: str) -> tuple[int, str]:
    """Count the rows of a table and hash every value in them, in the order of the key."""
    connection = await asyncpg.connect(owner_url, database=database)
    try:
        row = await connection.fetchrow(EQUAL.format(table=table))
    finally:
        await connection.close()
    return row[0], row[1]


def tail(log: Path, lines: int = 30) -> str:
    """The end of a log, for the sentence that says what went wrong."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop everything after the green run")
    parser.add_argument("--folder", type=Path, default=DEMO, help="default: .nomaflow/demo here")
    parser.add_argument("--home", type=Path, help="where data lives; default: in that folder")
    parser.add_argument("--port", type=int, help="port of the API; default: 8080 or the next free")
    options = parser.parse_args()
    demo = Demo(options.folder.absolute(), options.home, options.port)
    return demo.run(once=options.once)


if __name__ == "__main__":
    sys.exit(main())
