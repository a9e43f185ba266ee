"""What `ctx.call_job` of a python step leads to: runs of other jobs, within bounds."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from nomaflow.errors import StepError
from nomaflow.language import template
from nomaflow.steps import call_job
from nomaflow.steps.calls import JobCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nomaflow.steps.base import StepLog
    from nomaflow_worker.calling import Calling

MOST = 1_000
"""Runs that one try of a step may start."""
REHEARSED = "dry run: not started"


class CalledRuns:
    """The runs that the function of one try of one step starts."""

    def __init__(
        self, calling: Calling, log: StepLog, stopped: Callable[[], bool], *, dry_run: bool
    ) -> None:
        self._calling, self._log, self._stopped = calling, log, stopped
        self._dry_run = dry_run
        self._alike: Counter[str] = Counter()

    async def start(
        self, job: str, params: Mapping[str, Any], *, wait: bool, check: bool
    ) -> dict[str, Any]:
        """Start a run of `job` and say how it ended, or without `wait` that it is there.

        In a dry run none is started, but a job or parameters that do not fit are refused all the
        same. StepError when the run cannot start, and with `check` when it did not end well.
        """
        if self._alike.total() >= MOST:
            raise StepError(f"a step starts {MOST} runs at most", retryable=False)
        words = f"{wait} {job} {json.dumps(params, sort_keys=True)}"
        digest = hashlib.sha256(words.encode()).hexdigest()[:16]
        # The same call, the second time: a function that is run again makes the same calls.
        self._alike[digest] += 1
        call = JobCall(
            job,
            template.escape(dict(params)),
            mark=f"{digest}:{self._alike[digest]}",
            detached=not wait,
        )
        if self._dry_run:
            return await self._rehearse(call, params)
        if wait:
            end = await self._calling.whole(call, self._log, self._stopped)
        else:
            end = await self._calling.begin(call, self._log)
        if check:
            call_job.refuse_failed(job, end)
        return call_job.output_of(job, end)

    async def _rehearse(self, call: JobCall, params: Mapping[str, Any]) -> dict[str, Any]:
        await self._calling.rehearse(call)
        said = f"would start job `{call.job}` with {json.dumps(params)}"
        self._log.info(said)
        return {
            "job": call.job,
            "run_id": None,
            "status": "skipped",
            "reason": REHEARSED,
            "rows_affected": None,
            "output": {},
        }
