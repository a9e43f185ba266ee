"""The supervisor behind `nomaflow up`: opens in order, watches, and closes in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from nomaflow import settings
from nomaflow.cli import database, home, ports, programs
from nomaflow.cli.child import Child
from nomaflow.cli.voice import Installation, Voice, welcome
from nomaflow.embedded.servers import EmbeddedServers
from nomaflow.errors import Code, NomaflowError
from nomaflow.settings import Settings

READY_SECONDS = 60.0
KILL_AFTER_SECONDS = 15.0  # beyond a worker's own drain time
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where this installation is, decided before anything is started."""

    home: Path
    project: Path
    host: str
    port: int
    port_was_moved: bool

    @property
    def url(self) -> str:
        return ports.served_url(self.host, self.port)


async def run(
    *, project: Path | None, home: Path | None, port: int | None, host: str | None
) -> int:
    """Run everything until SIGINT, SIGTERM or SIGHUP; gives the exit status.

    Raises NomaflowError with what to do when something cannot be started.
    """
    configured = Settings.read()
    place = _place(configured, project=project, home_given=home, port=port, host=host)
    return await Supervisor(configured, place).run()


def _place(
    configured: Settings,
    *,
    project: Path | None,
    home_given: Path | None,
    port: int | None,
    host: str | None,
) -> Place:
    folder = (project or configured.project or Path.cwd()).absolute()
    if not folder.is_dir():
        raise NomaflowError(
            Code.NOT_FOUND, f"The project folder {folder} does not exist. Make it, or name another."
        )
    listen = host or configured.host
    asked = port or (configured.port if "port" in configured.model_fields_set else None)
    chosen = ports.choose(listen, asked)
    return Place(
        home=home.choose(home_given or configured.home, folder),
        project=folder,
        host=listen,
        port=chosen,
        port_was_moved=asked is None and chosen != ports.DEFAULT,
    )


class Supervisor:
    """One running `up`."""

    def __init__(self, configured: Settings, place: Place) -> None:
        self._settings = configured
        self._place = place
        self._voice = Voice()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> int:
        self._listen_to_signals()
        with home.locked(self._place.home):
            servers = self._servers()
            try:
                if servers is not None:
                    await self._unless_stopped(servers.start())
                if not self._stop.is_set():
                    await self._serve(servers)
            finally:
                home.forget(self._place.home)
                if servers is not None:
                    await servers.stop()
        self._voice.tell("up", "everything has ended in good order")
        return 0

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def asked_to_stop() -> None:
            (self._hurry if self._stop.is_set() else self._stop).set()

        # SIGINT always: a shell without job control starts its background programs deaf to it.
        # SIGHUP unless nohup said no.
        for wish in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if wish != signal.SIGHUP or signal.getsignal(wish) != signal.SIG_IGN:
                loop.add_signal_handler(wish, asked_to_stop)

    def _servers(self) -> EmbeddedServers | None:
        postgres = self._settings.database_url is None
        valkey = self._settings.redis_url is None
        if not postgres and not valkey:
            return None
        return EmbeddedServers(self._place.home, postgres=postgres, valkey=valkey)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, or give it up when we are asked to end meanwhile."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _serve(self, servers: EmbeddedServers | None) -> None:
        state, token_is_new = self._state(servers)
        await self._unless_stopped(database.migrate(state.database_url))
        if self._stop.is_set():
            return
        state.write(self._place.home)
        children = self._children(state)
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(child.keep_running()) for child in children.values()]
            if servers is not None:
                tell = self._voice.tell
                watching.append(
                    group.create_task(servers.keep_running(lambda line: tell("up", line)))
                )
            greeting = group.create_task(self._greet(state, servers, token_is_new=token_is_new))
            await self._stop.wait()
            greeting.cancel()
            await self._end(children)
            for task in watching:
                task.cancel()

    def _state(self, servers: EmbeddedServers | None) -> tuple[home.State, bool]:
        given, folder = self._settings, self._place.home
        if given.admin_token:
            token, is_new = given.admin_token.get_secret_value(), False
        else:
            token, is_new = home.keep_secret(folder, "admin-token", home.new_admin_token())
        if given.secret_key:
            key = given.secret_key.get_secret_value()
        else:
            key, _ = home.keep_secret(folder, "secret-key", secrets.token_urlsafe(32))
        state = home.State(
            url=self._place.url,
            admin_token=token,
            secret_key=key,
            database_url=(servers and servers.database_url) or given.database,
            redis_url=(servers and servers.redis_url) or given.redis,
            project=str(self._place.project),
            pid=os.getpid(),
        )
        return state, is_new

    def _children(self, state: home.State) -> dict[str, Child]:
        environment = {
            **os.environ,
            **state.environment(),
            "NOMAFLOW_HOME": str(self._place.home),
            "NOMAFLOW_HOST": self._place.host,
            "NOMAFLOW_PORT": str(self._place.port),
            "PYTHONUNBUFFERED": "1",
        }
        if self._settings.log_format == "auto":
            environment["NOMAFLOW_LOG_FORMAT"] = "console"
        return {
            name: Child(name, programs.argv(f"nomaflow_{name}"), environment, self._voice.tell)
            for name in ("api", "scheduler", "worker")
        }

    async def _end(self, children: dict[str, Child]) -> None:
        """First nothing new fires and the worker drains, then the API, which showed it all."""
        self._voice.tell("up", "ending: the worker finishes its steps (Ctrl-C again to hurry)")
        patience = self._settings.drain_seconds + KILL_AFTER_SECONDS
        async with asyncio.TaskGroup() as group:
            for name in ("scheduler", "worker"):
                group.create_task(children[name].stop(patience, self._hurry))
        await children["api"].stop(KILL_AFTER_SECONDS, self._hurry)

    async def _greet(
        self, state: home.State, servers: EmbeddedServers | None, *, token_is_new: bool
    ) -> None:
        waited = await self._until_ready()
        if waited is not None:
            self._voice.tell("up", f"not ready after {READY_SECONDS:g} s: {waited}")
        try:
            loaded, problems = await asyncio.to_thread(_what_is_loaded, self._place.project)
        except Exception as error:  # noqa: BLE001  the welcome must not end the installation
            loaded, problems = "the project folder could not be read", [str(error)]
        self._voice.show(
            welcome(
                Installation(
                    url=self._place.url,
                    graphiql=self._settings.graphiql,
                    home=self._place.home,
                    project=self._place.project,
                    **self._token_facts(state, is_new=token_is_new),
                    servers=_server_facts(servers),
                    loaded=loaded,
                    problems=problems,
                    notes=self._notes(servers),
                )
            )
        )

    def _token_facts(self, state: home.State, *, is_new: bool) -> dict[str, str]:
        if self._settings.admin_token:
            return {"token": "", "token_source": "the one in NOMAFLOW_ADMIN_TOKEN"}
        path = self._place.home / "admin-token"
        if is_new:
            return {"token": state.admin_token, "token_source": f"(shown once; kept in {path})"}
        return {"token": "", "token_source": f"kept in {path}"}

    def _notes(self, servers: EmbeddedServers | None) -> list[str]:
        notes = []
        if self._place.home == home.ROOT_HOME:
            notes.append(
                f"The database's own user cannot enter {self._place.project}, so its data is in "
                f"{home.ROOT_HOME}."
            )
        if servers is not None and servers.copied_to is not None:
            notes.append(
                f"The server programs were copied to {servers.copied_to}, where that user can "
                "read them; `make clean` removes both."
            )
        if self._place.port_was_moved:
            notes.append(f"Port {ports.DEFAULT} is taken; this is the next free one.")
        if self._place.host not in LOOPBACK:
            notes.append(f"The API listens beyond this machine ({self._place.host}).")
        if not self._settings.scheduler_enabled:
            notes.append("NOMAFLOW_SCHEDULER_ENABLED is false: nothing fires by cron.")
        notes += [f"{name} is not a setting of ours." for name in settings.unknown_variables()]
        return notes

    async def _until_ready(self) -> str | None:
        """Wait for 200 from /ready; gives what was still missing when patience ended."""
        answer = "the API does not answer"
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(READY_SECONDS),
                httpx.AsyncClient(trust_env=False, timeout=5.0) as client,
            ):
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        response = await client.get(f"{self._place.url}/ready")
                        if response.is_success:
                            return None
                        answer = f"/ready says {response.status_code} {response.text[:500]}"
                    await asyncio.sleep(0.1)
        return answer


def _server_facts(servers: EmbeddedServers | None) -> str:
    if servers is None:
        return "your own PostgreSQL and Redis"
    return f"embedded {servers.names}, data and logs in the home"


def _what_is_loaded(folder: Path) -> tuple[str, list[str]]:
    from nomaflow.project.folder import Project

    files = Project(folder).read_jobs()
    steps = sum(len(job.spec.steps) for job in files.jobs)
    problems = [f"{p.file}:{p.line}: {p.message}" for p in files.problems]
    if not files.jobs and not problems:
        return "no jobs yet: write a jobs.toml in the project folder", []
    return f"{_counted(len(files.jobs), 'job')}, {_counted(steps, 'step')}", problems


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
