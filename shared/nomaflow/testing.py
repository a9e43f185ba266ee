"""Running a plugin's function in the plugin's own tests, bound and judged as a step would be.

    ctx = TestContext(
        connectors={"default": "postgresql://localhost/test"},
        outputs={"fetch-releases": {"status": 200, "body": [...]}},
    )
    answer = await call(upsert_releases, ctx, params={"repo": "a/b", "target_connector": "default"})
    assert ctx.log.lines == [("INFO", "upserted 1 releases · 1 new · 0 updated")]

The function runs in the test's own process: no guardian, no limits, and its environment is the
test's. What it sets with `ctx.state.set` is in `ctx.state.proposed`. For a whole job see
`nomaflow.trial`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nomaflow.connectors import spec, sql
from nomaflow.connectors.http import connector as http
from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow.errors import StepError
from nomaflow.plugins import job_calls, values
from nomaflow.plugins.binding import bind
from nomaflow.plugins.http import StepHttp
from nomaflow.plugins.level_log import LevelLog
from nomaflow.plugins.offers import offers
from nomaflow.plugins.state import State
from nomaflow.step_context import CalledRun, EarlierStep, ParentRun
from nomaflow.steps import base


class TestLog(LevelLog):
    """Keeps `(level, message)` in `lines`, and the fields of each in `fields`."""

    __test__ = False

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.fields: list[Mapping[str, Any]] = []

    def write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self.lines.append((level, message))
        self.fields.append(fields)


class TestContext:
    """A `StepContext` for tests.

    `connectors` are databases by URL or APIs by base URL, tables as in connectors.toml, or any
    object of the test's own, handed over as it is. `outputs` are those of the earlier steps, in
    order; an `EarlierStep` (`nomaflow.steps.base`) says one's status as well. `http` replaces
    `ctx.http`. `jobs` are those that `ctx.call_job` finds, each with the output of its runs, or a
    `CalledRun` (`nomaflow.step_context`) that says its status as well; what was called is
    in `called`. Facts of the run can be set as attributes.
    """

    __test__ = False

    def __init__(
        self,
        *,
        connectors: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Mapping[str, Any] | base.EarlierStep] | None = None,
        params: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        http: Any = None,
        jobs: Mapping[str, Mapping[str, Any] | CalledRun] | None = None,
    ) -> None:
        self.run_id = "00000000-0000-7000-8000-000000000000"
        self.job_id = "test-job"
        self.step_name = "test-step"
        self.attempt = 1
        self.trigger = "user"
        self.triggered_by = "user:tester"
        self.session_user = "tester"
        self.scheduled_for: str | None = None
        self.dry_run = dry_run
        self.log_level = "INFO"
        self.params: Mapping[str, Any] = params or {}
        self.state = State(state or {})
        self.log = TestLog()
        self.http: Any = http or StepHttp()
        self.connectors = connectors or {}
        self.jobs = jobs or {}
        self.called: list[tuple[str, Mapping[str, Any]]] = []
        self.parent_chain: Sequence[ParentRun] = ()
        self.reports: list[dict[str, Any]] = []
        self.cancelled = False
        self._opened: dict[str, Any] = {}
        self._steps = {
            name: output
            if isinstance(output, base.EarlierStep)
            else base.EarlierStep(name, "succeeded", output)
            for name, output in (outputs or {}).items()
        }

    @property
    def last_step(self) -> EarlierStep | None:
        """The step just before this one."""
        return next(reversed(self._steps.values()), None)

    @property
    def prev_rows_affected(self) -> int | None:
        return None if self.last_step is None else self.last_step.rows_affected

    async def call_job(
        self,
        job: str,
        params: Mapping[str, Any] | None = None,
        *,
        wait: bool = True,
        check: bool = True,
    ) -> CalledRun:
        given = job_calls.parameters(job, params)
        if job not in self.jobs:
            raise StepError(f"the test gives no job {job!r}", retryable=False)
        if self.dry_run:
            return CalledRun(job, None, "skipped", "dry run: not started", None, {})
        self.called.append((job, given))
        run_id = f"00000000-0000-7000-8000-{len(self.called):012}"
        run = self.jobs[job]
        if not wait:
            return CalledRun(job, run_id, "queued", None, None, {})
        if not isinstance(run, CalledRun):
            return CalledRun(job, run_id, "succeeded", None, None, run)
        if check and run.status not in ("succeeded", "partial"):
            raise StepError(f"run {run.run_id} of job `{job}` {run.status}: {run.reason}")
        return run

    def previous_step(self, name: str) -> EarlierStep:
        if name not in self._steps:
            raise StepError(f"no step {name!r} has run before this one", retryable=False)
        return self._steps[name]

    def get_connector(self, name: str) -> Any:
        if name not in self.connectors:
            raise StepError(f"the test gives no connector {name!r}", retryable=False)
        if name not in self._opened:
            self._opened[name] = _opened(name, self.connectors[name])
        return self._opened[name]

    def progress(
        self,
        done: int,
        total: int | None = None,
        unit: str = "rows",
        message: str | None = None,
        **batch: Any,
    ) -> None:
        report = {"done": done, "total": total, "unit": unit, "message": message, **batch}
        self.reports.append(report)

    def is_cancelled(self) -> bool:
        return self.cancelled

    async def close(self) -> None:
        """Give every connection back."""
        while self._opened:
            _, connector = self._opened.popitem()
            if isinstance(connector, sql.SqlConnector):
                await connector.close()


async def call(
    function: Callable[..., Any],
    ctx: TestContext,
    *,
    kwargs: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> Any:
    """What a later step would read of the function's return value; its exceptions come as they are.

    StepError when the arguments do not fit or the value has no JSON form. Connections are closed
    afterwards.
    """
    name = f"{function.__module__}:{function.__name__}"
    of_the_job, kwargs = ctx.params, kwargs or {}
    ctx.params = {**of_the_job, **(params or {}), **kwargs}
    try:
        bound = bind(
            name,
            function,
            ctx,
            kwargs=kwargs,
            params=ctx.params,
            offers=offers(ctx, kwargs=kwargs, connectors=ctx.connectors, last_step=ctx.last_step),
        )
        if inspect.iscoroutinefunction(function):
            returned = await function(*bound.args, **bound.kwargs)
        else:
            returned = await asyncio.to_thread(function, *bound.args, **bound.kwargs)
            if inspect.isawaitable(returned):
                returned = await returned
    finally:
        ctx.params = of_the_job  # another call of the test begins afresh
        await ctx.close()
    return json.loads(values.to_json(returned, f"{name} returned"))


def _opened(name: str, given: Any) -> Any:
    if isinstance(given, str):
        kind = "http" if given.startswith(("http://", "https://")) else "sql"
        given = {"kind": kind, "url": given}
    if not isinstance(given, Mapping):
        return given
    parsed = spec.parse(given)
    match parsed:
        case spec.SqlConnectorSpec():
            return sql.open(name, parsed)
        case spec.HttpConnectorSpec():
            return StepHttp(http.settings(parsed, HttpPolicy()))
        case _:
            raise StepError(f"connector {name!r} is of kind {parsed.kind}", retryable=False)
