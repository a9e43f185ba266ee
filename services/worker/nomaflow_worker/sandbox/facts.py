"""An exception on its way from one process to another, with the user's part of its traceback."""

from __future__ import annotations

import asyncio
import math
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from nomaflow.errors import Category, Failure, FunctionError, StepError
from nomaflow_worker.sandbox import wire

_WORDS = 8 * 1024
_ENGINE = (Path(__file__).parents[1], Path(traceback.__file__).parent / "asyncio")


def of(
    error: BaseException, plugins: Path | None = None, words: str | None = None
) -> dict[str, Any]:
    """What is sent: the Failure, its traceback cut to the plugins' code and what that called.

    `words` replace the exception's own message.
    """
    failure = Failure.of(error)
    if isinstance(error, asyncio.CancelledError):
        # A function that gives itself up means it: cancelled is not tried again.
        failure = replace(failure, retryable=False)
    message = shortened(words or str(failure.message), _WORDS)
    if plugins is not None:
        failure = replace(failure, traceback=_of_plugins(error, plugins))
    output = error.output if isinstance(error, StepError) else None
    if output is not None and not isinstance(output, dict):
        output = {"output": output}
    return {**_orderly(replace(failure, message=message)).as_json(), "output": output}


def _orderly(failure: Failure) -> Failure:
    """Leave out what a function gave a StepError of its own and is not what it should be."""
    after, status = failure.retry_after, failure.http_status
    return replace(
        failure,
        retryable=bool(failure.retryable),
        category=failure.category if failure.category in get_args(Category) else "error",
        retry_after=after if isinstance(after, int | float) and math.isfinite(after) else None,
        http_status=status if isinstance(status, int) else None,
    )


def shortened(text: str, most: int) -> str:
    """The beginning and the end of a text that is too long, and how long it was."""
    if len(text) <= most:
        return text
    kept = most // 2
    return f"{text[:kept]} [... {len(text)} characters in all ...] {text[-kept:]}"


def as_error(facts: Any) -> FunctionError:
    """What was received; WireError when `of` did not write it."""
    match facts:
        case {
            "type": str(kind),
            "message": str(message),
            "traceback": str() | None as text,
            "retryable": bool(retryable),
            "category": category,
            "retry_after": float() | int() | None as retry_after,
            "http_status": int() | None as http_status,
            "output": dict() | None as output,
        } if category in get_args(Category):
            failure = Failure(kind, message, text, retryable, category, retry_after, http_status)
            return FunctionError(failure, output)
    raise wire.WireError("an error without its facts")


def _of_plugins(error: BaseException, plugins: Path) -> str | None:
    """None for a StepError that the plugins' code did not meet: its sentence is all there is."""
    shown = traceback.TracebackException.from_exception(error, compact=True)
    _cut(shown, plugins, set())
    if isinstance(error, StepError) and not shown.stack:
        return None
    # People know the file as it lies in their project.
    text = "".join(shown.format()).replace(f'File "{plugins.parent}/', 'File "')
    return shortened(text, wire.MOST_TEXT)


def _cut(shown: traceback.TracebackException, plugins: Path, seen: set[int]) -> None:
    """Leave out the frames that led to the plugin, and ours below it."""
    if id(shown) in seen:
        return
    seen.add(id(shown))
    frames = list(shown.stack)
    while frames and not Path(frames[0].filename).is_relative_to(plugins):
        frames.pop(0)
    kept = [frame for frame in frames if not _is_engine(frame.filename)]
    shown.stack = traceback.StackSummary.from_list(kept)
    for other in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        if other is not None:
            _cut(other, plugins, seen)


def _is_engine(filename: str) -> bool:
    return any(Path(filename).is_relative_to(place) for place in _ENGINE)
