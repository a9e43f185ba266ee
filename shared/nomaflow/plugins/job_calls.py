"""`ctx.call_job`: the parameters that go out with a call of another job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nomaflow.errors import StepError
from nomaflow.plugins import values


def parameters(job: object, params: object) -> dict[str, Any]:
    """Return the parameters as JSON holds them; StepError when it cannot, or for no job's name."""
    if not isinstance(job, str) or not job:
        raise StepError(f"call a job by its name, not {job!r:.80}", retryable=False)
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        kind = type(params).__name__
        raise StepError(
            f"the parameters for job `{job}` are a {kind}; give a table of names and values",
            retryable=False,
        )
    written: dict[str, Any] = json.loads(
        values.to_json(dict(params), f"the parameters for job `{job}` hold")
    )
    return written
