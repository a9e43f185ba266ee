"""What a running step knows and reaches, seen from the engine; also the ear of python children."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from nomaflow.connectors.sql import Session
from nomaflow.store import family, logs
from nomaflow_worker import rendering
from nomaflow_worker.called_runs import CalledRuns
from nomaflow_worker.calling import Calling
from nomaflow_worker.ear import Ear
from nomaflow_worker.keeping import RETRIES, Keeper
from nomaflow_worker.sandbox.request import ChildRequest, Limits
from nomaflow_worker.step_log import StepLog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.connectors.http.client import HttpClient
    from nomaflow.connectors.http.connector import HttpPolicy
    from nomaflow.connectors.ldap.connector import LdapSettings
    from nomaflow.connectors.spec import LdapConnectorSpec
    from nomaflow.connectors.sql import SqlConnector
    from nomaflow.steps.base import EarlierStep
    from nomaflow.steps.calls import ChildEnd, JobCall, PythonCall
    from nomaflow.steps.failed_items import DueBatch, FailedItems
    from nomaflow.store.claims import Claimed
    from nomaflow_worker.journal import Journal
    from nomaflow_worker.rendering import Prepared
    from nomaflow_worker.tools import Tools


class Context:
    """One try of one step; `close` gives back every connection it opened."""

    def __init__(
        self,
        tools: Tools,
        claimed: Claimed,
        journal: Journal,
        prepared: Prepared,
        *,
        step: str,
        position: int,
        attempt: int,
        outputs: Mapping[str, EarlierStep],
        timeout_seconds: float,
        policy: HttpPolicy,
        state: Mapping[str, str],
    ) -> None:
        self._tools, self._claimed, self._journal = tools, claimed, journal
        self._position, self._timeout, self._policy = position, timeout_seconds, policy
        self._until = time.monotonic() + timeout_seconds
        self.step, self.attempt, self.outputs, self.state = step, attempt, outputs, state
        self.params = prepared.params
        self.log = StepLog(journal, step)
        self._opened: list[SqlConnector] = []
        self._backends: list[dict[str, Any]] = []
        self._orphans: list[tuple[str, int]] = []
        """Server processes of a child that did not end well."""
        self._notes: set[asyncio.Task[None]] = set()
        self._cancelled = False
        self.proposed: dict[str, str] = {}
        """Moves of watermarks that a function proposed in this try."""
        self._keeper = Keeper(tools, claimed, step, position)

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        return self._claimed.run_id

    @property
    def job(self) -> str:
        """The job's name."""
        return self._claimed.job_name

    @property
    def dry_run(self) -> bool:
        """True: change nothing, say what would be done."""
        return self._claimed.dry_run

    @property
    def trigger(self) -> str:
        """The word of what started the run: cron, user, call_job ..."""
        return self._claimed.trigger

    @property
    def triggered_by(self) -> str:
        """The exact word of history: cron, api, cli:bob ..."""
        return self._claimed.triggered_by

    @property
    def scheduled_for(self) -> datetime | None:
        """The due time, for runs that cron started."""
        return self._claimed.scheduled_for

    @property
    def started_at(self) -> datetime:
        """When the run started, by the database's clock."""
        return self._claimed.started_at

    @property
    def position(self) -> int:
        """The step's place in the chain."""
        return self._position

    @property
    def retries_batches(self) -> bool:
        """True when this run only writes failed batches again."""
        return RETRIES in self._claimed.overrides

    @property
    def log_level(self) -> str:
        """The run's level."""
        return self._claimed.log_level

    @property
    def application(self) -> str:
        """The name a database server shows for this step's connections."""
        return application(self.run_id, self.step)

    def progress(
        self,
        done: int | Mapping[str, Any],
        total: int | None = None,
        unit: str = "rows",
        message: str | None = None,
        **batch: Any,
    ) -> None:
        """Tell how far the step is; a python child hands its whole report as one mapping."""
        state = (
            dict(done)
            if not isinstance(done, int | float)
            else {"done": done, "total": total, "unit": unit, "message": message, **batch}
        )
        self._journal.progress(self._position, state)

    async def sql(self, name: str) -> SqlConnector:
        """Open a SQL connector for this step."""
        await self._tools.connections.look(self._tools.db, [name])
        session = Session(
            application=self.application,
            on_backend_pid=lambda pid: self.backend_pid(name, pid),
        )
        connector = self._tools.connections.sql(name, session)
        self._opened.append(connector)
        return connector

    def http(self, name: str | None) -> HttpClient:
        """The client that this worker's steps share for an HTTP connector, or the plain one."""
        return self._tools.connections.http(name, self._policy, self._tools.secrets.learn)

    def ldap(self, given: str | LdapConnectorSpec) -> LdapSettings:
        """Where a directory is and how to bind to it."""
        if not isinstance(given, str) and given.bind_password:
            self._tools.secrets.learn(given.bind_password)
        return self._tools.connections.ldap(given, self._policy)

    @property
    def seconds_left(self) -> float:
        """How long the step may still take."""
        return max(0.0, self._until - time.monotonic())

    async def checkpoint(self) -> Mapping[str, Any] | None:
        """What an earlier try of this step kept."""
        return await self._keeper.checkpoint()

    async def keep(
        self, state: Mapping[str, Any] | None, failed: Sequence[FailedItems] = ()
    ) -> None:
        """Keep how far the step has come, and what it could not write."""
        await self._keeper.keep(state, failed)

    async def begin_anew(self) -> None:
        """Forget what earlier tries kept."""
        await self._keeper.begin_anew()

    async def due_batches(self) -> Sequence[DueBatch]:
        """The failed batches this run is to write."""
        return await self._keeper.due()

    def is_cancelled(self) -> bool:
        """True once someone asked for the end."""
        return self._cancelled

    def cancel(self) -> None:
        """Remember that the end was asked for."""
        self._cancelled = True

    def backend_pid(self, connector: str, pid: int) -> None:
        """Note a server process, so that whoever runs this step again ends it first."""
        self._backends.append({"connector": connector, "pid": pid, "application": self.application})
        task = asyncio.create_task(self._note_backends())
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def call_python(self, call: PythonCall) -> Any:
        """Run a plugin's function in a guarded child."""
        env = self._tools.env_for(self._claimed)
        request = ChildRequest(
            callable=call.callable,
            run_id=str(self.run_id),
            job=self.job,
            step=self.step,
            kwargs=call.kwargs,
            params=self.params,
            attempt=self.attempt,
            trigger=self.trigger,
            triggered_by=self.triggered_by,
            session_user=_session_user(self.triggered_by),
            scheduled_for=self.scheduled_for,
            dry_run=self.dry_run,
            log_level=self.log_level,
            earlier=self.outputs,
            state=self.state,
            connectors=self._tools.connections.kinds(),
            environ=rendering.environ(self._claimed, env, call.env, self.log),
            limits=Limits(memory_mb=call.memory_mb, cpu_seconds=call.cpu_seconds),
            policy=self._policy,
            rows=call.rows,
        )
        calling = self._calling(in_process=True)
        called_runs = CalledRuns(calling, self.log, self.is_cancelled, dry_run=self.dry_run)
        ear = Ear(self, called_runs)
        try:
            return await self._tools.sandbox.call(request, ear, timeout_seconds=self._timeout)
        except BaseException:
            self._orphans = ear.opened
            raise

    async def call_job(self, call: JobCall) -> ChildEnd:
        """Run a child and wait for its end."""
        return await self._calling().whole(call, self.log, self.is_cancelled)

    async def parents(self) -> list[tuple[str, str]]:
        """The job and the run of each run above this one, the outermost first."""
        above = await self._keeper.insist(lambda: family.above(self._tools.db, self.run_id))
        return [(run.job_name, str(run.run_id)) for run in above]

    async def connector(self, name: str) -> Mapping[str, Any]:
        """Settings for a child that opens its own connection."""
        await self._tools.connections.look(self._tools.db, [name])
        return self._tools.connections.table(name)

    async def close(self) -> None:
        """Give back connections; what was not committed is undone on the server."""
        if self._notes:
            await asyncio.wait(self._notes, timeout=1)
        for connector in self._opened:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(2):
                    await connector.close()
        for name, pid in self._orphans:
            # PostgreSQL notices a dead client within a second; others do not.
            if self._tools.connections.outlives_its_client(name):
                await self._tools.connections.terminate(name, pid, self.application)

    def _calling(self, *, in_process: bool = False) -> Calling:
        tools, position, keeper = self._tools, self._position, self._keeper
        return Calling(tools, self._claimed, position, self.attempt, keeper, in_process=in_process)

    async def _note_backends(self) -> None:
        with contextlib.suppress(OSError, TimeoutError, *self._tools.db.Error):
            await logs.note(
                self._tools.db,
                self.run_id,
                self._claimed.held.fence,
                self._position,
                backends=list(self._backends),
            )


def application(run_id: UUID, step: str) -> str:
    """`nomaflow:<run>:<step>`, as far as PostgreSQL's 63 bytes go."""
    return f"nomaflow:{run_id}:{step}"[:63]


def _session_user(triggered_by: str) -> str:
    """S2's words for who is behind a run: a user's name, `cron`, `api` or `cli`."""
    kind, _, name = triggered_by.partition(":")
    return name if kind == "user" else kind
